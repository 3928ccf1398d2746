package oauth_test

import (
	"net/url"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
)

func refreshForm(text string) url.Values {
	return values("client_id", directory.AzureCLI, "grant_type", "refresh_token", "refresh_token", text, "scope", armScope)
}

func TestRefresh_RotationAndReuse(t *testing.T) {
	w := newWorld(t)
	first := w.login(armScope).str("refresh_token")
	a := w.post("/adfs/oauth2/token", refreshForm(first))
	w.pass(9 * time.Second)
	again := w.post("/adfs/oauth2/token", refreshForm(first))
	if a.status != 200 || a.str("refresh_token") == first || again.str("refresh_token") != a.str("refresh_token") {
		t.Fatalf("a repeat within 10 s gets the same successor: %s / %s", a.text, again.text)
	}
	// Once the successor was used, its predecessor is spent even within 10 s.
	next := w.post("/adfs/oauth2/token", refreshForm(a.str("refresh_token")))
	if next.status != 200 {
		t.Fatal(next.text)
	}
	if b := w.post("/adfs/oauth2/token", refreshForm(first)); b.code() != 50173 {
		t.Errorf("reuse: %s", b.text)
	}
	if b := w.post("/adfs/oauth2/token", refreshForm(next.str("refresh_token"))); b.code() != 50173 {
		t.Errorf("the family lives on: %s", b.text)
	}
	if len(w.events("token.reuse", audit.Denied)) != 1 {
		t.Error("no record of the reuse")
	}
	late := w.login(armScope).str("refresh_token")
	if b := w.post("/adfs/oauth2/token", refreshForm(late)); b.status != 200 {
		t.Fatal(b.text)
	}
	w.pass(11 * time.Second)
	if b := w.post("/adfs/oauth2/token", certForm(t, late)); b.code() != 50173 {
		t.Errorf("a spent token got a certificate: %s", b.text)
	}
}

func TestRefresh_AbsoluteLife(t *testing.T) {
	w := newWorld(t)
	text := w.login(armScope).str("refresh_token")
	for range 3 {
		w.pass(9 * 24 * time.Hour)
		a := w.post("/adfs/oauth2/token", refreshForm(text))
		if a.status != 200 {
			t.Fatal(a.text)
		}
		text = a.str("refresh_token")
	}
	w.pass(4 * 24 * time.Hour)
	if a := w.post("/adfs/oauth2/token", refreshForm(text)); a.code() != 700082 {
		t.Errorf("31 days: %s", a.text)
	}
}

func TestRefresh_ParallelRunsAgree(t *testing.T) {
	w := newWorld(t)
	first := w.login(armScope).str("refresh_token")
	results := make(chan answer, 8)
	for range cap(results) {
		go func() { results <- w.post("/adfs/oauth2/token", refreshForm(first)) }()
	}
	successors := map[string]bool{}
	for range cap(results) {
		a := <-results
		if a.status != 200 {
			t.Error(a.text)
		}
		successors[a.str("refresh_token")] = true
	}
	if len(successors) != 1 {
		t.Errorf("%d successors", len(successors))
	}
}

func TestTokens_OneSurfaceEach(t *testing.T) {
	w := newWorld(t)
	arm, graph := w.login(armScope).str("access_token"), w.login("https://graph.microsoft.com/.default").str("access_token")
	for _, c := range []struct {
		path, text string
		status     int
	}{{"/whoami", arm, 200}, {"/v1.0/whoami", graph, 200}, {"/whoami", graph, 401}, {"/v1.0/whoami", arm, 401}} {
		if a := w.bearer(c.path, c.text); a.status != c.status {
			t.Errorf("%s: %d", c.path, a.status)
		}
	}
	id := w.login(armScope).str("id_token")
	if a := w.bearer("/whoami", id); a.status != 401 {
		t.Error("an id token opened Resource Manager")
	}
	w.pass(time.Hour)
	if a := w.bearer("/whoami", arm); a.status != 401 || a.header.Get("WWW-Authenticate") == "" {
		t.Error("an expired token works")
	}
}

// TestToken_CVE_2025_44005_UnknownIsRefused: a grant, token type or client that
// no code names leads to a refusal, never to an answer.
func TestToken_CVE_2025_44005_UnknownIsRefused(t *testing.T) {
	w := newWorld(t)
	refresh := w.login(armScope).str("refresh_token")
	for _, pairs := range [][]string{{"grant_type", "REFRESH_TOKEN"}, {"grant_type", "implicit"}, {"token_type", "SSH-CERT"}, {"client_id", "00000000-0000-0000-0000-000000000000"}} {
		if a := w.post("/adfs/oauth2/token", with(certForm(t, refresh), pairs...)); a.status != 400 || a.str("access_token") != "" {
			t.Errorf("%v: %d %s", pairs, a.status, a.text)
		}
	}
}
