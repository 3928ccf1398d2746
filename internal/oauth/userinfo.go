package oauth

import "sallyport/internal/audit"

// UserInfo is what a person's token says of him, by the names of OpenID Connect
// Core 1.0, section 5.1. Its sub is that of the id token.
type UserInfo struct {
	Subject           string `json:"sub"`
	Name              string `json:"name"`
	PreferredUsername string `json:"preferred_username"`
}

// UserInfo answers a caller whose token Authenticate has taken for Own.
func (s *Service) UserInfo(by audit.By) (UserInfo, error) {
	u, ok := s.cfg.Directory.User(by.Principal)
	if by.Type != audit.User || !ok {
		e := refuse("insufficient_scope", 65002, "The access token is an application's, which has no user info. Ask with a token that a person signed in for: scope=openid.")
		e.Status = 403
		return UserInfo{}, e
	}
	return UserInfo{Subject: u.ID, Name: u.DisplayName, PreferredUsername: u.UPN}, nil
}
