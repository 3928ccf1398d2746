package oauth

import (
	"context"
	"time"
)

// grantClient is the client credentials grant (RFC 6749 section 4.4): a service
// principal for itself. There is no refresh token; the grant is repeated.
func (s *Service) grantClient(ctx context.Context, x *exchange) (Answer, error) {
	if x.client.Public || x.proof == proofNone {
		return Answer{}, badClient(7000218, "The client credentials grant needs a confidential client with 'client_secret' or 'client_assertion'.")
	}
	if err := s.readScope(x, ""); err != nil {
		return Answer{}, err
	}
	app, err := s.servicePrincipal(x.client.AppID)
	if err != nil {
		return Answer{}, err
	}
	factor := "secret"
	if x.proof == proofKey {
		factor = "key"
	}
	return s.answer(ctx, x, session{grant: "client_credentials", app: app, isApp: true, factors: map[string]time.Time{factor: x.by.At}, signedInAt: x.by.At})
}
