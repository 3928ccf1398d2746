package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/directory"
	"sallyport/internal/handbooktest"
	"sallyport/internal/machine/protocol"
)

// The identifiers of the fake deployment, after the reference's examples.
const (
	tenantID  = "11111111-1111-4111-8111-111111111111"
	subID     = "22222222-2222-4222-8222-222222222222"
	machineID = "33333333-3333-4333-8333-333333333333"
	aliceID   = "44444444-4444-4444-8444-444444444444"
	appID     = "55555555-5555-4555-8555-555555555555"
	certID    = "66666666-6666-4666-8666-666666666666"
	vmPath    = "/subscriptions/" + subID + "/resourceGroups/RG/providers/Microsoft.Compute/virtualMachines/myVM"
	alice     = "alice@contoso.test"
)

// fake is a server that answers with the shapes of azure-wire-protocol.md,
// written from there and not from our server.
type fake struct {
	t        *testing.T
	web      *httptest.Server
	manifest ed25519.PrivateKey
	userCA   ed25519.PrivateKey
	hostCA   ed25519.PrivateKey
	audit    ed25519.PrivateKey // listed where set

	mu       sync.Mutex
	version  int64
	date     time.Time           // of the Date header; zero: the client's clock
	routes   map[string]string   // "METHOD path" -> body, or "STATUS body"
	queue    map[string][]string // the same, each once and before routes
	log      []string            // "METHOD path?query body"
	forms    []url.Values        // token requests
	tokenErr map[string]string   // grant_type -> error body
	certErr  string              // for token_type=ssh-cert by refresh_token
	changeCA func(*ssh.Certificate)
	issued   int
	polls    int
	roots    [][]byte           // of the manifest; nil: the TLS certificate's
	other    string             // signs in in the place of alice
	bearer   bool               // it knows no certificates
	code     url.Values         // the authorize request
	instead  map[string]string  // the end of a path -> what is answered there in the place of everything else
	named    string             // what the list of keys calls the server; else its address
	stranger ed25519.PrivateKey // signs certificates in the place of userCA
}

func clock() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t, version: 1, routes: map[string]string{}, tokenErr: map[string]string{}}
	for _, k := range []*ed25519.PrivateKey{&f.manifest, &f.userCA, &f.hostCA} {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		*k = key
	}
	f.web = httptest.NewTLSServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.web.Close)
	f.routes["GET /subscriptions"] = `{"value":[{"id":"/subscriptions/` + subID + `","subscriptionId":"` + subID + `","tenantId":"` + tenantID + `","displayName":"Pay","state":"Enabled"}]}`
	f.routes["GET /aliases.json"] = `{"outputs":{"aliases":{"value":{"Linux":{"UbuntuLTS":{"publisher":"Canonical","offer":"UbuntuServer","sku":"18.04-LTS","version":"latest","architecture":"x64"}},"Windows":{}}}}}`
	return f
}

func (f *fake) pin() string { return thumb(f.t, f.manifest) }

func (f *fake) address() string { return f.web.URL + "#" + f.pin() }

