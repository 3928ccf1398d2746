//go:build e2e

package operations

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecrets_AreWrittenNowhere signs in, issues, joins and refuses with known
// secrets at the most talkative level, and looks for each of them in the log,
// the metrics, the audit records, the store and every answer that refused one.
// A mistyped secret is a secret too: it is often somebody's real one elsewhere.
func TestSecrets_AreWrittenNowhere(t *testing.T) {
	p := newProcess(t, "../../out/sally", "")
	metrics := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p.arguments = []string{"--debug", "--lab-socket", labSocket(p), "--metrics", metrics}
	p.start(t)
	l := newLab(t, p, thisBuild())
	s := secrets{known: map[string]string{}, c: client(1), url: p.url}
	s.file(t, "first password", p.dir+"/state/first-password")
	l.settle(t, "machine")
	if out, errs, err := l.ssh("machine", "sudo", "whoami"); err != nil || out != "root" {
		t.Fatalf("%s %s %v", out, errs, err)
	}
	s.known["password"] = adminPassword
	s.serversKeys(t, p.dir+"/state/keys")
	s.tokens(t, l.config+"/.sallyport/tokens.json")
	var principal struct{ AppID, Password string }
	if err := json.Unmarshal([]byte(l.must(t, "ad", "sp", "create-for-rbac", "--name", "robot", "-o", "json")), &principal); err != nil || principal.Password == "" {
		t.Fatalf("%v", err)
	}
	s.known["client secret"] = principal.Password
	s.signIn(t, principal.AppID)
	s.refusals(t)

	written := map[string]string{"metrics": s.body(s.c.Get("http://" + metrics + "/metrics")), "audit records": l.must(t, "audit", "list", "-o", "json")}
	for name, pattern := range map[string]string{"log": p.log(), "lab's log": p.dir + "/lab.log", "store": p.dir + "/state/store.db*"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			written[name] += string(text)
		}
	}
	for i, answer := range s.answers {
		written[fmt.Sprintf("answer %d", i)] = answer
	}
	if !strings.Contains(written["log"], `"row":"oauth.token"`) || !strings.Contains(written["audit records"], "certificate.issue") || len(s.known) < 25 {
		t.Fatalf("there is little to look at: %d secrets", len(s.known))
	}
	for what, secret := range s.known {
		if len(secret) < 12 {
			t.Fatalf("%s is too short to be looked for", what)
		}
		for where, text := range written {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("%s is in the %s: %.200q", what, where, text[max(0, at-120):at])
			}
		}
	}
	t.Logf("%d secrets in none of %d texts", len(s.known), len(written))
	lines := regexp.MustCompile(`(?m)^.*"msg":"(request|not ready)".*$`).FindAllString(written["log"], -1)
	for _, line := range lines {
		if !regexp.MustCompile(`"correlation":"[0-9a-f-]{36}"`).MatchString(line) {
			t.Errorf("a request's line without its correlation id: %s", line)
		}
	}
}

type secrets struct {
	known   map[string]string // what it is, and it
	answers []string
	c       *http.Client
	url     string
}

func (s *secrets) file(t *testing.T, what, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.known[what] = strings.TrimSpace(string(text))
}

// serversKeys are the lines of every private key.
func (s *secrets) serversKeys(t *testing.T, folder string) {
	t.Helper()
	files, err := filepath.Glob(folder + "/*.pem")
	if err != nil || len(files) < 5 {
		t.Fatalf("%v %v", files, err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			// The first 16 bytes of a PKCS #8 key are the same in all of them.
			if len(line) > 40 && !strings.HasPrefix(line, "-----") {
				s.known[fmt.Sprintf("%s, line %d", filepath.Base(path), i)] = line[24:]
			}
		}
	}
}

// tokens are what the command line keeps.
func (s *secrets) tokens(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var any any
	if err := json.Unmarshal(text, &any); err != nil {
		t.Fatal(err)
	}
	s.walk("token", any)
}

