package client

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestParseAddress(t *testing.T) {
	pin := strings.Repeat("A", 43)
	for text, want := range map[string]string{
		"https://Host.Example": "https://host.example ", "https://h:443/": "https://h ", " https://h:8443#" + pin + " ": "https://h:8443 " + pin, "https://[::1]:8443": "https://[::1]:8443 ",
		"http://h": "", "h": "", "https://": "", "https://u@h": "", "https://h/path": "", "https://h?q": "", "https://h#short": "", "https://h#" + pin + "A": "", "https://h\n": "https://h ",
	} {
		u, p, err := ParseAddress(text)
		if want == "" {
			if err == nil {
				t.Errorf("%q was accepted as %s %s", text, u, p)
			}
			continue
		}
		if err != nil || u+" "+p != want {
			t.Errorf("%q: %q %q %v", text, u, p, err)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"https://h:1#AAAA", "https://[::1]", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, pin, err := ParseAddress(text)
		if err != nil {
			return
		}
		again, _, err := ParseAddress(u)
		if err != nil || again != u || !sameOrigin(u, u+"/x") {
			t.Errorf("%q gives %q (%q), which reads back as %q: %v", text, u, pin, again, err)
		}
	})
}

func TestParseCallback(t *testing.T) {
	for query, want := range map[string]string{
		"code=c&state=s": "c", "state=s&code=c&session_state=x": "c",
		"code=c": "", "code=c&state=x": "", "code=c&state=s&state=s": "", "code=a&code=b&state=s": "", "code=&state=s": "", "state=s": "", "error=access_denied&state=s&code=c": "", "%zz": "", "": "",
	} {
		code, err := ParseCallback(query, "s")
		if code != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q %v", query, code, err)
		}
	}
	if _, err := ParseCallback("code=c&state=", ""); err == nil {
		t.Error("an empty state was accepted")
	}
	var oe *OAuthError
	if _, err := ParseCallback("error=access_denied&error_description=no&state=s", "s"); !errors.As(err, &oe) || oe.Code != "access_denied" {
		t.Errorf("error: %v", err)
	}
}

func FuzzParseCallback(f *testing.F) {
	f.Add("code=c&state=s")
	f.Add("error=x&state=s")
	f.Fuzz(func(t *testing.T, query string) {
		code, err := ParseCallback(query, "s")
		if err != nil {
			return
		}
		q, perr := url.ParseQuery(query)
		if perr != nil || code == "" || q.Get("state") != "s" || len(q["state"]) != 1 || len(q["error"]) != 0 {
			t.Errorf("%q gave the code %q", query, code)
		}
	})
}

// TestCallbackHandler_ForeignRequestsChangeNothing: a page that guesses the port
// cannot end or answer a sign-in.
func TestCallbackHandler_ForeignRequestsChangeNothing(t *testing.T) {
	answers := make(chan callback, 1)
	h := callbackHandler("s", answers)
	send := func(method, target string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, target, nil))
		if !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Error("no policy")
		}
		return w.Code
	}
	for _, c := range [][2]string{{"GET", "/?code=x&state=wrong"}, {"GET", "/"}, {"GET", "/favicon.ico"}, {"POST", "/?code=c&state=s"}} {
		if code := send(c[0], c[1]); code < 400 || len(answers) != 0 {
			t.Errorf("%v: %d", c, code)
		}
	}
	if code := send("GET", "/?code=c&state=s"); code != 200 {
		t.Errorf("the answer: %d", code)
	}
	send("GET", "/?code=second&state=s")
	if a := <-answers; a.code != "c" || len(answers) != 0 {
		t.Errorf("got %+v", a)
	}
}

func TestSameOrigin(t *testing.T) {
	for link, want := range map[string]bool{"https://h:1/x": true, "https://H:1/x?y": true, "https://h:2/x": false, "http://h:1/x": false, "https://h.evil:1/": false, "https://u@h:1/": false, "//h:1/": false, "/x": false} {
		if got := sameOrigin("https://h:1", link); got != want {
			t.Errorf("%s: %v", link, got)
		}
	}
	if !sameOrigin("https://h", "https://h:443/x") {
		t.Error("the default port differs from itself")
	}
}

func TestDelayOf(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        time.Duration
	}{{"Retry-After", "2", 2 * time.Second}, {"x-ms-retry-after-ms", "200", 200 * time.Millisecond}, {"retry-after-ms", "0.5", pollShortest}, {"Retry-After", "9999", pollLongest}, {"Retry-After", "soon", time.Second}, {"X", "", time.Second}} {
		if got := delayOf(http.Header{http.CanonicalHeaderKey(c.name): {c.value}}, time.Second); got != c.want {
			t.Errorf("%s: %s is %s", c.name, c.value, got)
		}
	}
}

