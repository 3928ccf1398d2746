package client

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"sallyport/internal/cloud"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
)

// The machine's answers have numbers as texts (recorded: az login --identity) or
// as numbers, and refusals are sentences.
func TestManaged_AsksTheMachine(t *testing.T) {
	status, answer := 200, ""
	var got *http.Request
	var form url.Values
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		got, form = r, r.PostForm
		w.WriteHeader(status)
		_, _ = w.Write([]byte(answer))
	}))
	defer web.Close()
	s := &Server{cfg: Config{Metadata: web.URL}}
	answer = `{"access_token":"t","client_id":"c","expires_in":"3599","expires_on":"1795358687","resource":"https://h/arm","token_type":"Bearer"}`
	g, err := s.Managed(t.Context(), "https://h/arm/.default", nil)
	if err != nil || g.AccessToken != "t" || g.ExpiresIn != 3599 || g.TokenType != "Bearer" {
		t.Fatalf("%+v %v", g, err)
	}
	if q := got.URL.Query(); got.Method != "GET" || got.URL.Path != metadataToken || q.Get("resource") != "https://h/arm" || got.Header.Get("Metadata") != "true" || got.Header.Get("Authorization") != "" {
		t.Errorf("%s %s %v", got.Method, got.URL, got.Header)
	}
	answer = `{"access_token":"c","expires_in":60,"token_type":"ssh-cert"}`
	if g, err = s.Managed(t.Context(), cloud.Of(cloud.Global).Scope(), CertificateRequest{JWK: "{}", KeyID: "k", Machine: "m"}.Form()); err != nil || g.TokenType != tokenTypeSSHCert {
		t.Fatalf("%+v %v", g, err)
	}
	if got.Method != "POST" || got.URL.Path != metadataCert || form.Get("req_cnf") != "{}" || form.Get("machine") != "m" {
		t.Errorf("%s %s %v", got.Method, got.URL, form)
	}
	for text, want := range map[string]struct {
		status int
		code   string
	}{
		`{"error":"access_denied","error_description":"Sallyport: bob may not"}`: {403, "IdentityRefused"},
		`{"error":"invalid_request","error_description":"Identity not found"}`:   {400, "IdentityNotFound"},
		`{"token_type":"Bearer"}`: {200, "BadToken"},
		`nonsense`:                {200, "BadToken"},
	} {
		status, answer = want.status, text
		if _, err := s.Managed(t.Context(), "https://h/arm/.default", nil); fault.As(err).Code != want.code {
			t.Errorf("%s: %v", text, err)
		}
	}
	web.Close()
	_, err = s.Managed(t.Context(), "https://h/arm/.default", nil)
	handbooktest.Said(t, fault.As(err).Public(), "NoMetadataService")
}
