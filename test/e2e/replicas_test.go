//go:build e2e

package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/store/postgrestest"
)

// replicas is a world of two server processes on one PostgreSQL database, which
// they reach with TLS and a password, behind a balancer.
type replicas struct {
	*world
	lb      *balancer
	ports   [2]int
	servers [2]*exec.Cmd
}

// newReplicas makes one, with one machine and an administrator who may log in.
func newReplicas(t *testing.T) (*replicas, *vm) {
	t.Helper()
	r := &replicas{}
	database := postgrestest.NewSecure(t)
	database.Database(t) // d1
	w, err := newWorldWith(func(w *world) error { return r.prepare(w, database) })
	r.world = w
	before, machines := theWorld, vms
	t.Cleanup(func() {
		theWorld, vms = before, machines
		r.end(t)
	})
	if err != nil {
		t.Fatal(err)
	}
	theWorld, vms, r.servers[0] = w, map[string]*sharedVM{}, w.server
	second := w.path("server-2")
	if out, err := exec.Command("sh", "-c", `install -d -m 0700 "$1" && cp -a "$0/keys" "$0/database.json" "$1/" && chown --reference="$0" "$1"`, w.path("server"), second).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if err := r.start(1); err != nil {
		t.Fatal(err)
	}
	m := machine(t, "vm")
	return r, m
}

func (r *replicas) prepare(w *world, database *postgrestest.Secure) (err error) {
	r.world = w
	for i := range r.ports {
		if r.ports[i], err = freePort(); err != nil {
			return err
		}
	}
	if r.lb, err = newBalancer(w.port, r.ports); err != nil {
		return err
	}
	ca, err := os.ReadFile(database.CA)
	if err != nil {
		return err
	}
	password := w.path("database-password")
	err = errors.Join(os.WriteFile(w.path("database-ca.pem"), ca, 0o644), os.WriteFile(password, []byte(database.Password+"\n"), 0o600), os.Chown(password, serverUID, serverUID)) //nolint:gosec // a certificate
	w.initExtra = []string{"--database", fmt.Sprintf("postgres://sallyport@localhost:%d/d1?sslmode=verify-full&sslrootcert=%s", database.Port, w.path("database-ca.pem")), "--database-password-file", password}
	w.runExtra = []string{"--listen", fmt.Sprintf("127.0.0.1:%d", r.ports[0])}
	return err
}

// start runs a server that is not running, and waits for it.
func (r *replicas) start(i int) error {
	state := r.path([]string{"server", "server-2"}[i])
	cmd := r.asServer("server", "run", "--state", state, "--listen", fmt.Sprintf("127.0.0.1:%d", r.ports[i]), "--replica", fmt.Sprintf("server-%d", i+1))
	if i == 0 {
		cmd.Args = append(cmd.Args, "--lab-socket", r.path("lab.sock"))
		r.server = cmd
	}
	if err := logTo(cmd, r.path(fmt.Sprintf("server-%d.log", i+1))); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r.servers[i] = cmd
	return until(20*time.Second, func() error { return r.ready(i) })
}

func (r *replicas) ready(i int) error {
	res, err := direct().Get(r.at(i) + "/readyz")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode != 200 {
		return fmt.Errorf("%s", text)
	}
	return nil
}

// end stops everything; a test that failed shows the logs.
func (r *replicas) end(t *testing.T) {
	if r.world == nil {
		return
	}
	if cmd := r.servers[1]; cmd != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if logs, _ := filepath.Glob(r.path("server*.log")); t.Failed() {
		for _, name := range logs {
			if text, err := os.ReadFile(name); err == nil {
				t.Logf("%s: %s", name, text[max(0, len(text)-4000):])
			}
		}
	}
	r.close()
	if r.lb != nil {
		r.lb.close()
	}
}

// at is a server's own address.
func (r *replicas) at(i int) string { return fmt.Sprintf("https://127.0.0.1:%d", r.ports[i]) }

// direct is a client that keeps no connection.
func direct() *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // trust is the CLI's test, not this one's
}

// answer of the token endpoint.
type answer struct {
	status int
	text   string
	Access string `json:"access_token"`
	Renew  string `json:"refresh_token"`
	Error  string `json:"error"`

	UserCode   string `json:"user_code"`
	DeviceCode string `json:"device_code"`
	URI        string `json:"verification_uri"`
}

