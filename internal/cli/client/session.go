package client

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"sallyport/internal/fault"
)

// renewBefore is how much life a cached access token must have left.
const renewBefore = 5 * time.Minute

type tokenCache struct {
	Entries []tokenEntry `json:"entries"`
}

// tokenEntry is what one identity can prove on one server.
type tokenEntry struct {
	Server  string  `json:"server"`
	Tenant  string  `json:"tenant"`
	Name    string  `json:"name"`
	Type    string  `json:"type"`
	Refresh string  `json:"refresh,omitempty"`
	Secret  Secret  `json:"credential,omitzero"`
	Access  []Token `json:"access,omitempty"`
}

// Token is an access token for one scope.
type Token struct {
	Scope   string    `json:"scope"`
	Text    string    `json:"token"`
	Expires time.Time `json:"expires"`
}

func (c *tokenCache) find(a Account) *tokenEntry {
	for i := range c.Entries {
		e := &c.Entries[i]
		if e.Server == a.Server && e.Type == a.User.Type && strings.EqualFold(e.Name, a.User.Name) && strings.EqualFold(e.Tenant, a.TenantID) {
			return e
		}
	}
	return nil
}

func (e *tokenEntry) put(t Token) {
	kept := []Token{t}
	for _, old := range e.Access {
		if old.Scope != t.Scope {
			kept = append(kept, old)
		}
	}
	e.Access = kept
}

func (e *tokenEntry) fresh(scope string, now time.Time) (Token, bool) {
	for _, t := range e.Access {
		if t.Scope == scope && t.Expires.Sub(now) > renewBefore {
			return t, true
		}
	}
	return Token{}, false
}

// Session acts as one account. It is safe for concurrent use.
type Session struct {
	server  *Server
	account Account
}

// Open returns the session of an account of the profile.
func Open(cfg Config, p Profile, a Account) (*Session, error) {
	r, ok := p.Record(a.Server)
	if !ok {
		return nil, ErrNoToken()
	}
	s, err := Resume(cfg, r)
	if err != nil {
		return nil, err
	}
	return &Session{server: s, account: a}, nil
}

// Server returns the session's server.
func (s *Session) Server() *Server { return s.server }

// Account returns the session's account.
func (s *Session) Account() Account { return s.account }

// As returns the same session in another account's place.
func (s *Server) As(a Account) *Session { return &Session{server: s, account: a} }

// Keep stores what a sign-in proved, so that later commands can go on with it.
func (s *Session) Keep(ctx context.Context, g Grant, secret Secret, scope string) error {
	return s.server.cfg.Folder.updateTokens(ctx, func(c *tokenCache) (bool, error) {
		e := c.find(s.account)
		if e == nil {
			c.Entries = append(c.Entries, tokenEntry{Server: s.account.Server, Tenant: s.account.TenantID, Name: s.account.User.Name, Type: s.account.User.Type})
			e = &c.Entries[len(c.Entries)-1]
		}
		e.Refresh, e.Secret, e.Access = g.Refresh, secret, nil
		if g.TokenType != tokenTypeSSHCert && scope != s.server.SSHScope() && !secret.Managed {
			e.put(s.tokenOf(g, scope))
		}
		return true, nil
	})
}

func (s *Session) tokenOf(g Grant, scope string) Token {
	return Token{Scope: scope, Text: g.AccessToken, Expires: s.server.cfg.Now().Add(time.Duration(g.ExpiresIn) * time.Second).UTC().Truncate(time.Second)}
}

// Forget removes every token of the accounts' owners from the folder.
func (f *Folder) Forget(ctx context.Context, match func(server, name string) bool) error {
	return f.updateTokens(ctx, func(c *tokenCache) (bool, error) {
		kept := c.Entries[:0:0]
		for _, e := range c.Entries {
			if !match(e.Server, e.Name) {
				kept = append(kept, e)
			}
		}
		changed := len(kept) != len(c.Entries)
		c.Entries = kept
		return changed, nil
	})
}

