package cli

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/directory"
)

func marshalPKIX(k crypto.PublicKey) ([]byte, error) { return x509.MarshalPKIXPublicKey(k) }

func TestLogin_Password(t *testing.T) {
	f, p := newFake(t), newPerson(t)
	f.routes["GET /tenants"] = `{"value":[{"tenantId":"` + tenantID + `","defaultDomain":"contoso.test","displayName":"Contoso"}]}`
	p.must("login", "--server", f.address(), "-u", alice, "-p", "secret-1")
	form := f.forms[0]
	for k, want := range map[string]string{"grant_type": "password", "client_id": directory.SallyCLI, "username": alice, "password": "secret-1", "scope": f.web.URL + "/arm/.default offline_access openid profile"} {
		if form.Get(k) != want {
			t.Errorf("%s is %q", k, form.Get(k))
		}
	}
	if out := p.must("account", "show", "--query", "user.name", "--output", "tsv"); out != alice+"\n" {
		t.Errorf("account show: %q", out)
	}
	info, err := os.Stat(filepath.Join(p.dir, "config", "tokens.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("tokens.json: %v %v", info, err)
	}
	want := `[{"cloudName":"AzureCloud","tenantDefaultDomain":"contoso.test","tenantDisplayName":"Contoso","homeTenantId":"` + tenantID + `","id":"` + subID + `","isDefault":true,"managedByTenants":[],"name":"Pay","state":"Enabled","tenantId":"` + tenantID + `","user":{"name":"` + alice + `","type":"user"}}]`
	var got, wanted any
	_ = json.Unmarshal([]byte(p.must("account", "list")), &got)
	_ = json.Unmarshal([]byte(want), &wanted)
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(wanted)
	if string(a) != string(b) {
		t.Errorf("account list\n%s\n%s", a, b)
	}
}

func TestLogin_PasswordFromStandardInput(t *testing.T) {
	f, p := newFake(t), newPerson(t)
	p.stdin = "from-stdin\n"
	p.must("login", "--server", f.address(), "-u", alice)
	if f.forms[0].Get("password") != "from-stdin" {
		t.Errorf("password %q", f.forms[0].Get("password"))
	}
	file := filepath.Join(p.dir, "pw")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.must("login", "-u", alice, "-p", "@"+file)
	if got := f.forms[len(f.forms)-1].Get("password"); got != "from-file" {
		t.Errorf("password %q", got)
	}
}

func TestLogin_Browser(t *testing.T) {
	f, p := newFake(t), newPerson(t)
	page := make(chan string, 1)
	p.browser = func(u string) error {
		go func() {
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // a test's browser
			res, err := client.Get(u)
			if err != nil {
				page <- err.Error()
				return
			}
			defer res.Body.Close()
			b := make([]byte, 4096)
			n, _ := res.Body.Read(b)
			page <- string(b[:n])
		}()
		return nil
	}
	p.must("login", "--server", f.address())
	if got := <-page; !strings.Contains(got, "You can close this window") {
		t.Errorf("page: %s", got)
	}
	form := f.forms[0]
	if form.Get("grant_type") != "authorization_code" || form.Get("code") != "C" || form.Get("code_verifier") == "" || f.code.Get("code_challenge_method") != "S256" ||
		!strings.HasPrefix(f.code.Get("redirect_uri"), "http://localhost:") || f.code.Get("prompt") != "select_account" {
		t.Errorf("form %v authorize %v", form, f.code)
	}
}

func TestLogin_DeviceCodeAndFallback(t *testing.T) {
	f, p := newFake(t), newPerson(t)
	r := p.run("login", "--server", f.address())
	if r.code != 0 || !strings.Contains(r.err, "enter the code ABCD") || f.polls != 3 {
		t.Errorf("%+v, %d polls", r, f.polls)
	}
	p.must("login", "--use-device-code")
}

func TestLogin_ServicePrincipal(t *testing.T) {
	f, p := newFake(t), newPerson(t)
	p.must("login", "--server", f.address(), "--service-principal", "-u", appID, "-p", "s3cret", "--tenant", tenantID)
	if form := f.forms[0]; form.Get("grant_type") != "client_credentials" || form.Get("client_secret") != "s3cret" || form.Get("scope") != f.web.URL+"/arm/.default" {
		t.Errorf("form %v", form)
	}
	if out := p.must("account", "show", "--query", "user.type", "-o", "tsv"); out != "servicePrincipal\n" {
		t.Errorf("type %q", out)
	}
	p.now = p.now.Add(2 * time.Hour)
	f.date = p.now
	p.must("account", "get-access-token")
	if len(f.forms) != 2 || f.forms[1].Get("client_secret") != "s3cret" {
		t.Errorf("no second grant: %v", f.forms)
	}
}

func TestLogin_Sentences(t *testing.T) {
	f, p := newFake(t), newPerson(t)
	p.fails(1, []string{"no server is known", "sally login --server"}, "login", "-u", alice, "-p", "x")
	f.tokenErr["password"] = `{"error":"invalid_grant","error_description":"AADSTS50126: Invalid username or password.","error_codes":[50126]}`
	p.fails(1, []string{"ERROR: AADSTS50126"}, "login", "--server", f.address(), "-u", alice, "-p", "x")
	f.tokenErr["password"] = `{"error":"invalid_grant","error_description":"AADSTS50055: expired.","error_codes":[50055]}`
	p.fails(1, []string{"sally account password change --username " + alice}, "login", "--server", f.address(), "-u", alice, "-p", "x")
	p.fails(1, []string{"AADSTS90002", "contoso.test"}, "login", "--server", f.address(), "-u", alice, "-p", "x", "--tenant", "99999999-1111-4111-8111-111111111111")
	p.fails(1, []string{"--use-device-code"}, "login", "--use-device-code", "-u", "x")
	p.fails(1, []string{"is not a server address"}, "login", "--server", "http://x", "-u", "a", "-p", "b")
}

func TestTrust_NothingIsSentToAnotherServer(t *testing.T) {
	f, p := newFake(t), newPerson(t)
	p.fails(1, []string{"page:ServerNotTrusted.pin"}, "login", "--server", f.web.URL+"#"+strings.Repeat("A", 43), "-u", alice, "-p", "x")
	p.fails(1, []string{"page:ServerNotTrusted.tls"}, "login", "--server", f.web.URL, "-u", alice, "-p", "x")
	if len(f.forms) != 0 {
		t.Errorf("a form was sent: %v", f.forms)
	}
	p.must("login", "--server", f.address(), "-u", alice, "-p", "x")
	// The same address with other keys: another server in its place.
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f.manifest = other
	n := len(f.forms)
	p.fails(1, []string{"thumbprint"}, "login", "-u", alice, "-p", "x")
	if len(f.forms) != n {
		t.Error("a secret was sent to a server with another manifest key")
	}
}

func TestTrust_OlderManifestIsRefused(t *testing.T) {
	f, p := newFake(t), newPerson(t)
	f.version = 5
	p.must("login", "--server", f.address(), "-u", alice, "-p", "x")
	f.version = 4
	p.fails(1, []string{"older than one already seen"}, "login", "-u", alice, "-p", "x")
}

// otherCertificate gives the server a TLS certificate that nobody knows yet.
func (f *fake) otherCertificate(t *testing.T) []byte {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: clock().Add(-time.Hour), NotAfter: clock().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	f.web.TLS.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	f.web.CloseClientConnections()
	return der
}

func TestTrust_TLSFollowsTheManifest(t *testing.T) {
	f, p := signedIn(t)
	f.routes["GET /subscriptions/"+subID+"/resourceGroups"] = `{"value":[]}`
	old := f.web.Certificate().Raw
	fresh := f.otherCertificate(t)
	// Somebody in between has no certificate that the signed list names.
	f.roots, f.log = [][]byte{old}, nil
	p.fails(1, []string{"page:ServerNotTrusted.between"}, "group", "list")
	if len(f.log) != 0 {
		t.Errorf("sent: %v", f.log)
	}
	f.roots, f.version = [][]byte{fresh}, 2
	p.must("group", "list")
	p.must("group", "list")
}

func TestToken_TwoProcessesRenewOnce(t *testing.T) {
	f, p := signedIn(t)
	p.now = p.now.Add(2 * time.Hour)
	f.date = p.now
	p.wait = func(ctx context.Context, d time.Duration) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d / 20):
			return nil
		}
	}
	var wg sync.WaitGroup
	for range 8 {
		q := *p
		wg.Go(func() {
			if r := q.run("account", "get-access-token"); r.code != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
	wg.Wait()
	if len(f.forms) != 2 {
		t.Errorf("%d token requests, want the sign-in and one renewal", len(f.forms))
	}
}

func TestTrust_UnreachableAndClock(t *testing.T) {
	f, p := signedIn(t)
	f.date = clock().Add(-10 * time.Minute)
	p.fails(1, []string{"page:ClockWrong.here", "10m0s ahead of"}, "group", "list")
	p.fails(1, []string{"clock"}, "login", "-u", alice, "-p", "x")
	f.web.Close()
	p.fails(1, []string{"page:ServerUnreachable", f.web.URL}, "group", "list")
}

func TestNoCachedToken(t *testing.T) {
	p := newPerson(t)
	for _, args := range [][]string{{"account", "show"}, {"group", "list"}, {"ssh", "vm", "-n", "a", "-g", "b"}, {"ssh", "vm", "--ip", "10.0.0.1"}, {"account", "get-access-token"}, {"ad", "user", "list"}} {
		p.fails(1, []string{"page:NotSignedIn"}, args...)
	}
}

func TestUsage(t *testing.T) {
	f, p := signedIn(t)
	p.fails(2, []string{"unrecognized arguments: --resorce-group", "--resource-group"}, "vm", "show", "--resorce-group", "x", "-n", "y")
	p.fails(2, []string{"required", "--name/-n"}, "group", "show")
	p.fails(2, []string{"'grop' is misspelled", "group"}, "grop", "list")
	p.fails(2, []string{"unrecognized arguments: extra"}, "group", "list", "extra")
	p.fails(2, []string{"--output"}, "group", "list", "-o", "nonsense")
	p.fails(2, []string{"--query"}, "group", "list", "--query", "[?")
	p.fails(1, []string{"InvalidPath", "not a valid name"}, "group", "show", "-n", "a/../b")
	p.fails(1, []string{"Use --yes"}, "group", "delete", "-n", "RG")
	if len(f.log) > 2 {
		t.Errorf("something was sent: %v", f.log)
	}
}

// TestUsage_CommandsOfOtherPackages: exit code 2 does not depend on who made the
// command.
func TestUsage_CommandsOfOtherPackages(t *testing.T) {
	config := Config{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard, Env: func(string) string { return "" }}
	for words, want := range map[string]int{"lab": 0, "lab statsu": 2, "lab status extra": 2, "lab status": 0, "lab home extra": 2} {
		root, lab := Command(config), &cobra.Command{Use: "lab"}
		home := &cobra.Command{Use: "home", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
		home.AddCommand(&cobra.Command{Use: "list", RunE: func(*cobra.Command, []string) error { return nil }})
		lab.AddCommand(home, &cobra.Command{Use: "status", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return nil }})
		root.AddCommand(lab)
		if got := Run(t.Context(), root, config, strings.Fields(words)); got != want {
			t.Errorf("sally %s: exit %d, want %d", words, got, want)
		}
	}
}

func TestFolder_Unwritable(t *testing.T) {
	f, p := newFake(t), newPerson(t)
	p.env["SALLY_CONFIG_DIR"] = "/proc/nowhere"
	p.fails(1, []string{"page:ConfigFolder", "cannot write /proc/nowhere"}, "login", "--server", f.address(), "-u", alice, "-p", "x")
}

func TestDebug_NoSecrets(t *testing.T) {
	f, p := newFake(t), newPerson(t)
	r := p.run("login", "--debug", "--server", f.address(), "-u", alice, "-p", "secret-1")
	for _, s := range []string{"secret-1", "access-", "refresh-"} {
		if strings.Contains(r.err, s) {
			t.Errorf("--debug shows %q:\n%s", s, r.err)
		}
	}
	if !strings.Contains(r.err, "DEBUG: POST") {
		t.Errorf("--debug shows nothing: %s", r.err)
	}
}

func TestLogoutAndSet(t *testing.T) {
	f, p := signedIn(t)
	f.routes["GET /subscriptions"] = `{"value":[{"subscriptionId":"` + subID + `","displayName":"Pay","state":"Enabled"},{"subscriptionId":"` + appID + `","displayName":"Other","state":"Enabled"}]}`
	p.must("account", "list", "--refresh")
	p.must("account", "set", "-s", "Other")
	if out := p.must("account", "show", "--query", "id", "-o", "tsv"); out != appID+"\n" {
		t.Errorf("current: %q", out)
	}
	p.must("account", "set", "--name", "pay")
	p.fails(1, []string{"page:SubscriptionNotFound"}, "account", "set", "-s", "nope")
	p.must("logout")
	p.fails(1, []string{"sally login"}, "account", "show")
	data, err := os.ReadFile(filepath.Join(p.dir, "config", "tokens.json"))
	if err != nil || strings.Contains(string(data), "refresh-") {
		t.Errorf("a token is left: %v %s", err, data)
	}
	p.fails(1, []string{"page:NoAccount"}, "logout")
}

func TestTenantAccount_FindsSubscriptionLater(t *testing.T) {
	f, p := newFake(t), newPerson(t)
	subscriptions := f.routes["GET /subscriptions"]
	f.routes["GET /subscriptions"] = `{"value":[]}`
	r := p.run("login", "--server", f.address(), "-u", alice, "-p", "x")
	if r.code != 0 || !strings.Contains(r.err, "No subscriptions found") {
		t.Fatalf("%+v", r)
	}
	p.fails(1, []string{"page:NoSubscription"}, "group", "list")
	f.routes["GET /subscriptions"] = subscriptions
	f.routes["GET /subscriptions/"+subID+"/resourceGroups"] = `{"value":[]}`
	p.must("group", "list")
	if out := p.must("account", "show", "--query", "id", "-o", "tsv"); out != subID+"\n" {
		t.Errorf("id %q", out)
	}
}

func TestPasswordChange(t *testing.T) {
	f, p := newFake(t), newPerson(t)
	f.routes["POST /sallyport/v1/password"] = "204 "
	p.must("account", "password", "change", "--server", f.address(), "--username", alice, "--password", "old", "--new-password", "new")
	p.stdin = "old\nnew\n"
	p.must("account", "password", "change", "--server", f.address(), "-u", alice)
	for _, line := range f.log {
		if line != `POST /sallyport/v1/password {"newPassword":"new","password":"old","username":"`+alice+`"}` {
			t.Errorf("sent %s", line)
		}
	}
	f.routes["POST /sallyport/v1/password"] = `400 {"code":"PasswordTooShort","message":"Choose at least 12 characters."}`
	p.stdin = "old\nnew\n"
	p.fails(1, []string{"(PasswordTooShort) Choose at least 12"}, "account", "password", "change", "-u", alice)
}

func TestVersionAndExtension(t *testing.T) {
	p := newPerson(t)
	if out := p.must("--version"); !strings.HasPrefix(out, "sally 1.2.3\n") {
		t.Errorf("--version: %q", out)
	}
	if out := p.must("version", "--query", "extensions.ssh", "-o", "tsv"); out != "1.2.3\n" {
		t.Errorf("version: %q", out)
	}
	p.must("extension", "add", "--name", "ssh")
	p.must("extension", "list")
	if out := p.must("extension", "show", "--name", "ssh", "--query", "version", "-o", "tsv"); out != "1.2.3\n" {
		t.Errorf("extension show: %q", out)
	}
	p.fails(3, []string{"built in"}, "extension", "show", "--name", "aks")
	if out := p.must("completion", "bash"); !strings.Contains(out, "sally") {
		t.Error("no completion")
	}
}
