package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A certificate takes the place of secrets and certificates, unless they are kept; the
// key beside it in the file is not sent.
func TestCredentialReset_Certificate(t *testing.T) {
	f, p := signedIn(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "both.pem")
	both := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	if err := os.WriteFile(file, both, 0o600); err != nil {
		t.Fatal(err)
	}
	sp := `"id":"sp-object","appId":"` + appID + `","keyCredentials":[{"keyId":"k1"}],"passwordCredentials":[{"keyId":"old"}]`
	f.routes["GET /v1.0/servicePrincipals"] = `{"value":[{"id":"sp-object","appId":"` + appID + `","keyCredentials":[],"passwordCredentials":[]}]}` // a list has none
	f.routes["GET /v1.0/servicePrincipals/sp-object"] = `{` + sp + `}`
	f.routes["GET /v1.0/applications"] = `{"value":[{"id":"app-object","appId":"` + appID + `","keyCredentials":[{"keyId":"k0"}],"passwordCredentials":[{"keyId":"older"}]}]}`
	f.routes["PATCH /v1.0/applications/app-object"], f.routes["POST /v1.0/applications/app-object/removePassword"] = "204 ", "204 "
	f.routes["PATCH /v1.0/servicePrincipals/sp-object"] = "204 "
	f.routes["POST /v1.0/servicePrincipals/sp-object/removePassword"] = "204 "
	raw := base64.StdEncoding.EncodeToString(der)
	for _, given := range []string{"@" + file, raw} {
		f.log = nil
		if out := p.must("ad", "sp", "credential", "reset", "--id", appID, "--cert", given, "--query", "[appId, password]", "-o", "tsv"); strings.Fields(out)[0] != appID {
			t.Errorf("out %q", out)
		}
		sent := strings.Join(f.log, "\n")
		if !strings.Contains(sent, `"key":"`+raw+`"`) || strings.Contains(sent, "k1") || strings.Contains(sent, base64.StdEncoding.EncodeToString(secret)) || strings.Count(sent, "PATCH /v1.0/servicePrincipals") != 1 {
			t.Errorf("sent %s", sent)
		}
		// What the application has proves the service principal, too.
		for _, ended := range []string{`sp-object/removePassword {"keyId":"old"}`, `app-object/removePassword {"keyId":"older"}`, `PATCH /v1.0/applications/app-object {"keyCredentials":[]}`} {
			if !strings.Contains(sent, ended) {
				t.Errorf("not ended: %s", ended)
			}
		}
	}
	f.log = nil
	p.must("ad", "sp", "credential", "reset", "--id", appID, "--cert", raw, "--append")
	if sent := strings.Join(f.log, "\n"); !strings.Contains(sent, `[{"keyId":"k1"},{`) || strings.Contains(sent, "removePassword") || strings.Contains(sent, "PATCH /v1.0/applications") {
		t.Errorf("sent %s", sent)
	}
	p.fails(2, []string{"--cert"}, "ad", "sp", "credential", "reset", "--id", appID, "--cert=garbage")
	for says, c := range map[string]*x509.Certificate{
		"Certificate expires 20":         {SerialNumber: big.NewInt(2), NotBefore: clock().Add(-time.Hour), NotAfter: clock().AddDate(0, 1, 0)},
		"Certificate is not valid until": {SerialNumber: big.NewInt(3), NotBefore: clock().Add(time.Hour), NotAfter: clock().AddDate(5, 1, 0)},
	} {
		der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		f.log = nil
		r := p.run("ad", "sp", "credential", "reset", "--id", appID, "--append", "--cert", base64.StdEncoding.EncodeToString(der))
		start, end := c.NotBefore.Add(time.Second).UTC().Format(time.RFC3339), c.NotAfter.Add(-time.Second).UTC().Format(time.RFC3339)
		if sent := strings.Join(f.log, ""); r.code != 0 || !strings.Contains(r.err, says) || !strings.Contains(sent, start) && !strings.Contains(sent, end) {
			t.Errorf("%v\n%s", r, sent)
		}
	}
	for _, wrong := range []string{"AAAA", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ""} {
		p.fails(1, []string{"--cert"}, "ad", "sp", "credential", "reset", "--id", appID, "--cert="+wrong)
	}
}
