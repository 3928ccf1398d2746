package protocol

import (
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
)

// JoinToken is the text that lets a machine join: where, whom to trust, and the
// secret. It is one line of [A-Za-z0-9._~:/#-].
type JoinToken struct {
	URL    string // the server's https URL, without a trailing slash
	Pin    string // thumbprint of the manifest key
	Secret string // 32 random bytes, base64url
}

var errJoinToken = errors.New("this is no join token: it looks like https://server#thumbprint#secret")

// String returns the token as people copy it.
func (t JoinToken) String() string { return t.URL + "#" + t.Pin + "#" + t.Secret }

// ParseJoinToken reads a token. The error never holds a part of the text.
func ParseJoinToken(text string) (JoinToken, error) {
	parts := strings.Split(strings.TrimSpace(text), "#")
	if len(parts) != 3 || len(text) > 2048 {
		return JoinToken{}, errJoinToken
	}
	t := JoinToken{URL: strings.TrimSuffix(parts[0], "/"), Pin: parts[1], Secret: parts[2]}
	u, err := url.Parse(t.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Trim(t.URL, urlAlphabet) != "" {
		return JoinToken{}, errJoinToken
	}
	if len(t.Pin) != 43 || len(t.Secret) != 43 || strings.Trim(t.Pin+t.Secret, base64Alphabet) != "" {
		return JoinToken{}, errJoinToken
	}
	return t, nil
}

const (
	base64Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	urlAlphabet    = base64Alphabet + ".~:/"
)

// Pin returns the thumbprint of the manifest key that travels with s.
func (s SignedManifest) Pin() (string, error) {
	pub, err := x509.ParsePKIXPublicKey(s.ManifestKey)
	if err != nil {
		return "", err
	}
	return Thumbprint(pub)
}