func thumb(t *testing.T, k ed25519.PrivateKey) string {
	t.Helper()
	s, err := protocol.Thumbprint(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func publicKey(t *testing.T, p protocol.Purpose, k ed25519.PrivateKey) protocol.Key {
	t.Helper()
	der, err := marshalPKIX(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return protocol.Key{Purpose: p, ID: thumb(t, k), Public: der}
}

func (f *fake) signed() protocol.SignedManifest {
	m := protocol.Manifest{Tenant: tenantID, Domains: []string{"contoso.test"}, URL: cmp.Or(f.named, f.web.URL), Epoch: 1, Version: f.version, IssuedAt: clock(),
		Keys:     []protocol.Key{publicKey(f.t, protocol.UserCA, f.userCA), publicKey(f.t, protocol.HostCA, f.hostCA)},
		TLSRoots: [][]byte{f.web.Certificate().Raw}}
	if f.audit != nil {
		m.Keys = append(m.Keys, publicKey(f.t, protocol.Audit, f.audit))
	}
	if f.roots != nil {
		m.TLSRoots = f.roots
	}
	payload, err := json.Marshal(m)
	if err != nil {
		f.t.Fatal(err)
	}
	e, err := protocol.Sign(rand.Reader, f.manifest, protocol.TypeManifest, payload)
	if err != nil {
		f.t.Fatal(err)
	}
	der, err := marshalPKIX(f.manifest.Public())
	if err != nil {
		f.t.Fatal(err)
	}
	return protocol.SignedManifest{ManifestKey: der, Envelope: e}
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	date := f.date
	if date.IsZero() {
		date = clock()
	}
	w.Header().Set("Date", date.Format(http.TimeFormat))
	body, _ := io.ReadAll(r.Body)
	path := r.URL.Path
	for end, text := range f.instead {
		if strings.HasSuffix(path, end) {
			_, _ = io.WriteString(w, text)
			return
		}
	}
	switch {
	case path == "/.well-known/sallyport/manifest":
		_ = json.NewEncoder(w).Encode(f.signed())
	case strings.HasSuffix(path, "/.well-known/openid-configuration"):
		tenant := strings.Split(path, "/")[1]
		_, _ = fmt.Fprintf(w, `{"issuer":"x","authorization_endpoint":"%[1]s/%[2]s/oauth2/v2.0/authorize","token_endpoint":"%[1]s/%[2]s/oauth2/v2.0/token","device_authorization_endpoint":"%[1]s/%[2]s/oauth2/v2.0/devicecode"}`, f.web.URL, tenant)
	case strings.HasSuffix(path, "/token"):
		form, _ := url.ParseQuery(string(body))
		f.forms = append(f.forms, form)
		f.token(w, form)
	case strings.HasSuffix(path, "/devicecode"):
		_, _ = io.WriteString(w, `{"device_code":"D","user_code":"ABCD","verification_uri":"x","message":"To sign in, use a web browser to open the page x and enter the code ABCD to authenticate.","expires_in":900,"interval":5}`)
	case strings.HasSuffix(path, "/authorize"):
		f.code = r.URL.Query()
		http.Redirect(w, r, f.code.Get("redirect_uri")+"/?"+url.Values{"code": {"C"}, "state": {f.code.Get("state")}}.Encode(), http.StatusFound)
	default:
		f.log = append(f.log, r.Method+" "+r.URL.RequestURI()+" "+string(body))
		f.answer(w, r)
	}
}

func (f *fake) answer(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") == "" && r.URL.Path != "/sallyport/v1/password" && r.URL.Path != "/aliases.json" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	text, ok := f.routes[r.Method+" "+r.URL.Path]
	if q := f.queue[r.Method+" "+r.URL.Path]; len(q) > 0 {
		text, ok, f.queue[r.Method+" "+r.URL.Path] = q[0], true, q[1:]
	}
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprintf(w, `{"error":{"code":"ResourceNotFound","message":"The Resource '%s' was not found."}}`, r.URL.Path)
		return
	}
	status := 200
	if _, err := fmt.Sscanf(text, "%d ", &status); err == nil {
		text = text[4:]
	}
	if link, rest, ok := strings.Cut(text, " "); ok && strings.HasPrefix(link, "async:") {
		w.Header().Set("Azure-AsyncOperation", strings.Replace(link[6:], "~", f.web.URL, 1))
		w.Header().Set("x-ms-retry-after-ms", "100")
		text = rest
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func (f *fake) idToken(nonce string) string {
	who := alice
	if f.other != "" {
		who = f.other
	}
	claims, _ := json.Marshal(map[string]any{"aud": directory.SallyCLI, "oid": aliceID, "tid": tenantID, "preferred_username": who, "nonce": nonce, "exp": clock().Add(time.Hour).Unix(), "sub": aliceID})
	return "e30." + base64.RawURLEncoding.EncodeToString(claims) + ".c2ln"
}

func (f *fake) token(w http.ResponseWriter, form url.Values) {
	grant := form.Get("grant_type")
	refuse := func(text string) { w.WriteHeader(http.StatusBadRequest); _, _ = io.WriteString(w, text) }
	isCert := form.Get("token_type") == "ssh-cert"
	if e := f.tokenErr[grant]; e != "" {
		refuse(e)
		return
	}
	if isCert && grant == "refresh_token" && f.certErr != "" {
		refuse(f.certErr)
		return
	}
	if strings.HasSuffix(grant, "device_code") {
		if f.polls++; f.polls < 3 {
			refuse(`{"error":"authorization_pending","error_description":"AADSTS70016: pending","error_codes":[70016]}`)
			return
		}
	}
	f.issued++
	answer := map[string]any{"token_type": "Bearer", "expires_in": 3599, "access_token": fmt.Sprintf("access-%d", f.issued), "scope": form.Get("scope")}
	if grant != "client_credentials" {
		answer["refresh_token"], answer["id_token"] = fmt.Sprintf("refresh-%d", f.issued), f.idToken(f.code.Get("nonce"))
	}
	if isCert && !f.bearer {
		answer["token_type"] = "ssh-cert"
		answer["access_token"] = f.certificate(form)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (f *fake) certificate(form url.Values) string {
	var jwk struct{ X string }
	if err := json.Unmarshal([]byte(form.Get("req_cnf")), &jwk); err != nil {
		f.t.Error(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(jwk.X)
	if err != nil {
		f.t.Error(err)
	}
	pub, err := ssh.NewPublicKey(ed25519.PublicKey(raw))
	if err != nil {
		f.t.Error(err)
		return ""
	}
	c := &ssh.Certificate{Key: pub, Serial: 1, CertType: ssh.UserCert, KeyId: certID, ValidPrincipals: []string{alice, aliceID},
		ValidAfter: uint64(clock().Add(-5 * time.Minute).Unix()), ValidBefore: uint64(clock().Add(time.Hour).Unix())}
	if form.Get("grant_type") == "client_credentials" {
		c.ValidPrincipals = []string{appID}
	}
	if f.changeCA != nil {
		f.changeCA(c)
	}
	ca := f.userCA
	if f.stranger != nil {
		ca = f.stranger
	}
	signer, err := ssh.NewSignerFromSigner(ca)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := c.SignCert(rand.Reader, signer); err != nil {
		f.t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(c.Marshal())
}

// person is somebody with a configuration folder at a command line.
type person struct {
	t        *testing.T
	dir      string
	env      map[string]string
	stdin    string
	terminal bool
	now      time.Time
	browser  func(string) error
	runs     [][]string
	more     []string // the last run's additions to the environment
	exit     int
	during   func(args []string)
	wait     func(context.Context, time.Duration) error
	change   func(*Config)
}

func newPerson(t *testing.T) *person {
	t.Helper()
	dir := t.TempDir()
	return &person{t: t, dir: dir, now: clock(), env: map[string]string{"HOME": dir, "SALLY_CONFIG_DIR": filepath.Join(dir, "config"), "USER": "alice"}}
}

// dialOwn reaches what a test listens with, and never port 22: there the
// machines of other tests' labs answer, or the sshd of the computer itself.
func dialOwn(ctx context.Context, network, address string) (net.Conn, error) {
	if strings.HasSuffix(address, ":22") {
		return nil, syscall.ECONNREFUSED
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

type outcome struct {
	code     int
	out, err string
}

func (p *person) run(args ...string) outcome {
	p.t.Helper()
	var out, errs bytes.Buffer
	config := Config{
		Stdin: strings.NewReader(p.stdin), Stdout: &out, Stderr: &errs, Env: func(k string) string { return p.env[k] }, IsTerminal: func(any) bool { return p.terminal },
		Now: func() time.Time { return p.now }, Rand: rand.Reader, Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }, Version: "1.2.3", Executable: "/usr/bin/sally",
		OpenBrowser: func(u string) error {
			if p.browser == nil {
				return errNoBrowser
			}
			return p.browser(u)
		},
		Run: func(_ context.Context, program Program) (int, error) {
			p.more = program.Env
			p.runs = append(p.runs, append([]string{filepath.Base(program.Path)}, program.Args...))
			if p.during != nil {
				p.during(program.Args)
			}
			return p.exit, nil
		},
	}
	config.Dial = dialOwn
	if p.wait != nil {
		config.Wait = p.wait
	}
	if p.change != nil {
		p.change(&config)
	}
	code := Run(p.t.Context(), Command(config), config, args)
	return outcome{code, out.String(), errs.String()}
}

func (p *person) must(args ...string) string {
	p.t.Helper()
	r := p.run(args...)
	if r.code != 0 {
		p.t.Fatalf("sally %s: exit %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// fails runs a command that must end so, and say these words; "page:ID" is a
// sentence of docs/troubleshooting.md.
func (p *person) fails(code int, words []string, args ...string) outcome {
	p.t.Helper()
	r := p.run(args...)
	if r.code != code {
		p.t.Errorf("sally %s: exit %d, want %d\n%s%s", strings.Join(args, " "), r.code, code, r.out, r.err)
	}
	for _, w := range words {
		if id, ok := strings.CutPrefix(w, "page:"); ok {
			handbooktest.Said(p.t, r.err, id)
		} else if !strings.Contains(r.err, w) {
			p.t.Errorf("sally %s does not say %q:\n%s", strings.Join(args, " "), w, r.err)
		}
	}
	return r
}

func signedIn(t *testing.T) (*fake, *person) {
	t.Helper()
	f, p := newFake(t), newPerson(t)
	p.must("login", "--server", f.address(), "-u", alice, "-p", "secret-1")
	return f, p
}