// post asks an OAuth endpoint of one server.
func (r *replicas) post(t *testing.T, client *http.Client, i int, endpoint string, words ...string) (a answer) {
	t.Helper()
	form := url.Values{"client_id": {"04b07795-8ddb-461a-bbee-02f9e1bf7b46"}}
	for n := 0; n < len(words); n += 2 {
		form.Set(words[n], words[n+1])
	}
	res, err := client.PostForm(r.at(i)+"/organizations/oauth2/v2.0/"+endpoint, form)
	if err != nil {
		t.Errorf("server %d: %v", i+1, err)
		return a
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err != nil {
		t.Errorf("server %d: %v %s", i+1, err, text)
	}
	a.status, a.text = res.StatusCode, string(text)
	return a
}

const (
	armWords = "https://management.core.windows.net//.default offline_access openid profile"
	sshWords = "https://pas.windows.net/CheckMyAccess/Linux/.default offline_access openid profile"
)

func (r *replicas) password(t *testing.T, i int, p *person) answer {
	t.Helper()
	a := r.post(t, direct(), i, "token", "grant_type", "password", "username", p.name, "password", p.password, "scope", armWords)
	if a.status != 200 {
		t.Fatalf("server %d: %s", i+1, a.text)
	}
	return a
}

func (r *replicas) refresh(t *testing.T, i int, token string) answer {
	t.Helper()
	return r.post(t, direct(), i, "token", "grant_type", "refresh_token", "refresh_token", token, "scope", armWords)
}

func (r *replicas) certificate(t *testing.T, client *http.Client, i int, token string) answer {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Error(err)
	}
	return r.post(t, client, i, "token", "grant_type", "refresh_token", "refresh_token", token, "scope", sshWords, "token_type", "ssh-cert", "key_id", "k",
		"req_cnf", `{"kty":"OKP","crv":"Ed25519","x":"`+base64.RawURLEncoding.EncodeToString(public)+`"}`)
}

// TestReplicas: what is begun at one server is finished at the other, what is
// taken away at one is gone at the other, and a machine follows either.
func TestReplicas(t *testing.T) {
	r, m := newReplicas(t)
	p := newUser(t, "rita")
	grant(t, roleAdmin, p.name, m.id)
	allowedSoon(t, p, m)
	t.Run("one refresh family", func(t *testing.T) { r.family(t, p) })
	t.Run("pages and codes", func(t *testing.T) { r.pages(t, p) })
	t.Run("device code", func(t *testing.T) { r.device(t, p) })
	t.Run("logins in turn", func(t *testing.T) {
		for i := range 4 {
			r.lb.only(i % 2)
			if err := wants(p.ssh(m, "whoami"), p.name); err != nil {
				t.Errorf("server %d: %v", i%2+1, err)
			}
		}
		r.lb.only(-1)
	})
	t.Run("lock-out", func(t *testing.T) { r.lockout(t) })
	t.Run("rotation", func(t *testing.T) { r.rotation(t, p, m) })
	t.Run("a server that slept", func(t *testing.T) { r.slept(t) })
	t.Run("the server that a machine asks is killed", func(t *testing.T) { r.killed(t, p, m) })
	if out := admin(t).must(t, "audit", "verify", "--query", "ok"); out != "true" {
		t.Errorf("audit verify: %s", out)
	}
}

// family: a rotation at one server is seen by the other, and a stolen token
// that is used at the other ends the family at both.
func (r *replicas) family(t *testing.T, p *person) {
	first := r.password(t, 0, p).Renew
	second := r.refresh(t, 1, first)
	again := r.refresh(t, 0, first) // parallel automation: the successor is unused
	if second.status != 200 || again.status != 200 || second.Renew == first || again.Renew != second.Renew {
		t.Fatalf("%s\n%s", second.text, again.text)
	}
	for i := range r.servers {
		if a := r.certificate(t, direct(), i, second.Renew); a.status != 200 {
			t.Fatalf("certificate of server %d: %s", i+1, a.text)
		}
	}
	third := r.refresh(t, 0, second.Renew)
	if third.status != 200 {
		t.Fatal(third.text)
	}
	if a := r.refresh(t, 1, first); a.Error != "invalid_grant" {
		t.Errorf("a used token at the other server: %s", a.text)
	}
	for i := range r.servers {
		if a := r.refresh(t, i, third.Renew); a.Error != "invalid_grant" {
			t.Errorf("the family lives at server %d: %s", i+1, a.text)
		}
	}
}

