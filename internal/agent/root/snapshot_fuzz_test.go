package root

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"strings"
	"testing"

	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/shim"
	"sallyport/internal/guid"
	"sallyport/internal/machine/protocol"
)

// FuzzSnapshot: whatever the snapshot key signed, what is taken is for this
// machine, has its times, and makes nobody who is not one of ours.
func FuzzSnapshot(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		f.Fatal(err)
	}
	id, err := protocol.Thumbprint(key.Public())
	if err != nil {
		f.Fatal(err)
	}
	s := &Service{cfg: Config{Pins: pin.Machine{Tenant: tenant, MachineID: machineID, KeyThumbprint: "machine-key"}}}
	v := view{manifest: protocol.Manifest{Keys: []protocol.Key{{Purpose: protocol.Snapshot, ID: id, Public: der}}}}
	good := `{"tenant":"` + tenant + `","machineId":"` + machineID + `","keyThumbprint":"machine-key","epoch":1,"version":2,"issuedAt":"2026-11-22T12:00:00Z","goodUntil":"2026-11-23T12:00:00Z",
"resourceId":"/x","domains":["corp.example"],"identity":true,"loginEnabled":true,"revision":1,"userStale":1,"adminStale":1,"principals":[{"id":"` + aliceID + `","login":"` + alice + `","uid":1879048200,"access":"admin","notBefore":"2026-11-22T12:00:00Z"}],"revoked":[]}`
	f.Add([]byte(good))
	f.Add([]byte(`{"tenant":"` + tenant + `","principals":[{"login":"root","uid":0}]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		e, err := protocol.Sign(rand.Reader, key, protocol.TypeSnapshot, payload)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := s.verify(e, v)
		if err != nil {
			if string(payload) == good {
				t.Fatal(err)
			}
			return
		}
		if doc.Tenant != tenant || doc.MachineID != machineID || doc.KeyThumbprint != "machine-key" || doc.UserStale <= 0 || doc.AdminStale <= 0 || doc.IssuedAt.IsZero() {
			t.Fatalf("%+v", doc)
		}
		for _, d := range doc.Domains {
			if strings.Trim(d, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || d == "" {
				t.Fatalf("the domain %q", d)
			}
		}
		for name, p := range v.with(doc, nil).people {
			if p.UID < shim.IDMin || p.UID > shim.UIDMax || !guid.Valid(p.ObjectID) || p.LoginName != name || !shim.Ours(name, doc.Domains) {
				t.Fatalf("%+v", p)
			}
		}
	})
}
