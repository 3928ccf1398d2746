package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"html"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sallyport/internal/directory"
	"sallyport/internal/fault"
)

const callbackTime = 5 * time.Second

// Interactive says what a sign-in page shall be asked for.
type Interactive struct {
	Tenant string
	Scope  string
	Hint   string     // login name to suggest
	Prompt string     // "select_account", or empty
	Claims string     // of the refusal that brought the person here, or empty
	Extra  url.Values // further fields of the token request
	// Open shows a URL to the person; an error means that there is no browser.
	Open func(url string) error
	// Show prints a sentence for the person.
	Show func(text string)
}

// ErrNoBrowser is returned by Browser when no browser could be opened.
var ErrNoBrowser = errors.New("no web browser could be opened")

type callback struct {
	code string
	err  error
}

// Browser signs in with the authorization code grant and PKCE (RFC 7636): the
// code comes back to a listener on this computer's loopback address (RFC 8252).
func (s *Server) Browser(ctx context.Context, r Interactive) (Grant, Identity, error) {
	e, err := s.Endpoints(ctx, r.Tenant, true)
	if err != nil {
		return Grant{}, Identity{}, err
	}
	var secrets [3]string // state, nonce, verifier
	for i := range secrets {
		if secrets[i], err = s.random(32); err != nil {
			return Grant{}, Identity{}, err
		}
	}
	state, nonce, verifier := secrets[0], secrets[1], secrets[2]
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return Grant{}, Identity{}, fmt.Errorf("listen for the browser's answer: %w", err)
	}
	answers := make(chan callback, 1)
	web := &http.Server{Handler: callbackHandler(state, answers), ReadHeaderTimeout: callbackTime}
	go func() { _ = web.Serve(listener) }()
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), callbackTime)
		defer cancel()
		_ = web.Shutdown(end)
	}()
	redirect := fmt.Sprintf("http://localhost:%d", listener.Addr().(*net.TCPAddr).Port) //nolint:forcetypeassert // a TCP listener
	page := authorizeURL(e.Authorize, r, redirect, url.Values{"state": {state}, "nonce": {nonce}, "code_challenge": {challenge(verifier)}})
	if err := r.Open(page); err != nil {
		return Grant{}, Identity{}, fmt.Errorf("%w: %w", ErrNoBrowser, err)
	}
	r.Show("A web browser has been opened at " + page + "\nPlease continue the sign-in there. If no browser opens, use device code flow: --use-device-code")
	var answer callback
	select {
	case <-ctx.Done():
		return Grant{}, Identity{}, ctx.Err()
	case answer = <-answers:
	}
	if answer.err != nil {
		return Grant{}, Identity{}, answer.err
	}
	form := userForm(grantCode, r.Scope, r.Extra)
	form.Set("code", answer.code)
	form.Set("redirect_uri", redirect)
	form.Set("code_verifier", verifier)
	g, err := s.token(ctx, r.Tenant, form)
	if err != nil {
		return Grant{}, Identity{}, err
	}
	id, err := s.identify(g, nonce)
	return g, id, err
}

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return b64(sum[:])
}

func authorizeURL(endpoint string, r Interactive, redirect string, q url.Values) string {
	q.Set("client_id", directory.SallyCLI)
	q.Set("response_type", "code")
	q.Set("redirect_uri", redirect)
	q.Set("scope", r.Scope+" "+userScopes)
	q.Set("code_challenge_method", "S256")
	q.Set("client_info", "1")
	if r.Hint != "" {
		q.Set("login_hint", r.Hint)
	}
	if r.Claims != "" {
		q.Set("claims", r.Claims)
	}
	if r.Prompt != "" {
		q.Set("prompt", r.Prompt)
	}
	separator := "?"
	if strings.Contains(endpoint, "?") {
		separator = "&"
	}
	return endpoint + separator + q.Encode()
}

// callbackHandler takes the one answer that carries the state of this sign-in.
// Anything else that reaches the port is refused and changes nothing.
func callbackHandler(state string, answers chan<- callback) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Connection", "close")
		if r.Method != http.MethodGet || r.URL.Path != "/" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		code, err := ParseCallback(r.URL.RawQuery, state)
		if errors.Is(err, errForeignCallback) {
			w.WriteHeader(http.StatusBadRequest)
			writePage(w, "Not this sign-in", "This address belongs to a sign-in of the sally command line that is not yours or is over.")
			return
		}
		select {
		case answers <- callback{code, err}:
		default: // the first answer counts
		}
		if err != nil {
			writePage(w, "You are not signed in", err.Error()+" You can close this window; the terminal says more.")
			return
		}
		writePage(w, "You have signed in", "You can close this window and return to the terminal.")
	})
}

func writePage(w http.ResponseWriter, title, text string) {
	_, _ = fmt.Fprintf(w, "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>%[1]s</title><h1>%[1]s</h1><p>%[2]s</p></html>\n",
		html.EscapeString(title), html.EscapeString(text))
}

var errForeignCallback = errors.New("the answer does not carry the state of this sign-in")

// ParseCallback reads the query of the redirect (RFC 6749 4.1.2): exactly one
// state, ours, and exactly one code or one error.
func ParseCallback(rawQuery, state string) (string, error) {
	q, err := url.ParseQuery(rawQuery)
	if err != nil || state == "" || len(q["state"]) != 1 || !same(q.Get("state"), state) {
		return "", errForeignCallback
	}
	if len(q["error"]) > 0 {
		return "", &OAuthError{Code: q.Get("error"), Description: q.Get("error_description")}
	}
	if len(q["code"]) != 1 || q.Get("code") == "" {
		return "", fault.New(fault.Unauthenticated, "BadCallback", "the sign-in page sent no code back")
	}
	return q.Get("code"), nil
}
