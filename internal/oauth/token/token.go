package token

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"sallyport/internal/machine/protocol"
)

// maxToken bounds what is parsed: our own tokens stay far below it.
const maxToken = 16 << 10

// skew is how far a clock may differ between two servers of one deployment.
const skew = 5 * time.Minute

// Claims is the content of our access and id tokens, with Entra's names. Numbers
// are seconds, except IssuedMicros.
type Claims struct {
	Audience          string   `json:"aud"`
	Issuer            string   `json:"iss"`
	IssuedAt          int64    `json:"iat"`
	NotBefore         int64    `json:"nbf"`
	Expires           int64    `json:"exp"`
	Subject           string   `json:"sub"`
	ObjectID          string   `json:"oid"`
	TenantID          string   `json:"tid"`
	Version           string   `json:"ver"`
	ID                string   `json:"uti,omitempty"`
	IDType            string   `json:"idtyp,omitempty"` // "user" or "app"; access tokens only
	AppID             string   `json:"appid,omitempty"`
	AuthorizedParty   string   `json:"azp,omitempty"`
	AppIDACR          string   `json:"appidacr,omitempty"` // "0" public, "1" secret, "2" certificate
	UPN               string   `json:"upn,omitempty"`
	UniqueName        string   `json:"unique_name,omitempty"`
	PreferredUsername string   `json:"preferred_username,omitempty"`
	Name              string   `json:"name,omitempty"`
	Scope             string   `json:"scp,omitempty"`   // delegated permissions, separated by spaces
	Roles             []string `json:"roles,omitempty"` // application permissions
	Methods           []string `json:"amr,omitempty"`
	AuthTime          int64    `json:"auth_time,omitempty"`
	Nonce             string   `json:"nonce,omitempty"`
	Session           string   `json:"sid,omitempty"`
	Capabilities      []string `json:"xms_cc,omitempty"`
	// ManagedResource is the resource whose managed identity this is.
	ManagedResource string `json:"xms_mirid,omitempty"`
	// IssuedMicros is ours: the exact time of issue, compared with a principal's
	// NotBefore, for which whole seconds are too coarse.
	IssuedMicros int64 `json:"iat_us,omitempty"`
}

// Issued is the exact time of issue.
func (c Claims) Issued() time.Time { return time.UnixMicro(c.IssuedMicros).UTC() }

// Keys mints with one key and verifies with that key and those that are still
// trusted. It is safe for concurrent use when its randomness is.
type Keys struct {
	rand io.Reader
	now  atomic.Pointer[turn]
}

// turn is one state of the keys, between two rotations.
type turn struct {
	signer crypto.Signer // nil: nothing is minted
	head   string
	trust  map[string]*rsa.PublicKey
	set    KeySet
}

// KeySet is a JSON Web Key Set (RFC 7517).
type KeySet struct {
	Keys []Key `json:"keys"`
}

