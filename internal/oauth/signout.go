package oauth

import (
	"net/url"
	"strings"

	"sallyport/internal/oauth/token"
)

// SignOut is a request to end the sign-in of a browser (OpenID Connect
// RP-Initiated Logout 1.0, section 2).
type SignOut struct {
	// Session is the sign-in session that the id token of the request came from:
	// whoever holds that token is a program of this very sign-in. Empty: anybody's
	// link.
	Session string
	// Client is the program that asks, as far as it said so.
	Client string
	// Return is where the browser goes afterwards, with the state; empty: nowhere.
	// Stays says that the program asked to lead it to a place that is not its own.
	Return string
	Origin string // of Return, for a page's security policy
	State  string
	Stays  bool
	uri    string
}

// ParseSignOut understands a sign-out request. It refuses nothing: whoever wants
// to sign out can; what does not fit leads the browser nowhere. The address to
// return to must be one of the client's redirect URIs, and the client be named by
// an id token of ours, which may have expired, or by its id.
func (s *Service) ParseSignOut(q url.Values) SignOut {
	out := SignOut{Client: strings.ToLower(q.Get("client_id")), State: q.Get("state"), uri: q.Get("post_logout_redirect_uri")}
	if hint := q.Get("id_token_hint"); hint != "" {
		c, err := s.cfg.Tokens.VerifyHint(hint, token.Expect{Issuers: s.Issuers(), Tenant: s.cfg.Directory.Tenant().ID})
		switch {
		case err != nil:
		case out.Client != "" && out.Client != c.Audience:
			out.Client = "" // two programs at once are none
		default:
			out.Client, out.Session = c.Audience, c.Session
		}
	}
	if out.uri == "" {
		return out
	}
	app, found := s.cfg.Directory.Application(out.Client)
	if sp, has := s.cfg.Directory.ServicePrincipalByAppID(out.Client); has && !sp.Enabled { // as at /authorize: it was taken out of use
		found = false
	}
	if !found || !redirectAllowed(app, out.uri) || len(out.State) > maxState {
		out.Stays = true
		return out
	}
	u, ok := parseRedirect(out.uri)
	if !ok {
		out.Stays = true
		return out
	}
	out.Origin = u.Scheme + "://" + u.Host
	if out.State != "" {
		all := u.Query()
		all.Set("state", out.State)
		u.RawQuery = all.Encode()
	}
	out.Return = u.String()
	return out
}

// Parameters are what a form must carry for the same request; an id token is not
// written into a page.
func (o SignOut) Parameters() url.Values {
	v := url.Values{}
	if o.Return != "" {
		v.Set("client_id", o.Client)
		v.Set("post_logout_redirect_uri", o.uri)
		if o.State != "" {
			v.Set("state", o.State)
		}
	}
	return v
}