// What was turned away before it began may be sent again, whatever it does.
func TestPutOff(t *testing.T) {
	for _, c := range []struct {
		status int
		after  string
		want   bool
	}{{429, "5", true}, {503, "1", true}, {429, "", false}, {500, "5", false}, {429, "600", false}, {400, "5", false}} {
		if got := putOff(&http.Response{StatusCode: c.status, Header: http.Header{"Retry-After": {c.after}}}); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

func noWait(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func TestFolder_ConcurrentWritersLoseNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "config")
	wait := func(ctx context.Context, d time.Duration) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d / 50):
			return nil
		}
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			f, err := OpenFolder(dir, wait)
			if err == nil {
				err = f.UpdateProfile(t.Context(), func(p *Profile) error {
					p.Servers = append(p.Servers, ServerRecord{URL: string(rune('a' + i))})
					return nil
				})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f, err := OpenFolder(dir, wait)
	if err != nil {
		t.Fatal(err)
	}
	p, err := f.Profile()
	if err != nil || len(p.Servers) != 20 {
		t.Errorf("%d servers, %v", len(p.Servers), err)
	}
}

func TestFolder_ModesAndDamage(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the point of the test
		t.Fatal(err)
	}
	f, err := OpenFolder(dir, noWait)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Errorf("folder mode %v", info.Mode())
	}
	if err := f.UpdateProfile(t.Context(), func(*Profile) error { return nil }); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, profileFile)
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("file mode %v", info.Mode())
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Profile(); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damage: %v", err)
	}
}

func TestProfile_SignedInKeepsOthersAndTheDefault(t *testing.T) {
	a := func(id, who string) Account {
		return Account{ID: id, Name: "n" + id, Server: "s", User: Person{Name: who, Type: TypeUser}}
	}
	var p Profile
	p.SignedIn([]Account{a("1", "alice"), a("2", "alice")})
	if _, err := p.SetDefault("2"); err != nil {
		t.Fatal(err)
	}
	p.SignedIn([]Account{a("1", "alice"), a("2", "alice")})
	if d, _ := p.Find(""); d.ID != "2" || len(p.Accounts) != 2 {
		t.Errorf("after a second sign-in: %+v", p.Accounts)
	}
	p.SignedIn([]Account{a("3", "bob")})
	if d, _ := p.Find(""); d.ID != "3" || len(p.Accounts) != 3 {
		t.Errorf("after another person's: %+v", p.Accounts)
	}
	if p.Remove("BOB", "") != 1 {
		t.Error("bob stays")
	}
	if d, err := p.Find(""); err != nil || d.User.Name != "alice" {
		t.Errorf("no default is left: %v", err)
	}
}

func TestAssertion_SignsForTheEndpoint(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sp"}, NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	file := append(block("PRIVATE KEY", pkcs8), block("CERTIFICATE", der)...)
	s := &Server{cfg: Config{Rand: rand.Reader, Now: func() time.Time { return time.Unix(1_800_000_000, 0) }}}
	text, err := s.assertion(file, "app", "https://h/token")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(text, ".")
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, sum[:], sig); err != nil {
		t.Error(err)
	}
	raw, _ := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Aud, Iss, Sub, Jti string
		Exp                int64
	}
	if err := json.Unmarshal(raw, &claims); err != nil || claims.Aud != "https://h/token" || claims.Iss != "app" || claims.Sub != "app" || claims.Jti == "" || claims.Exp != 1_800_000_600 {
		t.Errorf("%v %s", err, raw)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"no key": block("CERTIFICATE", der), "no certificate": block("PRIVATE KEY", pkcs8), "nothing": []byte("x"),
		"another key": append(block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(other)), block("CERTIFICATE", der)...)} {
		if _, err := s.assertion(bad, "app", "x"); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func FuzzParsePEM(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if key, cert, err := parsePEM(data); err == nil && (key == nil || cert == nil) {
			t.Error("neither key nor error")
		}
	})
}

func TestCheckClock(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	h := http.Header{"Date": {at.Format(http.TimeFormat)}}
	for off, want := range map[time.Duration]string{0: "", 4 * time.Minute: "", -5 * time.Minute: "", 10 * time.Minute: "ahead of", -10 * time.Minute: "behind"} {
		err := checkClock(at.Add(off), h)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", off, err)
		}
	}
	if err := checkClock(at, http.Header{}); err != nil {
		t.Error(err)
	}
}
