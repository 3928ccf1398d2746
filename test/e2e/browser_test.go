//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A browser without script: it follows redirects, keeps cookies, reads forms
// and submits what a person would. The CLI starts it through BROWSER, as it
// would start a real one.

const browserMode = "SALLYPORT_E2E_BROWSER"

type browser struct {
	client *http.Client
	page   string // text of the page shown
	at     *url.URL
}

func newBrowser() *browser {
	jar, _ := cookiejar.New(nil)                                                                                                                                            // never fails
	return &browser{client: &http.Client{Jar: jar, Timeout: crowded(30 * time.Second), Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}} //nolint:gosec // trust is the CLI's test, not this one's
}

func (b *browser) read(r *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	b.page, b.at = string(text), r.Request.URL
	return err
}

func (b *browser) open(address string) error { return b.read(b.client.Get(address)) }

var (
	formRE  = regexp.MustCompile(`(?s)<form method="post" action="([^"]*)">(.*?)</form>`)
	inputRE = regexp.MustCompile(`<(?:input|button)[^>]*>`)
	nameRE  = regexp.MustCompile(` name="([^"]*)"`)
	valueRE = regexp.MustCompile(` value="([^"]*)"`)
)

// submit fills the page's form and sends it; a button is pressed by naming it
// among the values.
func (b *browser) submit(values map[string]string) error {
	form := formRE.FindStringSubmatch(b.page)
	if form == nil {
		return fmt.Errorf("no form on the page at %s: %s", b.at, b.page)
	}
	fields := url.Values{}
	for _, tag := range inputRE.FindAllString(form[2], -1) {
		name, value := nameRE.FindStringSubmatch(tag), valueRE.FindStringSubmatch(tag)
		if name == nil || strings.HasPrefix(tag, "<button") {
			continue
		}
		v := ""
		if value != nil {
			v = html.UnescapeString(value[1])
		}
		fields.Set(name[1], v)
	}
	for name, v := range values {
		fields.Set(name, v)
	}
	target, err := b.at.Parse(html.UnescapeString(form[1]))
	if err != nil {
		return err
	}
	return b.read(b.client.PostForm(target.String(), fields))
}

// asBrowser is what this test binary does when the CLI starts it as a browser:
// the person signs in with the name and password in the environment.
func asBrowser() int {
	f := strings.SplitN(os.Getenv(browserMode), " ", 2)
	b := newBrowser()
	err := b.open(os.Args[len(os.Args)-1])
	if err == nil {
		err = b.signIn(&person{name: f[0], password: f[1]})
	}
	if err != nil || !strings.Contains(b.at.Host, "127.0.0.1") && !strings.Contains(b.at.Host, "localhost") {
		fmt.Fprintln(os.Stderr, "browser:", err, b.page)
		return 1
	}
	return 0
}

func TestLogin_Browser(t *testing.T) {
	p := newUser(t, "browsing")
	p.must(t, "logout")
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	login := func(password string) result {
		cmd := p.command("login", "--server", theWorld.address, "--allow-no-subscriptions")
		cmd.Env = append(cmd.Env, "BROWSER="+self, browserMode+"="+p.name+" "+password)
		return captureFor(cmd, crowded(20*time.Second)+time.Minute) // a browser repeats for a minute
	}
	if r := login(p.password); r.code != 0 || !strings.Contains(r.out, p.name) {
		t.Fatalf("login: %s", r)
	}
	if who := p.must(t, "ad", "signed-in-user", "show", "--query", "userPrincipalName", "-o", "tsv"); who != p.name {
		t.Fatalf("signed in as %q", who)
	}
	certificate(t, p)
}

func TestLogin_DeviceCode(t *testing.T) {
	p := newUser(t, "device")
	p.must(t, "logout")
	cmd := p.command("login", "--server", theWorld.address, "--use-device-code", "--allow-no-subscriptions")
	shown, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(crowded(3*time.Minute), func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	words := regexp.MustCompile(`(https://\S+) and enter the code (\S+) to`)
	var m []string
	var text strings.Builder
	for lines := bufio.NewScanner(shown); m == nil && lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		m = words.FindStringSubmatch(lines.Text())
	}
	if m == nil {
		t.Fatalf("no code was shown: %s", text.String())
	}
	go func() { _, _ = io.Copy(io.Discard, shown) }()
	b := newBrowser()
	steps := []func() error{
		func() error { return b.open(m[1]) },
		func() error { return b.submit(map[string]string{"code": "WRONGWRONG"}) },
		func() error { return b.signIn(p) },
		func() error { return b.submit(map[string]string{"code": m[2]}) },
		func() error { return b.signIn(p) },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	if !strings.Contains(b.page, "Sallyport CLI") || !strings.Contains(b.page, "value=\"deny\"") {
		t.Fatalf("the person is not asked about the program: %s", b.page)
	}
	if err := b.submit(map[string]string{"decision": "approve"}); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), p.name) {
		t.Fatalf("%v: %s", err, out.String())
	}
	p.must(t, "ad", "signed-in-user", "show")
}

// signIn answers a password page if one is shown. On a crowded computer a password
// waits for its turn in vain; the page says so, and is sent again for a minute.
func (b *browser) signIn(p *person) error {
	if !strings.Contains(b.page, `name="password"`) {
		return nil
	}
	page, at := b.page, b.at
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Second) {
		err := b.submit(map[string]string{"username": p.name, "password": p.password})
		if err != nil || !strings.Contains(b.page, "too many sign-ins") || time.Now().After(end) {
			return err
		}
		b.page, b.at = page, at // what was refused so is not used up
	}
}

// What a person reads when the page refuses.
func TestLogin_PageRefusals(t *testing.T) {
	p := newUser(t, "pages")
	base, _, _ := strings.Cut(theWorld.address, "#")
	good := base + "/organizations/oauth2/v2.0/authorize?client_id=5a11e9c1-0000-4000-8000-5a11e9c11001&response_type=code&redirect_uri=http%3A%2F%2Flocalhost%3A1&scope=openid&code_challenge=" + strings.Repeat("a", 43) + "&code_challenge_method=S256"
	b := newBrowser()
	if err := b.open(good); err != nil {
		t.Fatal(err)
	}
	if err := b.submit(map[string]string{"username": p.name, "password": "not-the-password"}); err != nil {
		t.Fatal(err)
	}
	says(t, b.page, "wrong", `role="alert"`)
	for name, address := range map[string]string{
		"redirect elsewhere": strings.Replace(good, "localhost%3A1", "evil.example", 1),
		"unknown client":     strings.Replace(good, "5a11e9c1-0000", "5a11e9c1-1111", 1),
		"another tenant":     strings.Replace(good, "organizations", "11111111-1111-4111-8111-111111111111", 1),
	} {
		if err := b.open(address); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if strings.Contains(b.at.Host, "evil") || !strings.Contains(b.page, "orrelation id") {
			t.Errorf("%s: %s %s", name, b.at, b.page)
		}
	}
}
