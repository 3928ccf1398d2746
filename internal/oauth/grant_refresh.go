package oauth

import (
	"context"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/oauth/token"
)

// grantRefresh redeems a refresh token. For a certificate the token is left as
// it is, so that a certificate costs one insert and parallel runs do not compete;
// otherwise it rotates (RFC 9700 section 4.14).
func (s *Service) grantRefresh(ctx context.Context, x *exchange) (Answer, error) {
	text := x.get("refresh_token")
	if text == "" {
		return Answer{}, missing("refresh_token")
	}
	id, ok := token.ParseRefresh(text)
	if !ok {
		return Answer{}, refuse("invalid_grant", 9002313, "Invalid request. The refresh token is malformed. Run: sally login")
	}
	presented := s.cfg.Hash("refresh token", text)
	var f token.Family
	var found bool
	err := s.cfg.Read(ctx, func(tx Tx) error {
		var err error
		f, found, err = tx.RefreshFamily(id)
		return err
	})
	if err != nil {
		return Answer{}, err
	}
	if !found || f.Client != x.client.AppID {
		return Answer{}, refuse("invalid_grant", 700003, "The refresh token is unknown or belongs to another client. Run: sally login")
	}
	n := session{grant: "refresh_token", user: directory.User{ID: f.Principal}, id: f.Session, factors: f.Factors, signedInAt: f.SignedInAt, until: f.Until(), family: &f}
	verdict := f.Judge(presented, x.by.At)
	if verdict != token.Current && verdict != token.Repeated {
		return Answer{}, s.refreshRefused(ctx, n.acting(x.by), f, verdict)
	}
	if err := s.readScope(x, f.Scope); err != nil {
		return Answer{}, err
	}
	if x.cert || x.scope.Resource == SSH {
		return s.answer(ctx, x, n)
	}
	return s.rotate(ctx, x, n, text)
}

// rotate judges the account first, then spends the token by compare-and-swap.
// The successor is derived from the token that was presented, under the hash
// key: whoever repeats the token within the window gets the same successor,
// although only hashes are stored.
func (s *Service) rotate(ctx context.Context, x *exchange, n session, text string) (Answer, error) {
	if _, err := s.admit(x, &n); err != nil {
		return Answer{}, s.denied(ctx, n.acting(x.by), x.scope, n.grant, err)
	}
	if _, err := s.permissions(x, n); err != nil { // before the token is spent
		return Answer{}, s.denied(ctx, n.acting(x.by), x.scope, n.grant, err)
	}
	presented := s.cfg.Hash("refresh token", text)
	successor := token.Format(n.family.ID, s.cfg.Hash("refresh successor", text))
	by, verdict := n.acting(x.by), token.Unknown
	err := s.cfg.Write(ctx, func(tx Tx) error {
		f, found, err := tx.RefreshFamily(n.family.ID)
		if err != nil || !found {
			return err
		}
		if verdict = f.Judge(presented, by.At); verdict == token.Current {
			done, err := tx.RotateRefreshFamily(f.Rotate(s.cfg.Hash("refresh token", successor), by.At), presented)
			if err != nil {
				return err
			}
			if !done { // another run was faster: judge what it left
				if f, found, err = tx.RefreshFamily(n.family.ID); err != nil || !found {
					verdict = token.Unknown
					return err
				}
				verdict = f.Judge(presented, by.At)
			}
		}
		if verdict != token.Current && verdict != token.Repeated {
			return nil
		}
		return tx.Audit(by, audit.Event{Type: "token.issue", Outcome: audit.Success, Target: n.user.ID, Detail: n.reported(map[string]string{"grant": n.grant, "scope": x.scope.Text, "family": f.ID})})
	})
	if err != nil {
		return Answer{}, err
	}
	if verdict != token.Current && verdict != token.Repeated {
		return Answer{}, s.refreshRefused(ctx, by, *n.family, verdict)
	}
	n.refresh = successor
	return s.bearer(ctx, x, n, x.scope.Audience)
}

// refreshRefused ends a family whose spent token came again, and says why.
func (s *Service) refreshRefused(ctx context.Context, by audit.By, f token.Family, verdict token.Verdict) error {
	switch verdict {
	case token.Expired:
		return refuse("invalid_grant", 700082, "The refresh token has expired due to inactivity or age. Run: sally login")
	case token.Ended:
		return refuse("invalid_grant", 50173, "The sign-in was ended (%s). Run: sally login", f.EndedFor)
	default:
	}
	err := s.cfg.Write(ctx, func(tx Tx) error {
		if err := tx.EndRefreshFamily(f.ID, "a spent refresh token was used again"); err != nil {
			return err
		}
		return tx.Audit(by, audit.Event{Type: "token.reuse", Outcome: audit.Denied, Target: f.Principal, Detail: map[string]string{"family": f.ID}})
	})
	if err != nil {
		return err
	}
	return refuse("invalid_grant", 50173, "The refresh token was used before; as that may be theft, the whole sign-in was ended. Run: sally login")
}
