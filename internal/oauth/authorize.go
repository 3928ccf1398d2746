package oauth

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/conditional"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/signin"
)

// Authorize is a checked authorization request.
type Authorize struct {
	Authority   Authority
	Client      directory.Application
	RedirectURI string
	State       string
	FormPost    bool
	Scope       Scope
	Nonce       string
	Challenge   string
	Prompt      string // "", "login", "select_account", "none", "consent"
	LoginHint   string
	ClientInfo  bool
	MaxAge      time.Duration // -1 when not given
}

// bounds of the texts that a client may send along.
const (
	maxState = 2048
	maxNonce = 512
	maxURI   = 1024
)

// ParseAuthorize checks an authorization request. When the error concerns client
// or redirect URI, ok is false and nothing may be sent to the redirect URI;
// otherwise the error goes there, with the state.
func (s *Service) ParseAuthorize(a Authority, q url.Values) (req Authorize, ok bool, err error) {
	req = Authorize{Authority: a, MaxAge: -1}
	for name, v := range q {
		if len(v) > 1 {
			return req, false, refuse("invalid_request", 9000411, "The parameter '%s' is given more than once.", show(name))
		}
	}
	id := strings.ToLower(q.Get("client_id"))
	if id == "" {
		return req, false, missing("client_id")
	}
	app, found := s.cfg.Directory.Application(id)
	if !found {
		return req, false, refuse("unauthorized_client", 700016, "Application with identifier '%s' was not found in the directory.", show(id))
	}
	if sp, has := s.cfg.Directory.ServicePrincipalByAppID(app.AppID); has && !sp.Enabled {
		return req, false, refuse("unauthorized_client", 7000112, "Application '%s' is disabled. Ask an Application Administrator to enable it.", app.AppID)
	}
	req.Client, req.RedirectURI, req.State = app, q.Get("redirect_uri"), q.Get("state")
	if !redirectAllowed(app, req.RedirectURI) {
		return req, false, refuse("invalid_request", 50011, "The redirect URI '%s' specified in the request does not match the redirect URIs configured for the application '%s'.", show(req.RedirectURI), app.AppID)
	}
	if len(req.State) > maxState {
		req.State = ""
		return req, true, refuse("invalid_request", 90014, "The parameter 'state' is too long.")
	}
	return req, true, s.parseRest(&req, q)
}

func (s *Service) parseRest(req *Authorize, q url.Values) error {
	switch q.Get("response_mode") {
	case "", "query":
	case "form_post":
		req.FormPost = true
	default:
		return refuse("invalid_request", 900144, "The response_mode '%s' is not supported. Use query or form_post.", show(q.Get("response_mode")))
	}
	if q.Get("response_type") != "code" {
		return refuse("unsupported_response_type", 700051, "The response_type '%s' is not enabled. Use code.", show(q.Get("response_type")))
	}
	if q.Has("request") || q.Has("request_uri") {
		return refuse("request_not_supported", 90014, "Request objects are not supported.")
	}
	if err := req.parseChallenge(q); err != nil {
		return err
	}
	req.Nonce, req.LoginHint, req.ClientInfo = q.Get("nonce"), q.Get("login_hint"), q.Get("client_info") == "1"
	if len(req.Nonce) > maxNonce || len(req.LoginHint) > maxNonce {
		return refuse("invalid_request", 90014, "The parameter 'nonce' or 'login_hint' is too long.")
	}
	switch p := q.Get("prompt"); p {
	case "", "login", "select_account", "none", "consent":
		req.Prompt = p
	default:
		return refuse("invalid_request", 90023, "Unsupported 'prompt' value '%s'. Use login, select_account, consent or none.", show(p))
	}
	if v := q.Get("max_age"); v != "" {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return refuse("invalid_request", 90014, "The parameter 'max_age' must be a number of seconds.")
		}
		req.MaxAge = time.Duration(n) * time.Second
	}
	if _, err := parseClaims(q.Get("claims")); err != nil {
		return err
	}
	text := q.Get("scope")
	if text == "" {
		return refuse("invalid_request", 900144, "The request must contain the following parameter: 'scope'.")
	}
	var err error
	req.Scope, err = s.parseScope(text, req.Client.AppID)
	return err
}

