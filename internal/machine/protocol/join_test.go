package protocol

import (
	"strings"
	"testing"
)

func TestJoinToken_RoundTrip(t *testing.T) {
	want := JoinToken{URL: "https://server.example:8443", Pin: strings.Repeat("A", 43), Secret: strings.Repeat("_", 43)}
	got, err := ParseJoinToken(" " + want.String() + "\n")
	if err != nil || got != want {
		t.Fatal(got, err)
	}
	if strings.Trim(want.String(), base64Alphabet+".~:/#") != "" {
		t.Fatal("the token leaves its alphabet")
	}
}

func TestParseJoinToken_Refuses(t *testing.T) {
	pin, secret := strings.Repeat("A", 43), strings.Repeat("B", 43)
	for _, text := range []string{"", "x", "https://s.example#" + pin, "http://s.example#" + pin + "#" + secret, "https://#" + pin + "#" + secret, "https://u@s.example#" + pin + "#" + secret,
		"https://s.example?x#" + pin + "#" + secret, "https://s.example#" + pin[1:] + "#" + secret, "https://s.example#" + pin + "#" + secret + "#", "https://s.example#" + pin + "#" + secret[1:] + "!",
		"https://s.exa mple#" + pin + "#" + secret, "https://s.example/" + strings.Repeat("x", 2100) + "#" + pin + "#" + secret} {
		if got, err := ParseJoinToken(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("the error holds the secret")
		}
	}
}

func FuzzParseJoinToken(f *testing.F) {
	f.Add("https://s.example#" + strings.Repeat("A", 43) + "#" + strings.Repeat("B", 43))
	f.Add("##")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := ParseJoinToken(text); err == nil {
			if again, err := ParseJoinToken(got.String()); err != nil || again != got {
				t.Fatalf("%q: %+v %v", text, again, err)
			}
		}
	})
}

// FuzzOpenSnapshot: bytes that no listed key signed are never a snapshot.
func FuzzOpenSnapshot(f *testing.F) {
	f.Add([]byte(`{"tenant":"t"}`), []byte("sig"), "key")
	f.Fuzz(func(t *testing.T, payload, sig []byte, key string) {
		if _, err := OpenSnapshot(Envelope{PayloadType: TypeSnapshot, Payload: payload, KeyID: key, Signature: sig}, nil); err == nil {
			t.Fatal("opened without a key")
		}
		var d SnapshotDocument
		_ = Decode(payload, &d)
		var m Manifest
		_ = Decode(payload, &m)
		var s SignedManifest
		_ = Decode(payload, &s)
		_, _ = s.Open("pin")
	})
}
