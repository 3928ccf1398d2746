package oauth_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/cloud"
	"sallyport/internal/conditional"
	"sallyport/internal/credential"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	edge "sallyport/internal/httpd/oauth"
	pages "sallyport/internal/httpd/signin"
	"sallyport/internal/keystore"
	"sallyport/internal/keystore/keystoretest"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/oauth"
	"sallyport/internal/oauth/token"
	"sallyport/internal/route"
	"sallyport/internal/signin"
	"sallyport/internal/sshca"
	"sallyport/internal/store"
	"sallyport/internal/store/storetest"
)

const (
	publicURL = "https://localhost:18443" // as in the recording
	armScope  = publicURL + "/arm/.default offline_access openid profile"
	sshScope  = "https://pas.windows.net/CheckMyAccess/Linux/.default offline_access openid profile"
	password  = "correct horse battery"
)

// world is a whole directory on a store of its own, behind TLS.
type world struct {
	t         testing.TB
	mu        sync.Mutex
	at        time.Time
	store     *store.Store
	index     *directory.Index
	people    *directory.Service
	creds     *credential.Service
	oauth     *oauth.Service
	issuer    *sshca.Issuer
	keys      *keystore.Store
	tokens    *token.Keys
	policies  []conditional.Policy
	settings  *oauth.SettingsIndex
	revoked   *sshca.Revocations
	alice     directory.User
	server    *httptest.Server
	admin     audit.By
	broken    atomic.Bool // the store takes no writes
	strangers atomic.Bool // nobody has a directory role
	allowed   func(audit.By) error
	turns     atomic.Int64
	turn      func() // called before the write at which turns comes to 0
	gate      func(principal string, certificate bool) error
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = w.at.Add(d)
}

// everybody is the authority of a directory where everybody may everything, but
// for alice.
type everybody struct{ w *world }

func (e everybody) May(by audit.By, _ string) bool {
	return by.Principal != e.w.alice.ID && !e.w.strangers.Load()
}
func (everybody) Client(audit.By, string) bool             { return true }
func (everybody) CoversPermission(audit.By, string) error  { return nil }
func (everybody) Covers(audit.By, []string) error          { return nil }
func (everybody) MayChangeGroups(audit.By, []string) error { return nil }
func (w *world) Bearer(_ context.Context, text string, s route.Surface, at time.Time) (audit.By, error) {
	r := oauth.ARM
	switch s {
	case route.Graph:
		r = oauth.Graph
	case route.OAuth:
		r = oauth.Own
	}
	return w.oauth.Authenticate(text, r, at)
}
func (w *world) Machine(context.Context, string) (audit.By, error) { return audit.By{}, io.EOF }
func (w *world) SignedManifest(context.Context) (protocol.SignedManifest, error) {
	return w.keys.SignManifest(protocol.Manifest{Tenant: w.oauth.TenantID(), Domains: []string{"contoso.test"}, URL: publicURL, Epoch: 1, Version: 1})
}

// write runs a domain's transaction and lets the index see its effects.
func write[T any](w *world) func(context.Context, func(T) error) error {
	return func(ctx context.Context, f func(T) error) error {
		if w.broken.Load() {
			return fault.New(fault.Unavailable, "StoreUnavailable", "the server could not store the change")
		}
		before := w.store.Position()
		err := w.store.Write(ctx, func(tx *store.Tx) error { return f(any(tx).(T)) })
		if err == nil && w.store.Position() != before {
			return w.store.Read(ctx, func(tx *store.Tx) error {
				return errors.Join(w.index.Load(tx), w.settings.Load(tx), w.revoked.Load(tx))
			})
		}
		return err
	}
}

func (w *world) allow(by audit.By) error {
	if w.allowed == nil {
		return nil
	}
	return w.allowed(by)
}

// interleaved lets a test do something right before one write of oauth.
func (w *world) interleaved(write func(context.Context, func(oauth.Tx) error) error) func(context.Context, func(oauth.Tx) error) error {
	return func(ctx context.Context, f func(oauth.Tx) error) error {
		if w.turns.Add(-1) == 0 {
			w.turn()
		}
		return write(ctx, f)
	}
}