// Access returns an access token for a scope: from the cache, or renewed under
// the lock, so that processes side by side renew once. stale names a token text
// that the server has refused; empty for none.
func (s *Session) Access(ctx context.Context, scope, stale string) (Token, error) {
	now := s.server.cfg.Now()
	var c tokenCache
	if err := s.server.cfg.Folder.load(tokensFile, &c); err != nil {
		return Token{}, err
	}
	if e := c.find(s.account); e != nil && e.Secret.Managed {
		// The machine keeps its tokens, and says anew each time who may have them.
		g, err := s.server.Managed(ctx, scope, nil)
		return s.tokenOf(g, scope), err
	} else if e != nil {
		if t, ok := e.fresh(scope, now); ok && t.Text != stale {
			return t, nil
		}
	}
	var t Token
	err := s.server.cfg.Folder.updateTokens(ctx, func(c *tokenCache) (bool, error) {
		e := c.find(s.account)
		if e == nil {
			return false, ErrNoToken()
		}
		if held, ok := e.fresh(scope, now); ok && held.Text != stale {
			t = held
			return false, nil
		}
		g, err := s.redeem(ctx, e, scope, nil)
		if err != nil {
			return false, err
		}
		t = s.tokenOf(g, scope)
		e.put(t)
		return true, nil
	})
	return t, err
}

// redeem proves the identity again, silently. It keeps a rotated refresh token
// in e; the caller saves e.
func (s *Session) redeem(ctx context.Context, e *tokenEntry, scope string, extra url.Values) (Grant, error) {
	if e.Secret.Managed {
		return s.server.Managed(ctx, scope, extra)
	}
	if e.Type == TypeServicePrincipal {
		return s.server.ClientCredentials(ctx, e.Tenant, e.Name, e.Secret, scope, extra)
	}
	if e.Refresh == "" {
		return Grant{}, ErrNoToken()
	}
	form := userForm(grantRefresh, scope, extra)
	form.Set("refresh_token", e.Refresh)
	g, err := s.server.token(ctx, e.Tenant, form)
	var oe *OAuthError
	if errors.As(err, &oe) && oe.Code == "invalid_grant" && !oe.NeedsInteraction() {
		return Grant{}, fault.Wrap(err, fault.Unauthenticated, "SignInAgain", "%s", oe.Error()).WithRemedy("Please run: sally login")
	}
	if err == nil && g.Refresh != "" {
		e.Refresh = g.Refresh
	}
	return g, err
}

// CertificateRequest asks for an OpenSSH certificate instead of a token.
type CertificateRequest struct {
	JWK     string // req_cnf: the public key
	KeyID   string // opaque
	Machine string // machine id that the certificate shall be good for only; may be empty
}

// Form returns the additional fields of the token request.
func (r CertificateRequest) Form() url.Values {
	f := url.Values{"token_type": {tokenTypeSSHCert}, "req_cnf": {r.JWK}, "key_id": {r.KeyID}}
	if r.Machine != "" {
		f.Set("machine", r.Machine)
	}
	return f
}

// Certificate asks for a certificate silently. An *OAuthError that
// NeedsInteraction is for StepUp.
func (s *Session) Certificate(ctx context.Context, r CertificateRequest) (Grant, error) {
	var g Grant
	err := s.server.cfg.Folder.updateTokens(ctx, func(c *tokenCache) (bool, error) {
		e := c.find(s.account)
		if e == nil {
			return false, ErrNoToken()
		}
		before := e.Refresh
		var err error
		g, err = s.redeem(ctx, e, s.server.SSHScope(), r.Form())
		return e.Refresh != before, err
	})
	if err != nil {
		return Grant{}, err
	}
	return g, certificateOnly(g)
}

func certificateOnly(g Grant) error {
	if g.TokenType != tokenTypeSSHCert {
		return fault.New(fault.Unavailable, "BadCertificate", "the server answered a request for a certificate with a token of type %q", g.TokenType)
	}
	return nil
}

// StepUp asks for the same certificate through a sign-in page, where the person
// can do what the policy asks for. Only the account's own person may answer.
func (s *Session) StepUp(ctx context.Context, r CertificateRequest, page Interactive, browser bool) (Grant, error) {
	page.Scope, page.Extra = s.server.SSHScope(), r.Form()
	page.Tenant, page.Hint = s.account.TenantID, s.account.User.Name
	flow := s.server.Device
	if browser {
		flow = s.server.Browser
	}
	g, id, err := flow(ctx, page)
	if err != nil {
		return Grant{}, err
	}
	if s.account.ObjectID != "" && !strings.EqualFold(id.ObjectID, s.account.ObjectID) || !strings.EqualFold(id.Name, s.account.User.Name) {
		return Grant{}, fault.New(fault.Forbidden, "OtherPerson", "%s signed in, but this command runs for %s", id.Name, s.account.User.Name).
			WithRemedy("Sign in as the same person, or run: sally login")
	}
	if g.Refresh != "" {
		if err := s.Keep(ctx, g, Secret{}, s.server.SSHScope()); err != nil {
			return Grant{}, err
		}
	}
	return g, certificateOnly(g)
}

// Identify reads who a person's grant is for.
func (s *Server) Identify(g Grant) (Identity, error) { return s.identify(g, "") }
