//go:build e2e

package az

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"sallyport/internal/crowdtest"
)

// chromium is a real browser without a window that trusts the server's key.
func chromium(t *testing.T) context.Context {
	t.Helper()
	conn, err := tls.Dial("tcp", theWorld.ip+":443", &tls.Config{ServerName: host, InsecureSkipVerify: true}) //nolint:gosec // az checks the chain; the browser is given this very key
	if err != nil {
		t.Fatal(err)
	}
	spki := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	_ = conn.Close()
	options := append(append([]chromedp.ExecAllocatorOption{}, chromedp.DefaultExecAllocatorOptions[:]...), chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("host-resolver-rules", "MAP "+host+" "+theWorld.ip), chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(spki[:])))
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("chromium (is it installed? run: make deps-tests): %v", err)
	}
	ctx, stop = context.WithTimeout(ctx, crowdtest.Limit(5*time.Minute))
	t.Cleanup(stop)
	return ctx
}

// signIn fills the page that asks for a name and a password.
func (s *somebody) signIn() chromedp.Action[chromedp.Void] {
	return chromedp.Steps(chromedp.SetValue("#username", s.name), chromedp.SendKeys("#password", s.password+"\n"))
}

// TestLogin_Browser: az opens a real browser, a person signs in there, and az has
// the tokens.
func TestLogin_Browser(t *testing.T) {
	t.Parallel()
	s := user(t, "browsing")
	s.must(t, "account", "clear")
	opened := s.config + "/opened"
	script := s.config + "/browser"
	if err := os.WriteFile(script, []byte("#!/bin/sh\nprintf %s \"$1\" >"+opened+".new && mv "+opened+".new "+opened+"\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	s.env = append(s.env, "BROWSER="+script+" %s &")
	done := make(chan result, 1)
	go func() { done <- s.az("login", "--allow-no-subscriptions") }()
	page := waitFile(t, opened, done)
	ctx := chromium(t)
	if err := chromedp.Do(ctx, chromedp.Navigate(page), s.signIn(), chromedp.WaitNotPresent("#password")); err != nil {
		t.Fatalf("browser: %v", err)
	}
	if r := <-done; r.code != 0 || !strings.Contains(r.out, s.name) {
		t.Fatalf("az login: %s", r)
	}
	if who := s.must(t, "ad", "signed-in-user", "show", "--query", "userPrincipalName", "-o", "tsv"); who != s.name {
		t.Fatalf("signed in as %q", who)
	}
}

// waitFile waits for a file that a program writes which is not over yet.
func waitFile(t *testing.T, path string, done <-chan result) string {
	t.Helper()
	for limit := time.After(crowdtest.Limit(time.Minute)); ; {
		if text, err := os.ReadFile(path); err == nil {
			return string(text)
		}
		select {
		case r := <-done:
			t.Fatalf("ended without %s: %s", path, r)
		case <-limit:
			t.Fatalf("%s does not come", path)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestLogin_DeviceCode: az prints a code, a person types it into a page.
func TestLogin_DeviceCode(t *testing.T) {
	t.Parallel()
	s := user(t, "device")
	s.must(t, "account", "clear")
	cmd := s.command("az", "login", "--use-device-code", "--allow-no-subscriptions")
	shown, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	words := regexp.MustCompile(`open the page (https://\S+) and enter the code (\S+) to`)
	var m []string
	for lines := bufio.NewScanner(shown); m == nil && lines.Scan(); {
		m = words.FindStringSubmatch(lines.Text())
	}
	if m == nil {
		t.Fatal("az shows no code")
	}
	ctx := chromium(t)
	if err := chromedp.Do(ctx, chromedp.Navigate(m[1]), chromedp.SendKeys("#code", m[2]+"\n"), s.signIn(), chromedp.Click(`button[value="approve"]`), chromedp.WaitNotPresent(`button[value="approve"]`)); err != nil {
		t.Fatalf("browser: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if who := s.must(t, "account", "show", "--query", "user.name", "-o", "tsv"); who != s.name {
		t.Fatalf("signed in as %q", who)
	}
}

// TestLogin_Password: right, wrong, and what az account says of it.
func TestLogin_Password(t *testing.T) {
	t.Parallel()
	s := user(t, "alice")
	s.must(t, "account", "clear")
	s.fails(t, 1, []string{"AADSTS50126"}, "login", "-u", s.name, "-p", "Wrong-Password-17-Here", "--allow-no-subscriptions")
	s.fails(t, 1, []string{"No subscriptions found for " + s.name}, "login", "-u", s.name, "-p", s.password)
	s.must(t, "login", "-u", s.name, "-p", s.password, "--allow-no-subscriptions")
	shown := s.answer(t, "account", "show")
	if text(shown, "user", "name") != s.name || text(shown, "tenantId") != theWorld.tenant || text(shown, "environmentName") != "AzureCloud" {
		t.Errorf("account show: %v", shown)
	}
	token := s.answer(t, "account", "get-access-token")
	if text(token, "tenant") != theWorld.tenant || strings.Count(text(token, "accessToken"), ".") != 2 || text(token, "tokenType") != "Bearer" {
		t.Errorf("get-access-token: %v", at(token, "expiresOn"))
	}
	a := admin()
	if name := a.must(t, "account", "list", "--query", "[0].name", "-o", "tsv"); name != "Sallyport" {
		t.Errorf("account list: %q", name)
	}
	a.must(t, "account", "set", "--subscription", "Sallyport")
	if places := a.must(t, "account", "list-locations", "--query", "[].name", "-o", "tsv"); !strings.Contains(places, place) {
		t.Errorf("list-locations: %s", places)
	}
}

// TestLogin_ServicePrincipal: with a secret, and with a certificate.
func TestLogin_ServicePrincipal(t *testing.T) {
	t.Parallel()
	a := admin()
	made := a.answer(t, "ad", "sp", "create-for-rbac", "--name", "robot", "--role", "Reader", "--scopes", "/subscriptions/"+a.must(t, "account", "show", "--query", "id", "-o", "tsv"))
	id := text(made, "appId")
	s := setUp(t, "robot", id, text(made, "password"))
	login := []string{"login", "--service-principal", "-u", id, "--tenant", theWorld.tenant}
	s.fails(t, 1, []string{"AADSTS7000215"}, append(login, "-p", "wrong")...)
	s.must(t, append(login, "-p", s.password)...)
	if got := s.must(t, "group", "show", "-n", group, "--query", "name", "-o", "tsv"); got != group {
		t.Errorf("group show: %q", got)
	}
	s.fails(t, 1, []string{"AuthorizationFailed"}, "group", "create", "-n", "not-mine", "-l", place)
	file, public := certificate(t, s.config)
	a.must(t, "ad", "app", "credential", "reset", "--id", id, "--append", "--cert", "@"+public)
	s.must(t, "account", "clear")
	s.must(t, append(login, "--certificate", file)...)
	if kind := s.must(t, "account", "show", "--query", "user.type", "-o", "tsv"); kind != "servicePrincipal" {
		t.Errorf("user.type: %q", kind)
	}
}

// certificate writes a key with its certificate, as az login wants it, and the
// certificate alone, as az ad wants it.
func certificate(t *testing.T, folder string) (both, public string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "robot"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	both, public = folder+"/both.pem", folder+"/public.pem"
	for path, data := range map[string][]byte{both: append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), cert...), public: cert} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return both, public
}

// TestLogin_Debian: Debian 12's own azure-cli, with the set-up that is printed for
// it, signs in and reads.
func TestLogin_Debian(t *testing.T) {
	t.Parallel()
	s := theWorld.somebody("debian", adminUPN, adminPass)
	s.env[0] = "PATH=/usr/bin:/bin"
	if err := s.setUp("--debian"); err != nil {
		t.Fatal(err)
	}
	if v := s.must(t, "version", "--query", `"azure-cli"`, "-o", "tsv"); v != "2.45.0" {
		t.Fatalf("Debian's azure-cli is %s", v)
	}
	s.must(t, "login", "-u", s.name, "-p", s.password)
	if got := s.must(t, "group", "show", "-n", group, "--query", "location", "-o", "tsv"); got != place {
		t.Errorf("group show: %q", got)
	}
	if got := s.must(t, "ad", "signed-in-user", "show", "--query", "userPrincipalName", "-o", "tsv"); got != adminUPN {
		t.Errorf("signed-in-user: %q", got)
	}
	s.must(t, "vm", "list")
}