// wandering is a browser whose each request goes to the other server.
func (r *replicas) wandering(t *testing.T) (b *browser, asked func() bool) {
	b = newBrowser()
	var mu sync.Mutex
	var counts [2]int
	b.client.Transport = &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see newBrowser
		Dial: func(network, _ string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			i := (counts[0] + counts[1]) % 2
			counts[i]++
			return net.Dial(network, fmt.Sprintf("127.0.0.1:%d", r.ports[i]))
		}}
	b.client.CheckRedirect = func(req *http.Request, _ []*http.Request) error {
		if req.URL.Host == "localhost:8400" {
			return http.ErrUseLastResponse
		}
		return nil
	}
	return b, func() bool { t.Log("requests of the browser:", counts); return counts[0] > 0 && counts[1] > 0 }
}

// pages: a sign-in page of one server is answered by the other, and the code
// is redeemed at either, once.
func (r *replicas) pages(t *testing.T, p *person) {
	verifier := strings.Repeat("v", 43)
	sum := sha256.Sum256([]byte(verifier))
	query := url.Values{"client_id": {"04b07795-8ddb-461a-bbee-02f9e1bf7b46"}, "response_type": {"code"}, "redirect_uri": {"http://localhost:8400"}, "scope": {armWords}, "state": {"st"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}}
	for i := range r.servers {
		b, asked := r.wandering(t)
		where := ""
		note := b.client.CheckRedirect
		b.client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
			where = req.URL.String()
			return note(req, via)
		}
		if err := errors.Join(b.open(r.url()+"/organizations/oauth2/v2.0/authorize?"+query.Encode()), b.signIn(p)); err != nil {
			t.Fatal(err)
		}
		back, err := url.Parse(where)
		if err != nil || back.Host != "localhost:8400" || back.Query().Get("code") == "" || !asked() {
			t.Fatalf("%v %s %s", err, where, b.page)
		}
		redeem := func(i int) answer {
			return r.post(t, direct(), i, "token", "grant_type", "authorization_code", "code", back.Query().Get("code"), "redirect_uri", "http://localhost:8400", "code_verifier", verifier, "scope", armWords)
		}
		if a := redeem(i); a.status != 200 {
			t.Errorf("server %d: %s", i+1, a.text)
		}
		if a := redeem(1 - i); a.Error != "invalid_grant" {
			t.Errorf("server %d redeems it again: %s", 2-i, a.text)
		}
	}
}

// device: a device code of one server is confirmed at both in turn and fetched
// at the other.
func (r *replicas) device(t *testing.T, p *person) {
	d := r.post(t, direct(), 0, "devicecode", "scope", armWords)
	if d.status != 200 {
		t.Fatal(d.text)
	}
	b, asked := r.wandering(t)
	for n, step := range []func() error{
		func() error { return b.open(d.URI) }, func() error { return b.signIn(p) },
		func() error { return b.submit(map[string]string{"code": d.UserCode}) }, func() error { return b.signIn(p) },
		func() error { return b.submit(map[string]string{"decision": "approve"}) },
	} {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
	}
	if !asked() {
		t.Error("one server did it all")
	}
	fetch := func(i int) answer {
		return r.post(t, direct(), i, "token", "grant_type", "urn:ietf:params:oauth:grant-type:device_code", "device_code", d.DeviceCode)
	}
	if a := fetch(1); a.status != 200 || a.Access == "" {
		t.Fatal(a.text)
	}
	if a := fetch(0); a.status == 200 {
		t.Errorf("fetched twice: %s", a.text)
	}
}

// lockout: wrong passwords at both servers count together.
func (r *replicas) lockout(t *testing.T) {
	p := newUser(t, "locked")
	try := func(i int, password string) answer {
		return r.post(t, direct(), i, "token", "grant_type", "password", "username", p.name, "password", password, "scope", armWords)
	}
	for n := range 12 {
		if a := try(n%2, "wrong-password-1"); a.Error != "invalid_grant" {
			t.Fatal(a.text)
		}
	}
	for i := range r.servers {
		if a := try(i, p.password); a.Error != "invalid_grant" {
			t.Errorf("server %d takes the right password: %s", i+1, a.text)
		}
	}
}

