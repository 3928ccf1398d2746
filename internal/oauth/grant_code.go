package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
)

// grantCode redeems an authorization code (RFC 6749 section 4.1.3): once, by the
// client and for the redirect URI it was made for, with the PKCE verifier. The
// code is spent before anything else is judged.
func (s *Service) grantCode(ctx context.Context, x *exchange) (Answer, error) {
	text := x.get("code")
	if text == "" {
		return Answer{}, missing("code")
	}
	spent := errCodeSpent()
	if len(text) != 43 {
		return Answer{}, spent
	}
	var code Code
	var found, fresh bool
	err := s.cfg.Write(ctx, func(tx Tx) error {
		var err error
		code, found, fresh, err = tx.TakeAuthorizationCode(s.cfg.Hash("authorization code", text))
		if err != nil || !found || fresh {
			return err
		}
		// RFC 6749 section 4.1.2: a second use ends what the first one gave.
		if err := tx.EndRefreshFamily(code.Family, "code used twice"); err != nil {
			return err
		}
		return tx.Audit(x.by, audit.Event{Type: "authorize.code", Outcome: audit.Denied, Target: code.UserID, Detail: map[string]string{"reason": "used twice"}})
	})
	if err != nil {
		return Answer{}, err
	}
	if !found || !fresh || !x.by.At.Before(code.Ends) {
		return Answer{}, spent
	}
	if err := checkCode(x, code); err != nil {
		return Answer{}, err
	}
	if err := s.readScope(x, code.Scope); err != nil {
		return Answer{}, err
	}
	return s.answer(ctx, x, session{
		grant: "authorization_code", user: directory.User{ID: code.UserID}, id: code.Session, factors: code.Factors, signedInAt: code.SignedInAt, familyID: code.Family, code: code.Hash, nonce: code.Nonce,
	})
}

func errCodeSpent() *Error {
	return refuse("invalid_grant", 70008, "The provided authorization code is unknown, has expired or was used before. Start the sign-in again.")
}

func checkCode(x *exchange, code Code) error {
	if code.Client != x.client.AppID {
		return refuse("invalid_grant", 700005, "The provided authorization code is intended to be used by another client.")
	}
	if code.RedirectURI != x.get("redirect_uri") {
		return refuse("invalid_grant", 500112, "The reply address of the token request does not match that of the authorization request.")
	}
	verifier := x.get("code_verifier")
	if code.Challenge == "" {
		if verifier != "" {
			return refuse("invalid_grant", 501481, "The code_verifier belongs to no code_challenge: the authorization request had none.")
		}
		return nil
	}
	if !verifierShape(verifier) {
		return refuse("invalid_grant", 501481, "The code_verifier is missing or malformed: 43 to 128 unreserved characters (RFC 7636).")
	}
	sum := sha256.Sum256([]byte(verifier))
	if subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(code.Challenge)) != 1 {
		return refuse("invalid_grant", 501481, "The code_verifier does not match the code_challenge supplied in the authorization request.")
	}
	return nil
}

// verifierShape is RFC 7636 section 4.1.
func verifierShape(v string) bool {
	return len(v) >= 43 && len(v) <= 128 && !strings.ContainsFunc(v, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("-._~", r)
	})
}