func (s *secrets) walk(at string, x any) {
	switch x := x.(type) {
	case map[string]any:
		for k, v := range x {
			s.walk(at+" "+k, v)
		}
	case []any:
		for i, v := range x {
			s.walk(fmt.Sprint(at, i), v)
		}
	case string:
		lower := strings.ToLower(at)
		switch {
		case strings.Count(x, ".") == 2 && strings.HasPrefix(x, "eyJ"): // a JWT: its signature is what makes it one
			s.known[at] = x[strings.LastIndex(x, ".")+1:]
		case strings.Contains(lower, "refresh") && len(x) > 20:
			s.known[at] = x
		}
	}
}

// body reads an answer and keeps it.
func (s *secrets) body(res *http.Response, err error) string {
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return string(b)
}

func (s *secrets) post(form url.Values) string {
	return s.body(s.c.PostForm(s.url+"/organizations/oauth2/v2.0/token", form))
}

// signIn gets tokens as the service principal.
func (s *secrets) signIn(t *testing.T, appID string) {
	t.Helper()
	answer := s.post(url.Values{"grant_type": {"client_credentials"}, "client_id": {appID}, "client_secret": {s.known["client secret"]}, "scope": {"https://management.azure.com/.default"}})
	var token struct {
		Access string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(answer), &token); err != nil || token.Access == "" {
		t.Fatalf("%v", err)
	}
	s.known["application's token"] = token.Access[strings.LastIndex(token.Access, ".")+1:]
}

// refusals sends secrets to every place that takes one; all are wrong.
func (s *secrets) refusals(t *testing.T) {
	t.Helper()
	const az = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
	number := 0
	wrong := func(what string) string {
		number++
		secret := fmt.Sprintf("Wrong-Secret-%02d-%x", number, 0x5eed_0000+number)
		s.known["wrong "+what] = secret
		return secret
	}
	for _, form := range []url.Values{
		{"grant_type": {"password"}, "client_id": {az}, "username": {adminUPN}, "password": {wrong("password")}, "scope": {"openid"}},
		{"grant_type": {"password"}, "client_id": {az}, "username": {wrong("password typed as a name")}, "password": {"x"}, "scope": {"openid"}},
		{"grant_type": {"refresh_token"}, "client_id": {az}, "refresh_token": {wrong("refresh token")}, "scope": {"openid"}},
		{"grant_type": {"authorization_code"}, "client_id": {az}, "code": {wrong("code")}, "code_verifier": {wrong("verifier")}, "redirect_uri": {"http://localhost"}},
		{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {az}, "device_code": {wrong("device code")}},
		{"grant_type": {"client_credentials"}, "client_id": {az}, "client_secret": {wrong("client secret")}, "scope": {"https://management.azure.com/.default"}},
		{"grant_type": {"client_credentials"}, "client_id": {az}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {wrong("assertion")}, "scope": {"x/.default"}},
		{"grant_type": {wrong("grant type")}, "client_id": {wrong("client id")}},
	} {
		s.answers = append(s.answers, s.post(form))
	}
	for path, value := range map[string]any{
		"/sallyport/v1/password": map[string]string{"username": adminUPN, "password": wrong("old password"), "newPassword": wrong("new password")},
		"/machine/v1/join":       map[string]any{"capability": 1, "token": wrong("join token"), "hostname": "h", "os": "o", "openssh": "s", "agent": "a"},
	} {
		b, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		s.answers = append(s.answers, s.body(s.c.Post(s.url+path, "application/json", bytes.NewReader(b))))
	}
	for _, path := range []string{"/subscriptions", "/v1.0/me", "/signin?flow=" + wrong("flow"), "/device?user_code=" + wrong("user code")} {
		req, err := http.NewRequest("GET", s.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+wrong("bearer of "+path))
		req.Header.Set("Cookie", "session="+wrong("cookie of "+path))
		s.answers = append(s.answers, s.body(s.c.Do(req)))
	}
}
