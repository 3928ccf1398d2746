//go:build e2e

package operations

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestTLS_SwitchLocksNoMachineOut gives a running deployment a public
// certificate, renews it under another issuer, and takes it away again. A real
// machine and our program go on through all of it: what is granted and taken
// away reaches the machine each time, also after it was restarted.
func TestTLS_SwitchLocksNoMachineOut(t *testing.T) {
	p := newProcess(t, "../../out/sally", "")
	plain := []string{"--lab-socket", labSocket(p)}
	p.arguments = plain
	p.start(t)
	l := newLab(t, p, thisBuild())
	l.settle(t, "pinned")
	scope := l.must(t, "group", "show", "-g", group, "--query", "id", "-o", "tsv")
	goesOn := func(when string) {
		t.Helper()
		for _, id := range strings.Fields(l.must(t, "role", "assignment", "list", "--all", "--query", "[?roleDefinitionName=='Virtual Machine Administrator Login'].id", "-o", "tsv")) {
			l.must(t, "role", "assignment", "delete", "--ids", id)
		}
		if err := until(10*time.Second, func() error {
			if _, _, err := l.ssh("pinned", "true"); err == nil {
				return fmt.Errorf("a role that was taken away still opens the machine")
			}
			return nil
		}); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		l.must(t, "role", "assignment", "create", "--role", "Virtual Machine Administrator Login", "--assignee", adminUPN, "--scope", scope)
		if err := until(10*time.Second, func() error {
			out, errs, err := l.ssh("pinned", "sudo", "whoami")
			if err != nil || out != "root" {
				return fmt.Errorf("%s %s %v", out, errs, err)
			}
			return nil
		}); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	cert, key := p.dir+"/state/tls.pem", p.dir+"/state/tls.key"
	first := publicPair(t, cert, key)
	p.arguments = append(plain, "--tls-certificate", cert, "--tls-key", key)
	p.stop(t)
	p.start(t)
	believes(t, p.url, first, true)
	goesOn("with a public certificate")

	second := publicPair(t, cert, key) // another issuer: the server reads it within ten seconds
	if err := until(15*time.Second, func() error { return dial(p.url, second) }); err != nil {
		t.Errorf("the renewed certificate: %v", err)
	}
	believes(t, p.url, first, false)
	goesOn("after its renewal")

	p.arguments = plain
	p.stop(t)
	p.start(t)
	believes(t, p.url, second, false)
	goesOn("without it again")
}

// publicPair writes a certificate of an issuer of its own, and returns that one.
func publicPair(t *testing.T, certFile, keyFile string) *x509.CertPool {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("chown", fmt.Sprint(serverUID), path+".new").CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(must(x509.ParseCertificate(der)))
	return pool
}

func must[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}

// dial is a browser that believes one issuer.
func dial(url string, roots *x509.CertPool) error {
	c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	res, err := c.Get(url + "/healthz")
	if err != nil {
		return err
	}
	return res.Body.Close()
}

func believes(t *testing.T, url string, roots *x509.CertPool, want bool) {
	t.Helper()
	if err := dial(url, roots); (err == nil) != want {
		t.Errorf("a browser: %v", err)
	}
}
