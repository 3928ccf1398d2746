package sshagent_test

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/keystore/sshagent"
)

const fingerprint = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"

func TestParse_Endpoint(t *testing.T) {
	for _, good := range []string{"ssh-agent:/run/x.sock#" + fingerprint, "ssh-agent:/run/a b/x?owner=7703#" + fingerprint, "ssh-agent:/x?owner=0#" + fingerprint} {
		e, err := sshagent.Parse(good)
		if err != nil || e.String() != good {
			t.Errorf("%q: %v %v", good, e, err)
		}
	}
	for _, bad := range []string{
		"", "/run/x.sock", "ssh-agent:/run/x.sock", "ssh-agent:run/x.sock#" + fingerprint, "ssh-agent:/run/../x.sock#" + fingerprint, "ssh-agent:/run/x/#" + fingerprint,
		"ssh-agent:/run/x.sock#" + fingerprint[7:], "ssh-agent:/run/x.sock#MD5:" + fingerprint[7:], "ssh-agent:/run/x.sock#" + fingerprint + "=", "ssh-agent:/run/x.sock#" + fingerprint[:49],
		"ssh-agent:/run/x.sock?owner=root#" + fingerprint, "ssh-agent:/run/x.sock?owner=-1#" + fingerprint, "ssh-agent:/run/x.sock?owner=007#" + fingerprint, "ssh-agent:/run/x.sock?#" + fingerprint,
		"ssh-agent:/run/x.sock?owner=1&owner=2#" + fingerprint, "ssh-agent:/run/\n#" + fingerprint, "ssh-agent:/" + strings.Repeat("x", 107) + "#" + fingerprint, "pkcs11:/run/x.sock#" + fingerprint,
	} {
		if e, err := sshagent.Parse(bad); err == nil {
			t.Errorf("%q was read as %v", bad, e)
		}
	}
}

func TestMessages_RoundTrip(t *testing.T) {
	q := sshagent.SignRequest{Key: []byte("key"), Data: []byte("data"), Flags: sshagent.FlagRSASHA512}
	if got, err := sshagent.ParseSignRequest(q.Marshal()); err != nil || !bytes.Equal(got.Marshal(), q.Marshal()) {
		t.Error(got, err)
	}
	list := []sshagent.Identity{{Key: []byte("a"), Comment: "b"}, {Key: []byte("c")}}
	if got, err := sshagent.ParseIdentities(sshagent.MarshalIdentities(list)); err != nil || len(got) != 2 || got[0].Comment != "b" || string(got[1].Key) != "c" {
		t.Error(got, err)
	}
	s := &ssh.Signature{Format: "ssh-ed25519", Blob: []byte("blob")}
	if got, err := sshagent.ParseSignature(sshagent.MarshalSignature(s)); err != nil || got.Format != s.Format || !bytes.Equal(got.Blob, s.Blob) {
		t.Error(got, err)
	}
}

// FuzzMessages: no bytes panic, and what is read says what was sent.
func FuzzMessages(f *testing.F) {
	f.Add(sshagent.SignRequest{Key: []byte("key"), Data: []byte("data")}.Marshal())
	f.Add(sshagent.MarshalIdentities([]sshagent.Identity{{Key: []byte("a"), Comment: "b"}}))
	f.Add(sshagent.MarshalSignature(&ssh.Signature{Format: "x", Blob: []byte("y")}))
	f.Add([]byte{sshagent.MsgIdentitiesAnswer, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, m []byte) {
		if q, err := sshagent.ParseSignRequest(m); err == nil && !bytes.Equal(q.Marshal(), m) {
			t.Fatal("sign request")
		}
		if l, err := sshagent.ParseIdentities(m); err == nil && !bytes.Equal(sshagent.MarshalIdentities(l), m) {
			t.Fatal("identities")
		}
		if s, err := sshagent.ParseSignature(m); err == nil && !bytes.Equal(sshagent.MarshalSignature(s), m) {
			t.Fatal("signature")
		}
		if got, err := sshagent.ReadMessage(bytes.NewReader(m)); err == nil {
			var b bytes.Buffer
			if err := sshagent.WriteMessage(&b, got); err != nil || !bytes.HasPrefix(m, b.Bytes()) {
				t.Fatal("framing")
			}
		}
	})
}

// FuzzParse: what is read as an endpoint is written the same way.
func FuzzParse(f *testing.F) {
	f.Add("ssh-agent:/run/x.sock?owner=7#" + fingerprint)
	f.Fuzz(func(t *testing.T, s string) {
		if e, err := sshagent.Parse(s); err == nil && e.String() != s {
			t.Fatalf("%q became %q", s, e)
		}
	})
}