// before arranges that do runs right before the nth write from now.
func (w *world) before(nth int64, do func()) {
	w.turn = do
	w.turns.Store(nth)
}

func read[T any](w *world) func(context.Context, func(T) error) error {
	return func(ctx context.Context, f func(T) error) error {
		return w.store.Read(ctx, func(tx *store.Tx) error { return f(any(tx).(T)) })
	}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldIn(t, cloud.Global)
}

// newWorldIn is a deployment that is of one of Azure's clouds.
func newWorldIn(t testing.TB, of string) *world {
	t.Helper()
	w := &world{t: t, at: time.Date(2026, 11, 22, 12, 0, 0, 123000, time.UTC)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	w.store, err = store.Open(t.Context(), storePlace(t, w.now))
	must(err)
	t.Cleanup(func() { _ = w.store.Close() })
	w.keys = keystoretest.Open(t, filepath.Join(t.TempDir(), "keys"))
	w.index, w.settings, w.revoked = directory.NewIndex(), oauth.NewSettingsIndex(), sshca.NewRevocations()
	w.people = directory.NewService(directory.Config{Write: write[directory.Tx](w), Index: w.index, Authority: everybody{w}, Rand: rand.Reader})
	w.creds, err = credential.NewService(credential.Config{Write: write[credential.Tx](w), Read: read[credential.Tx](w), Directory: w.people,
		Slots: credential.NewFairSlots(2), Rand: rand.Reader, Key: w.keys.Hash("credential", ""), Cost: credential.Cost{MemoryKiB: 64, Passes: 1, Lanes: 1}})
	must(err)
	w.admin = audit.By{CorrelationID: "99999999-9999-4999-8999-999999999999", At: w.now(), Type: audit.Task}
	must(write[directory.Tx](w)(t.Context(), func(tx directory.Tx) error {
		var admin directory.User
		var err error
		_, admin, err = w.people.Bootstrap(tx, w.admin, directory.Bootstrap{DisplayName: "Contoso", Domain: "contoso.test", AdminUPN: "admin@contoso.test", AdminName: "Admin"})
		w.admin.Principal = admin.ID
		return err
	}))
	w.alice, err = w.creds.CreateUser(t.Context(), w.admin, directory.NewUser{UPN: "alice@contoso.test", DisplayName: "Alice", Enabled: true}, password, false)
	must(err)
	w.serve(must, cloud.Of(of))
	w.pass(time.Minute)
	return w
}

func (w *world) serve(must func(error), of cloud.Cloud) {
	user, err := w.keys.Signer(protocol.UserCA)
	must(err)
	host, err := w.keys.Signer(protocol.HostCA)
	must(err)
	w.issuer, err = sshca.New(sshca.Config{UserCA: user, HostCA: host, Rand: rand.Reader, Own: w.keys.Public()})
	must(err)
	signer, err := w.keys.Signer(protocol.Token)
	must(err)
	w.tokens, err = token.New(rand.Reader, signer)
	must(err)
	sessions := signin.New(signin.Config{Write: write[signin.Tx](w), Read: read[signin.Tx](w), Rand: rand.Reader, Hash: w.keys.Hash, Passwords: w.creds, Directory: w.index})
	w.oauth = oauth.New(oauth.Config{URL: publicURL, Cloud: of, Write: w.interleaved(write[oauth.Tx](w)), Read: read[oauth.Tx](w), Rand: rand.Reader, Hash: w.keys.Hash, Directory: w.index, Principals: w.index, Consents: w.index,
		People: sessions, Clients: w.creds, Tokens: w.tokens, Issuer: w.issuer, Settings: w.settings, Rights: w.people, Allow: func(by audit.By) error { return w.allow(by) }, Policies: func() []conditional.Policy { return w.policies },
		Gate: func(principal string, certificate bool) error {
			if w.gate == nil {
				return nil
			}
			return w.gate(principal, certificate)
		}})
	mux := httpd.NewMux()
	edge.New(edge.Config{OAuth: w.oauth, Passwords: sessions, Manifest: w, URL: publicURL}).Mount(mux)
	p, err := pages.New(pages.Config{OAuth: w.oauth, SignIn: sessions, Consents: w.people})
	must(err)
	p.Mount(mux)
	rows := []route.Row{{ID: "test.arm", Method: "GET", Pattern: "/whoami", Door: route.Caller, Surface: route.ARM, Why: "a test", Limiter: "read"}, {ID: "test.graph", Method: "GET", Pattern: "/v1.0/whoami", Door: route.Caller, Surface: route.Graph, Why: "a test", Limiter: "read"}}
	for _, id := range []string{"test.arm", "test.graph"} {
		mux.Handle(id, func(c *httpd.Call) error { return c.JSON(200, map[string]string{"name": c.By.Name}) })
	}
	for _, r := range route.All() {
		if strings.HasPrefix(r.ID, "oauth.") || strings.HasPrefix(r.ID, "page.") {
			rows = append(rows, r)
		}
	}
	plenty := httpd.Limit{PerSecond: 1e6, Burst: 1e6}
	s, err := httpd.New(httpd.Config{Rows: rows, Mux: mux, Authenticator: w, Limits: map[string]httpd.Limit{"read": plenty, "login": plenty, "token": plenty, "write": plenty, "device": plenty},
		Authority: publicURL + "/adfs", Now: w.now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler)})
	must(err)
	w.server = httptest.NewTLSServer(s)
	w.t.Cleanup(w.server.Close)
}

