package oauth

import (
	"context"
	"errors"
	"strings"

	"sallyport/internal/audit"
)

// The device grant has a short name too, which older clients send.
const (
	grantDevice      = "urn:ietf:params:oauth:grant-type:device_code"
	grantDeviceShort = "device_code"
)

// Answer is a token answer. ExpiresIn is a number: az fails on a text.
type Answer struct {
	TokenType    string `json:"token_type"`
	Scope        string `json:"scope"`
	ExpiresIn    int64  `json:"expires_in"`
	ExtExpiresIn int64  `json:"ext_expires_in"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
	ClientInfo   string `json:"client_info,omitempty"`
}

// Token answers a token request. Refusals are *Error; a fault of another kind is
// the server's own trouble.
func (s *Service) Token(ctx context.Context, by audit.By, r Request) (Answer, error) {
	x, err := s.authenticateClient(ctx, by, r)
	if err != nil {
		return Answer{}, s.deniedClient(ctx, by, r, errFault(err))
	}
	if err := x.readType(); err != nil {
		return Answer{}, err
	}
	answer, err := s.dispatch(ctx, x)
	return answer, errFault(err)
}

// dispatch names every grant; what it does not name is refused.
func (s *Service) dispatch(ctx context.Context, x *exchange) (Answer, error) {
	switch g := x.get("grant_type"); g {
	case "authorization_code":
		return s.grantCode(ctx, x)
	case "refresh_token":
		return s.grantRefresh(ctx, x)
	case "password":
		return s.grantPassword(ctx, x)
	case "client_credentials":
		return s.grantClient(ctx, x)
	case grantDevice, grantDeviceShort:
		return s.grantDevice(ctx, x)
	case "":
		return Answer{}, missing("grant_type")
	default:
		return Answer{}, refuse("unsupported_grant_type", 70003, "The app requested an unsupported grant type '%s'.", show(g))
	}
}

// readType understands token_type, which only az sends: ssh-cert asks for a
// certificate. An unknown type is refused, not taken for Bearer.
func (x *exchange) readType() error {
	switch t := x.get("token_type"); t {
	case "", "Bearer", "bearer":
	case "ssh-cert":
		x.cert = true
	default:
		return refuse("invalid_request", 9002330, "The token_type '%s' is not supported. Use Bearer or ssh-cert.", show(t))
	}
	_, err := parseClaims(x.get("claims"))
	return err
}

// readScope reads the request's scope, or takes remembered where it has none.
func (s *Service) readScope(x *exchange, remembered string) error {
	text := x.get("scope")
	if text == "" {
		text = remembered
	}
	if text == "" {
		if resource := x.get("resource"); resource != "" { // the form of version 1
			text = resource + "/.default openid offline_access"
		}
	}
	if text == "" {
		return missing("scope")
	}
	scope, err := s.parseScope(text, x.client.AppID)
	if err != nil {
		return err
	}
	if x.cert && scope.Resource != SSH {
		return refuse("invalid_scope", 70011, "Certificates are issued for the SSH resource only. Ask for the scope %s.", s.cfg.Cloud.Scope())
	}
	x.scope = scope
	return nil
}

// deniedClient records a client that could not prove itself.
func (s *Service) deniedClient(ctx context.Context, by audit.By, r Request, err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Status != 401 {
		return err
	}
	by.Client = show(strings.ToLower(r.get("client_id")))
	event := audit.Event{Type: "signin.client", Outcome: audit.Denied, Target: by.Client, Detail: map[string]string{"code": e.Description()}}
	if w := s.recordRefusal(ctx, by, event); w != nil {
		return w
	}
	return err
}

func asError(err error, into **Error) bool { return errors.As(err, into) }
