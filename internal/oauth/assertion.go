package oauth

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"sallyport/internal/credential"
)

const maxAssertion = 32 << 10

// assertion is the payload of a client assertion (RFC 7523 section 3). az sends
// times with fractions.
type assertion struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  audience `json:"aud"`
	ID        string   `json:"jti"`
	Expires   float64  `json:"exp"`
	NotBefore float64  `json:"nbf"`
	IssuedAt  float64  `json:"iat"`
}

// audience is one text or a list (RFC 7519 section 4.1.3).
type audience []string

// UnmarshalJSON reads both forms.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

func parseAssertion(text string) (*jose.JSONWebSignature, error) {
	bad := badClient(50027, "The client assertion is not a JWT signed with RS256 or PS256.")
	if len(text) > maxAssertion {
		return nil, bad
	}
	sig, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.RS256, jose.PS256})
	if err != nil {
		bad.cause = err
		return nil, bad
	}
	return sig, nil
}

// assertedClient names the client of an assertion that comes without client_id;
// the name counts for nothing until the signature was checked.
func assertedClient(text string) string {
	if text == "" {
		return ""
	}
	sig, err := parseAssertion(text)
	if err != nil {
		return ""
	}
	var a assertion
	if json.Unmarshal(sig.UnsafePayloadWithoutVerification(), &a) != nil {
		return ""
	}
	return strings.ToLower(a.Subject)
}

// checkAssertion verifies a private_key_jwt: signed by a registered certificate,
// for this client and this server, not expired, used once.
func (s *Service) checkAssertion(ctx context.Context, x *exchange, text string) error {
	sig, err := parseAssertion(text)
	if err != nil {
		return err
	}
	certs, err := s.cfg.Clients.ClientCertificates(ctx, x.client.AppID)
	if err != nil {
		return err
	}
	cert, ok := addressed(certs, sig.Signatures[0].Protected, x.by.At)
	if !ok {
		return badClient(700027, "The certificate with which the assertion is signed is not registered for app '%s'. Its thumbprint is named in the header (x5t or x5t#S256); register it: sally ad sp credential reset --id %s --cert @FILE.", x.client.AppID, x.client.AppID)
	}
	if x.by.At.Before(cert.Start) || !x.by.At.Before(cert.End) {
		return badClient(700027, "The certificate of the assertion has expired or is not valid yet. Register a new one.")
	}
	registered, err := x509.ParseCertificate(cert.DER)
	if err != nil {
		return fmt.Errorf("oauth: registered certificate: %w", err)
	}
	key, ok := registered.PublicKey.(*rsa.PublicKey)
	if !ok || key.N.BitLen() < 2048 { // which none is registered with
		return errors.New("oauth: a registered certificate without an RSA key of 2048 bits")
	}
	payload, err := sig.Verify(key)
	if err != nil {
		return badClient(700027, "The client assertion failed signature validation.")
	}
	var a assertion
	if json.Unmarshal(payload, &a) != nil {
		return badClient(50027, "The client assertion's claims cannot be read.")
	}
	if err := s.judgeAssertion(x, a); err != nil {
		return err
	}
	id := sha256.Sum256([]byte(a.ID))
	fresh := false
	err = s.cfg.Write(ctx, func(tx Tx) error {
		var err error
		fresh, err = tx.UseClientAssertion(x.client.AppID, id[:], seconds(a.Expires).Add(clockLeeway))
		return err
	})
	if err == nil && !fresh {
		return badClient(700232, "The client assertion was used before. Sign a new one for each request.")
	}
	return err
}

func seconds(f float64) time.Time { return time.UnixMilli(int64(f * 1000)).UTC() }

// judgeAssertion checks the claims.
func (s *Service) judgeAssertion(x *exchange, a assertion) error {
	for _, f := range []float64{a.Expires, a.NotBefore, a.IssuedAt} {
		if math.IsNaN(f) || f < 0 || f > 1e11 {
			return badClient(50027, "The client assertion has an impossible time.")
		}
	}
	at := x.by.At
	switch {
	case !strings.EqualFold(a.Issuer, x.client.AppID) || !strings.EqualFold(a.Subject, x.client.AppID):
		return badClient(700021, "The client assertion's issuer and subject must both be the client id '%s'.", x.client.AppID)
	case !slices.ContainsFunc([]string(a.Audience), func(aud string) bool { return s.ownAudience(x.Authority, aud) }):
		return badClient(700023, "The client assertion's audience is not this server. Its 'aud' must be %stoken.", s.base(x.Authority))
	case a.Expires == 0 || !at.Before(seconds(a.Expires)):
		return badClient(700024, "The client assertion has expired, or has no 'exp'. Check the clock of the client.")
	case seconds(a.Expires).Sub(at) > assertLife+clockLeeway:
		return badClient(700024, "The client assertion lives too long. Let it expire within an hour.")
	case a.NotBefore != 0 && seconds(a.NotBefore).After(at.Add(clockLeeway)), a.IssuedAt != 0 && seconds(a.IssuedAt).After(at.Add(clockLeeway)):
		return badClient(700024, "The client assertion is not valid yet. Check the clock of the client.")
	case a.ID == "" || len(a.ID) > 512:
		return badClient(50027, "The client assertion needs a 'jti' of at most 512 characters.")
	}
	return nil
}

// ownAudience accepts our issuers and token endpoints. Which tenant alias the
// client used does not matter: all of them are this server.
func (s *Service) ownAudience(a Authority, aud string) bool {
	t := s.cfg.Directory.Tenant()
	segments := append([]string{a.Segment, t.ID, "common", "organizations"}, t.Domains...)
	own := append(s.Issuers(), s.cfg.URL+"/adfs/oauth2/token")
	for _, seg := range segments {
		own = append(own, s.cfg.URL+"/"+seg+"/oauth2/v2.0/token", s.cfg.URL+"/"+seg+"/oauth2/token", s.cfg.URL+"/"+seg+"/v2.0")
	}
	return slices.Contains(own, aud)
}

// addressed finds the certificate that the header names. The key in the header
// itself (x5c, jwk) is never used. An application and its service principal may both
// have it, each for a time of its own: one whose time is now comes before the others.
func addressed(certs []credential.Certificate, h jose.Header, at time.Time) (found credential.Certificate, ok bool) {
	named := func(header string) string {
		text, ok := h.ExtraHeaders[jose.HeaderKey(header)].(string)
		if !ok {
			return ""
		}
		// RFC 7515 has the URL's alphabet without padding; MSAL for Go sends the other.
		b, err := base64.RawURLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "=")))
		if err != nil {
			return ""
		}
		return hex.EncodeToString(b)
	}
	long, short := named("x5t#S256"), named("x5t")
	for _, c := range certs {
		if long != "" && long == c.SHA256 || long == "" && short != "" && short == c.SHA1 {
			found, ok = c, true
			if !at.Before(c.Start) && at.Before(c.End) {
				break
			}
		}
	}
	return found, ok
}
