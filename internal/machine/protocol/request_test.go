package protocol

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func requestFixture(t testing.TB) (ManifestRequest, string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	id, err := Thumbprint(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	m := Manifest{Tenant: "t", Domains: []string{"a.example"}, URL: "https://a.example", Epoch: 2, Version: 7, IssuedAt: time.Unix(1_800_000_000, 0).UTC(), Keys: []Key{{UserCA, id, der}}}
	signed, err := SignManifest(rand.Reader, key, m)
	if err != nil {
		t.Fatal(err)
	}
	m.Version++
	return ManifestRequest{Current: signed, Next: m}, id
}

// Only a list that may follow the one in force, which the pinned key has signed,
// is shown to be signed.
func TestManifestRequest_Check(t *testing.T) {
	for name, change := range map[string]func(*ManifestRequest){
		"another tenant": func(r *ManifestRequest) { r.Next.Tenant = "x" }, "the same version": func(r *ManifestRequest) { r.Next.Version-- },
		"an older epoch": func(r *ManifestRequest) { r.Next.Epoch-- }, "no keys' names": func(r *ManifestRequest) { r.Next.Keys = []Key{{UserCA, "x", nil}} },
		"an altered list in force": func(r *ManifestRequest) { r.Current.Envelope.Payload[5] ^= 1 }, "no URL": func(r *ManifestRequest) { r.Next.URL = "" },
	} {
		r, pin := requestFixture(t)
		if _, err := r.Check(pin); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Check("x"); err == nil {
			t.Error("another key's request passes")
		}
		change(&r)
		if _, err := r.Check(pin); err == nil {
			t.Errorf("%s: passes", name)
		}
	}
}

// What a person is shown names every difference.
func TestChanges_NamesEverything(t *testing.T) {
	r, id := requestFixture(t)
	old, err := r.Check(id)
	if err != nil {
		t.Fatal(err)
	}
	next := r.Next
	next.Domains, next.URL, next.Epoch, next.TLSRoots = []string{"b.example"}, "https://b.example", 9, [][]byte{{1}}
	next.Keys = []Key{{Compromised, id, old.Keys[0].Public}}
	lines := Changes(old, next)
	for _, want := range []string{"domains: a.example -> b.example", "url: https://a.example -> https://b.example", "version: 7 -> 8", "- user-ca key " + id, "+ compromised key " + id} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is not in %q", want, lines)
		}
	}
	if text := strings.Join(lines, "\n"); !strings.Contains(text, "epoch: 2 -> 9 (a backup was restored") || !strings.Contains(text, "+ TLS root with SHA-256 4bf5") {
		t.Errorf("%s", text)
	}
}

// A key that is called compromised is none, whatever else it is called.
func TestManifest_CompromisedCountsForNothing(t *testing.T) {
	r, id := requestFixture(t)
	m := r.Next
	m.Keys = append(m.Keys, Key{Compromised, id, m.Keys[0].Public})
	if len(m.For(UserCA)) != 0 || m.Lists(UserCA, id) || !m.Withdrawn(id) {
		t.Fatal("still trusted")
	}
}

// FuzzManifestRequest: the file comes from a server that may be anybody's by now.
func FuzzManifestRequest(f *testing.F) {
	good, pin := requestFixture(f)
	text, err := json.Marshal(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"current":{},"next":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r ManifestRequest
		if Decode(data, &r) != nil {
			return
		}
		old, err := r.Check(pin)
		if err != nil {
			return
		}
		if old.Tenant != r.Next.Tenant || !r.Next.Newer(old) || r.Next.Epoch == old.Epoch && r.Next.Version == old.Version {
			t.Fatalf("%+v", r)
		}
		Changes(old, r.Next)
	})
}
