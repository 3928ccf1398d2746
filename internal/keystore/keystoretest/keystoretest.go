package keystoretest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"testing"

	"sallyport/internal/keystore"
	"sallyport/internal/machine/protocol"
)

// Keys is what the rest of the server needs of a key back end.
type Keys interface {
	Signer(keystore.Purpose) (crypto.Signer, error)
	Public() []crypto.PublicKey
	Hash(label, secret string) []byte
	SignManifest(protocol.Manifest) (protocol.SignedManifest, error)
}

// Run checks a back end. open returns the same keys at every call.
func Run(t *testing.T, open func(t *testing.T) Keys) {
	t.Helper()
	t.Run("every purpose signs with its own key", func(t *testing.T) {
		keys := open(t)
		seen := map[string]bool{}
		for _, p := range keystore.Purposes() {
			signer, err := keys.Signer(p)
			if err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			e, err := protocol.Sign(rand.Reader, signer, "test", []byte(p))
			if err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			if _, err := e.Open(signer.Public(), "test"); err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			if seen[e.KeyID] {
				t.Fatalf("%s: key used for two purposes", p)
			}
			seen[e.KeyID] = true
		}
		if len(keys.Public()) != len(seen) {
			t.Fatalf("Public lists %d keys of %d", len(keys.Public()), len(seen))
		}
	})
	t.Run("keys last", func(t *testing.T) {
		a, b := open(t), open(t)
		for _, p := range keystore.Purposes() {
			x, errX := a.Signer(p)
			y, errY := b.Signer(p)
			if errX != nil || errY != nil {
				t.Fatal(errX, errY)
			}
			eq, ok := x.Public().(interface{ Equal(crypto.PublicKey) bool })
			if !ok || !eq.Equal(y.Public()) {
				t.Fatalf("%s changed between two openings", p)
			}
		}
		if !bytes.Equal(a.Hash("l", "s"), b.Hash("l", "s")) {
			t.Fatal("the hash key changed")
		}
	})
	t.Run("an unknown purpose has no key", func(t *testing.T) {
		if _, err := open(t).Signer("no-such-purpose"); err == nil {
			t.Fatal("a key for nothing")
		}
	})
	t.Run("the hash separates labels", func(t *testing.T) {
		k := open(t)
		if bytes.Equal(k.Hash("ab", "c"), k.Hash("a", "bc")) || len(k.Hash("a", "b")) != 32 {
			t.Fatal("label and secret run into each other")
		}
	})
	t.Run("the manifest lists the five keys and opens under its pin only", func(t *testing.T) {
		k := open(t)
		signed, err := k.SignManifest(protocol.Manifest{Tenant: "t", Domains: []string{"contoso.test"}, URL: "https://h", Epoch: 1, Version: 1})
		if err != nil {
			t.Fatal(err)
		}
		m, err := signed.Open(signed.Envelope.KeyID)
		if err != nil || len(m.Keys) != 5 || len(m.For(protocol.UserCA)) != 1 {
			t.Fatalf("%v, %d keys", err, len(m.Keys))
		}
		if _, err := signed.Open("another"); err == nil {
			t.Fatal("opened under another pin")
		}
	})
}
