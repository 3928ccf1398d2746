//go:build e2e

package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// TestOpenSSH74_KnowsOurCertificates: a person's certificate, as it is issued, has
// a type that OpenSSH 7.4 accepts, no critical option that it does not know (it
// would have to refuse), and its own extensions besides ours, which it skips.
func TestOpenSSH74_KnowsOurCertificates(t *testing.T) {
	list, err := os.ReadFile("../../internal/agent/sshd/testdata/openssh-7.4.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string][]string{}
	for line := range strings.Lines(string(list)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] != "#" {
			known[f[0]] = append(known[f[0]], f[1:]...)
		}
	}
	text, err := os.ReadFile(certificate(t, admin(t)).cert)
	if err != nil {
		t.Fatal(err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		t.Fatal(err)
	}
	cert, ok := public.(*ssh.Certificate)
	if !ok || !slices.Contains(known["key-type"], public.Type()) || !slices.Contains(known["key-type"], cert.SignatureKey.Type()) || cert.Signature.Format != cert.SignatureKey.Type() {
		t.Fatalf("the certificate is a %s, signed by %s", public.Type(), cert.Signature.Format)
	}
	for option := range cert.CriticalOptions {
		if !slices.Contains(known["critical-option"], option) {
			t.Errorf("OpenSSH 7.4 refuses the critical option %s", option)
		}
	}
	for extension := range cert.Extensions {
		if !slices.Contains(known["extension"], extension) && !strings.HasSuffix(extension, "@sallyport") {
			t.Errorf("OpenSSH 7.4 does not know the extension %s", extension)
		}
	}
}