// parseChallenge wants PKCE with S256 from every public client (RFC 7636, RFC
// 9700 section 2.1.1); a confidential client may use it.
func (req *Authorize) parseChallenge(q url.Values) error {
	challenge, method := q.Get("code_challenge"), q.Get("code_challenge_method")
	if challenge == "" && method == "" && !req.Client.Public {
		return nil
	}
	if challenge == "" {
		return refuse("invalid_request", 9002325, "Proof Key for Code Exchange is required for this client. Send code_challenge and code_challenge_method=S256.")
	}
	if method != "S256" {
		return refuse("invalid_request", 501482, "The code_challenge_method must be S256.")
	}
	if !challengeShape(challenge) {
		return refuse("invalid_request", 501491, "The code_challenge is malformed: it is base64url of SHA-256, 43 characters.")
	}
	req.Challenge = challenge
	return nil
}

func challengeShape(c string) bool {
	return len(c) == 43 && !strings.ContainsFunc(c, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// redirectAllowed compares a redirect URI with the registered ones: exactly, or,
// for a public client that registered a loopback http address, with any port
// (RFC 8252 section 7.3).
func redirectAllowed(app directory.Application, uri string) bool {
	if uri == "" || len(uri) > maxURI || strings.ContainsFunc(uri, func(r rune) bool { return r <= 0x20 || r >= 0x7f }) {
		return false
	}
	if slices.Contains(app.RedirectURIs, uri) {
		_, safe := parseRedirect(uri)
		return safe
	}
	if !app.Public {
		return false
	}
	got, ok := parseRedirect(uri)
	if !ok || !loopback(got) {
		return false
	}
	return slices.ContainsFunc(app.RedirectURIs, func(r string) bool {
		have, ok := parseRedirect(r)
		return ok && loopback(have) && strings.TrimSuffix(have.Path, "/") == strings.TrimSuffix(got.Path, "/") && have.RawQuery == got.RawQuery
	})
}

// parseRedirect parses an http or https URI without user, fragment or oddities.
func parseRedirect(uri string) (*url.URL, bool) {
	if strings.ContainsAny(uri, "\\#@") {
		return nil, false
	}
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.User != nil || u.Opaque != "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, false
	}
	if u.Scheme == "http" && !loopback(u) {
		return nil, false
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, false
		}
	}
	return u, true
}

func loopback(u *url.URL) bool {
	switch u.Hostname() {
	case "localhost", "127.0.0.1", "::1":
		return u.Scheme == "http"
	}
	return false
}

