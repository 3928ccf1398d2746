package oauth

import (
	"context"
	"time"

	"sallyport/internal/signin"
)

// grantPassword is the resource owner password grant (RFC 6749 section 4.3), for
// public clients only: az login -u -p.
func (s *Service) grantPassword(ctx context.Context, x *exchange) (Answer, error) {
	for _, name := range []string{"username", "password"} {
		if x.get(name) == "" {
			return Answer{}, missing(name)
		}
	}
	if !x.client.Public {
		return Answer{}, refuse("unauthorized_client", 7000218, "The password grant is for public clients only.")
	}
	if err := s.settings().mayUsePassword(); err != nil {
		return Answer{}, s.switchedOff(ctx, x, "password", err)
	}
	if err := s.readScope(x, ""); err != nil {
		return Answer{}, err
	}
	user, err := s.cfg.People.Check(ctx, x.by, x.get("username"), x.get("password"))
	if err != nil {
		return Answer{}, errFault(err)
	}
	return s.answer(ctx, x, session{grant: "password", user: user, factors: map[string]time.Time{signin.Password: x.by.At}, signedInAt: x.by.At})
}