// Key is one RSA key of a set.
type Key struct {
	Type      string `json:"kty"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	ID        string `json:"kid"`
	Modulus   string `json:"n"`
	Exponent  string `json:"e"`
}

// New takes the signing key and further public keys that stay trusted during a
// rotation.
func New(rand io.Reader, signer crypto.Signer, also ...crypto.PublicKey) (*Keys, error) {
	k := &Keys{rand: rand}
	return k, k.Turn(signer, also...)
}

// Turn replaces all keys at once. Without a signer nothing is minted until the
// next turn; what the other keys have signed goes on being accepted.
func (k *Keys) Turn(signer crypto.Signer, also ...crypto.PublicKey) error {
	t := &turn{signer: signer, trust: map[string]*rsa.PublicKey{}}
	if signer != nil {
		also = append([]crypto.PublicKey{signer.Public()}, also...)
	}
	for _, pub := range also {
		r, ok := pub.(*rsa.PublicKey)
		if !ok || r.N.BitLen() < 2048 {
			return fmt.Errorf("token: a %T cannot sign RS256", pub)
		}
		id, err := protocol.Thumbprint(r)
		if err != nil {
			return fmt.Errorf("token: %w", err)
		}
		if t.trust[id] != nil {
			continue
		}
		t.trust[id] = r
		t.set.Keys = append(t.set.Keys, Key{
			Type: "RSA", Use: "sig", Algorithm: "RS256", ID: id,
			Modulus: encode(r.N.Bytes()), Exponent: encode(big.NewInt(int64(r.E)).Bytes()),
		})
	}
	if signer != nil {
		header, err := json.Marshal(map[string]string{"typ": "JWT", "alg": "RS256", "kid": t.set.Keys[0].ID})
		if err != nil {
			return fmt.Errorf("token: %w", err)
		}
		t.head = encode(header)
	}
	k.now.Store(t)
	return nil
}

// Set returns the public keys.
func (k *Keys) Set() KeySet { return k.now.Load().set }

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Mint signs the claims (RFC 7519, RS256).
func (k *Keys) Mint(c Claims) (string, error) {
	payload, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	t := k.now.Load()
	if t.signer == nil {
		return "", errors.New("token: no key is in use")
	}
	text := t.head + "." + encode(payload)
	sum := sha256.Sum256([]byte(text))
	sig, err := t.signer.Sign(k.rand, sum[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("token: sign: %w", err)
	}
	return text + "." + encode(sig), nil
}

// Expect says what a token must be. Every field is required but Own, which also
// takes a token that is for the client that it was issued to.
type Expect struct {
	Issuers   []string
	Audiences []string
	Own       bool
	Tenant    string
	At        time.Time
}

// ErrExpired is what Verify returns for a token that was right once.
var ErrExpired = errors.New("the token has expired")

// Verify checks signature, algorithm, key id, type, issuer, audience, tenant and
// times, and returns the claims.
func (k *Keys) Verify(text string, want Expect) (Claims, error) {
	c, err := k.read(text)
	if err != nil {
		return Claims{}, err
	}
	return c, c.check(want)
}

// VerifyHint checks what an id token still says when it has expired: that it was
// made here, for whom and from which sign-in (OpenID Connect RP-Initiated Logout
// 1.0, section 2). An access token is none.
func (k *Keys) VerifyHint(text string, want Expect) (Claims, error) {
	c, err := k.read(text)
	switch {
	case err != nil:
		return Claims{}, err
	case !contains(want.Issuers, c.Issuer), c.TenantID == "" || c.TenantID != want.Tenant:
		return Claims{}, errors.New("the token comes from another issuer")
	case c.IDType != "" || c.AppID != "" || c.Audience == "" || c.ObjectID == "":
		return Claims{}, errors.New("the token is no id token")
	}
	return c, nil
}

// read returns the claims of a token that one of our keys has signed.
func (k *Keys) read(text string) (Claims, error) {
	if len(text) > maxToken {
		return Claims{}, errors.New("the token is too long")
	}
	sig, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return Claims{}, fmt.Errorf("the token cannot be read: %w", err)
	}
	head := sig.Signatures[0].Protected
	pub, ok := k.now.Load().trust[head.KeyID]
	if !ok {
		return Claims{}, errors.New("the token is signed with an unknown key")
	}
	if typ, ok := head.ExtraHeaders["typ"].(string); !ok || typ != "JWT" {
		return Claims{}, errors.New("the token's type is not JWT")
	}
	payload, err := sig.Verify(pub)
	if err != nil {
		return Claims{}, errors.New("the token's signature does not verify")
	}
	var c Claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return Claims{}, errors.New("the token's claims cannot be read")
	}
	return c, nil
}

func (c Claims) check(want Expect) error {
	switch {
	case !contains(want.Issuers, c.Issuer):
		return errors.New("the token comes from another issuer")
	case !contains(want.Audiences, c.Audience) && !(want.Own && c.AppID != "" && c.Audience == c.AppID):
		return errors.New("the token is for another resource")
	case c.TenantID == "" || c.TenantID != want.Tenant:
		return errors.New("the token is of another tenant")
	case c.ObjectID == "" || c.IDType == "" || c.IssuedMicros == 0 || c.IssuedMicros/1_000_000 != c.IssuedAt:
		return errors.New("the token is no access token")
	case c.Expires == 0 || !want.At.Before(time.Unix(c.Expires, 0)):
		return ErrExpired
	case time.Unix(c.NotBefore, 0).After(want.At.Add(skew)), time.Unix(c.IssuedAt, 0).After(want.At.Add(skew)):
		return errors.New("the token is not valid yet")
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s && s != "" {
			return true
		}
	}
	return false
}
