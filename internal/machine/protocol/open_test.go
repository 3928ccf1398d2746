package protocol

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"testing"
)

// FuzzManifestOpen: a payload that the pinned key signed may still be anything;
// what passes has the fields and keys that readers rely on.
func FuzzManifestOpen(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		f.Fatal(err)
	}
	pin, err := Thumbprint(key.Public())
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(Manifest{Tenant: "t", Domains: []string{"a.example"}, URL: "https://a.example", Epoch: 1, Version: 1, Keys: []Key{{UserCA, pin, der}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"tenant":"t","keys":[{}]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		e, err := Sign(nil, key, TypeManifest, payload)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Open(key.Public(), TypeSnapshot); err == nil {
			t.Fatal("a manifest passed as a snapshot")
		}
		m, err := SignedManifest{ManifestKey: der, Envelope: e}.Open(pin)
		if err != nil {
			return
		}
		if m.Tenant == "" || len(m.Domains) == 0 || m.Epoch < 1 || m.Version < 1 {
			t.Fatalf("%+v", m)
		}
		n := 0
		for _, p := range []Purpose{UserCA, HostCA, Token, Snapshot, Audit} {
			n += len(m.For(p))
		}
		if n > len(m.Keys) {
			t.Fatalf("%d keys of %d", n, len(m.Keys))
		}
	})
}