// answer is a response with its JSON, when it has some.
type answer struct {
	status int
	header http.Header
	text   string
	json   map[string]any
}

func (a answer) str(name string) string { s, _ := a.json[name].(string); return s }

// code is the AADSTS number of an error answer.
func (a answer) code() int {
	list, _ := a.json["error_codes"].([]any)
	if len(list) != 1 {
		return 0
	}
	n, _ := list[0].(float64)
	return int(n)
}

func (w *world) do(req *http.Request, client *http.Client) answer {
	w.t.Helper()
	res, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, text: string(b)}
	_ = json.Unmarshal(b, &a.json)
	if res.StatusCode >= 300 || strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		heard.Hear(html.UnescapeString(a.text) + "\n" + a.str("error_description") + "\n" + a.str("message"))
	}
	return a
}

func (w *world) client() *http.Client {
	c := *w.server.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// browser keeps cookies and follows nothing by itself.
func (w *world) browser() *http.Client {
	c := w.client()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	c.Jar = jar
	return c
}

func (w *world) post(path string, form url.Values) answer {
	w.t.Helper()
	return w.form(w.client(), path, form)
}

func (w *world) form(c *http.Client, path string, form url.Values) answer {
	w.t.Helper()
	req, err := http.NewRequest("POST", w.server.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return w.do(req, c)
}

func (w *world) get(c *http.Client, path string) answer {
	w.t.Helper()
	req, err := http.NewRequest("GET", w.server.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.do(req, c)
}

func values(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return v
}

func with(v url.Values, pairs ...string) url.Values {
	out := url.Values{}
	for k, x := range v {
		out[k] = x
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		out.Set(pairs[i], pairs[i+1])
		if pairs[i+1] == "" {
			out.Del(pairs[i])
		}
	}
	return out
}

// login signs alice in with her password and returns the answer.
func (w *world) login(scope string) answer {
	w.t.Helper()
	a := w.post("/adfs/oauth2/token", values("client_id", directory.AzureCLI, "grant_type", "password", "username", "alice@contoso.test", "password", password, "scope", scope, "client_info", "1"))
	if a.status != 200 {
		w.t.Fatalf("login: %d %s", a.status, a.text)
	}
	return a
}

// events counts audit events by type and outcome.
func (w *world) events(kind string, outcome audit.Outcome) []audit.Record {
	w.t.Helper()
	var out []audit.Record
	err := w.store.Read(w.t.Context(), func(tx *store.Tx) error {
		list, err := tx.AuditRecords(store.AuditFilter{})
		for _, r := range list {
			if r.Type == kind && r.Outcome == outcome {
				out = append(out, r)
			}
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// storePlace is where this test's store goes.
func storePlace(t testing.TB, now func() time.Time) store.Config {
	cfg := storetest.Place(t)
	cfg.Now, cfg.Writer = now, "w"
	return cfg
}