// Origin is the origin of the redirect URI, for the page's security policy.
func (req Authorize) Origin() string {
	u, ok := parseRedirect(req.RedirectURI)
	if !ok {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// Foreign reports whether somebody registered the client in this directory. A
// signed-in browser answers such a client only when the person says so on a page
// that names it and where the answer goes, whatever was consented to before: a
// link would do otherwise.
func (req Authorize) Foreign() bool { return !req.Client.BuiltIn }

// Need says what a person must do before the request can be answered.
type Need uint8

// The needs.
const (
	Nothing Need = iota
	SignIn       // give the password (again)
	Choose       // confirm which account
	Agree        // consent to what the client asks for
)

// Needs judges the request against the sign-in session and the step that was
// proven for it. The session is nil when nobody is signed in.
func (s *Service) Needs(req Authorize, session *signin.Session, step signin.Step, at time.Time) Need {
	switch {
	case session == nil:
		return SignIn
	case req.Prompt == "login" && step != signin.StepPassword:
		return SignIn
	case req.MaxAge >= 0 && at.Sub(session.SignedInAt) > req.MaxAge && step != signin.StepPassword:
		return SignIn
	case (req.Prompt == "select_account" || req.Foreign()) && step == "":
		return Choose
	case step != signin.StepConsent && len(s.Unconsented(req.Client.AppID, session.UserID, req.Scope)) > 0:
		return Agree
	}
	d := s.evaluate(session.UserID, req.Scope, session.SignedInAt, session.Factors, at)
	if !d.Allowed && d.Missing == conditional.SignInFrequency && step != signin.StepPassword {
		return SignIn
	}
	return Nothing
}

// Grant answers an authorization request for a signed-in user with a code, good
// for one redemption within five minutes. Policy is asked here already, so that
// the person is told at once; it is asked again at redemption.
func (s *Service) Grant(ctx context.Context, by audit.By, req Authorize, session signin.Session) (string, error) {
	user, err := s.account(session.UserID, session.SignedInAt)
	if err != nil {
		return "", err
	}
	by.Principal, by.Type, by.Name, by.Client, by.Session = user.ID, audit.User, user.UPN, req.Client.AppID, session.ID
	if err := s.policyError(req.Scope, s.evaluate(user.ID, req.Scope, session.SignedInAt, session.Factors, by.At)); err != nil {
		return "", s.denied(ctx, by, req.Scope, "authorization_code", err)
	}
	if missing := s.Unconsented(req.Client.AppID, user.ID, req.Scope); len(missing) > 0 {
		return "", s.denied(ctx, by, req.Scope, "authorization_code", unconsented(req.Client, req.Scope, missing))
	}
	code, err := s.random()
	if err != nil {
		return "", err
	}
	family, err := s.guid()
	if err != nil {
		return "", err
	}
	c := Code{
		Hash: s.cfg.Hash("authorization code", code), Client: req.Client.AppID, RedirectURI: req.RedirectURI, Challenge: req.Challenge, Scope: req.Scope.Text, Nonce: req.Nonce,
		UserID: user.ID, Session: session.ID, Factors: session.Factors, SignedInAt: session.SignedInAt, Ends: by.At.Add(codeLife), Family: family,
	}
	err = s.cfg.Write(ctx, func(tx Tx) error {
		live, err := tx.CountAuthorizationCodes(user.ID, by.At)
		if err != nil {
			return err
		}
		if live >= userCodes {
			return fault.New(fault.Exhausted, "TooManyCodes", "too many sign-ins of %s wait for their programs.", user.UPN).WithRemedy("Try again in a few minutes.")
		}
		if err := tx.PutAuthorizationCode(c); err != nil {
			return err
		}
		return tx.Audit(by, audit.Event{Type: "authorize.code", Outcome: audit.Success, Target: req.Client.AppID, Detail: map[string]string{"scope": req.Scope.Text}})
	})
	return code, err
}

// RedirectError makes the parameters of an error answer to the redirect URI.
func RedirectError(err error, by audit.By) url.Values {
	v := url.Values{}
	var e *Error
	if converted := errFault(err); asError(converted, &e) {
		v.Set("error", e.Code)
		v.Set("error_description", e.Description()+" Correlation ID: "+by.CorrelationID)
		v.Set("error_codes", strconv.Itoa(e.Number))
		if e.Suberror != "" {
			v.Set("error_subcode", e.Suberror)
		}
		if e.Claims != "" {
			v.Set("claims", e.Claims)
		}
		return v
	}
	f := fault.As(err)
	v.Set("error", "server_error")
	if f.Kind == fault.Exhausted || f.Kind == fault.Unavailable {
		v.Set("error", "temporarily_unavailable")
	}
	v.Set("error_description", f.Public()+" Correlation ID: "+by.CorrelationID)
	return v
}

// Denied is the answer when a person or prompt=none does not let the request go on.
func Denied(prompt string, need Need) error {
	if prompt == "none" && need == Agree {
		e := refuse("interaction_required", 65001, "The user or administrator has not consented to what the application asks for. Send the request without prompt=none: the page asks for consent.")
		e.Suberror = "consent_required"
		return e
	}
	if prompt == "none" && need == Choose {
		return refuse("interaction_required", 65001, "The user has not confirmed the application, or means another account. Send the request without prompt=none.")
	}
	if prompt == "none" {
		e := refuse("login_required", 50058, "A silent sign-in request was sent but no user is signed in.")
		return e
	}
	return refuse("access_denied", 65004, "User declined the request.")
}