// rotation: the server that did not make the new key is not ready and signs
// nothing with another, until the file is there; it needs no restart.
func (r *replicas) rotation(t *testing.T, p *person, m *vm) {
	token := r.password(t, 1, p).Renew
	r.lb.only(0)
	defer r.lb.only(-1)
	admin(t).must(t, "ca", "rotate", "--purpose", "user-ca")
	if err := until(time.Second, func() error {
		if r.ready(1) == nil {
			return errors.New("the other server says that it is ready")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if a := r.certificate(t, direct(), 1, token); a.status != 503 {
		t.Errorf("a certificate without the key: %s", a.text)
	}
	if a := r.refresh(t, 1, token); a.status != 200 {
		t.Errorf("what the key is not for: %s", a.text)
	}
	if err := wants(p.ssh(m, "whoami"), p.name); err != nil {
		t.Errorf("at the server that has the key: %v", err)
	}
	if out, err := exec.Command("cp", "-an", r.path("server/keys")+"/.", r.path("server-2/keys")).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	began := time.Now()
	if err := until(8*time.Second, func() error { return r.ready(1) }); err != nil {
		t.Fatalf("with the file: %v", err)
	}
	t.Logf("the file was found after %s", time.Since(began).Round(time.Millisecond))
	r.lb.only(1)
	if err := wants(p.ssh(m, "whoami"), p.name); err != nil {
		t.Errorf("at the other server: %v", err)
	}
}

// slept: a server that did not run for ten seconds decides nothing by what it
// knew before, not even for requests that were waiting for it.
func (r *replicas) slept(t *testing.T) {
	p := newUser(t, "gone")
	token := r.password(t, 0, p).Renew
	const waiting = 8
	var clients [waiting]*http.Client
	for i := range clients { // connections that need no handshake any more
		clients[i] = &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // see newBrowser
		if a := r.certificate(t, clients[i], 0, token); a.status != 200 {
			t.Fatal(a.text)
		}
	}
	r.lb.only(1)
	defer r.lb.only(-1)
	if err := r.servers[0].Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ended := time.After(10 * time.Second)
	admin(t).must(t, "ad", "user", "update", "--id", p.name, "--account-enabled", "false")
	answers := make(chan answer, waiting)
	for _, c := range clients {
		go func() { answers <- r.certificate(t, c, 0, token) }()
	}
	<-ended
	if err := r.servers[0].Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for range waiting {
		if a := <-answers; a.status == 200 || a.Access != "" {
			t.Errorf("a certificate for somebody who was disabled meanwhile: %s", a.text)
		} else {
			t.Log(a.status, a.Error)
		}
	}
	if err := until(10*time.Second, func() error {
		if a := r.certificate(t, direct(), 0, token); a.Error != "invalid_grant" {
			return errors.New(a.text)
		}
		return r.ready(0)
	}); err != nil {
		t.Errorf("it does not catch up: %v", err)
	}
}

// killed: the machine's next news comes from the other server.
func (r *replicas) killed(t *testing.T, p *person, m *vm) {
	r.lb.only(0)
	r.lb.drop()
	if err := until(20*time.Second, func() error {
		if r.lb.open(0) == 0 {
			return errors.New("the machine does not ask server 1")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := wants(p.ssh(m, "whoami"), p.name); err != nil {
		t.Fatal(err)
	}
	key := certificate(t, p)
	r.lb.only(-1)
	_ = r.servers[0].Process.Kill()
	_ = r.servers[0].Wait()
	began := time.Now()
	admin(t).must(t, "role", "assignment", "delete", "--assignee", p.name, "--role", roleAdmin, "--scope", m.id)
	refusedSoon(t, func() result { return m.ssh(p.name, key.options(), "true") }, "Azure role not assigned")
	t.Logf("server 1 killed, role removed at server 2, login refused: %s", time.Since(began).Round(time.Millisecond))
	if err := r.start(0); err != nil { // its name is free after five seconds
		t.Error(err)
	}
	grant(t, roleAdmin, p.name, m.id)
	allowedSoon(t, p, m)
}
