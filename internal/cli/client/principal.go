package client

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // x5t is defined over SHA-1 (RFC 7515 4.1.7); it names, it does not protect
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"sallyport/internal/fault"
)

const assertionLife = 10 * time.Minute

// Secret proves a service principal: a client secret, a PEM file with a private
// key and its certificate, or the machine that this runs on.
type Secret struct {
	Text string `json:"secret,omitempty"`
	File string `json:"file,omitempty"`
	// Managed says that the machine proves it: nothing is kept here.
	Managed bool `json:"managed,omitempty"`
}

// ClientCredentials signs a service principal in (RFC 6749 4.4, RFC 7523).
func (s *Server) ClientCredentials(ctx context.Context, tenant, appID string, secret Secret, scope string, extra url.Values) (Grant, error) {
	e, err := s.Endpoints(ctx, tenant, false)
	if err != nil {
		return Grant{}, err
	}
	form := url.Values{"grant_type": {grantClient}, "client_id": {appID}, "scope": {scope}}
	for k, v := range extra {
		form[k] = v
	}
	if secret.File == "" {
		form.Set("client_secret", secret.Text)
		return s.token(ctx, tenant, form)
	}
	data, err := os.ReadFile(secret.File)
	if err != nil {
		return Grant{}, fault.Wrap(err, fault.Invalid, "CertificateFile", "cannot read the certificate file %s: %v", secret.File, errors.Unwrap(err)).WithRemedy("Put it back, or sign in with another: sally login --service-principal")
	}
	assertion, err := s.assertion(data, appID, e.Token)
	if err != nil {
		return Grant{}, err
	}
	form.Set("client_assertion_type", assertionType)
	form.Set("client_assertion", assertion)
	return s.token(ctx, tenant, form)
}

// parsePEM finds the RSA key and the first certificate and checks that they
// belong together.
func parsePEM(data []byte) (*rsa.PrivateKey, *x509.Certificate, error) {
	bad := func(format string, args ...any) (*rsa.PrivateKey, *x509.Certificate, error) {
		return nil, nil, fault.New(fault.Invalid, "CertificateFile", "the certificate file "+format, args...).
			WithRemedy("It must hold an unencrypted RSA private key and its certificate, both in PEM form.")
	}
	var key *rsa.PrivateKey
	var cert *x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "PRIVATE KEY":
			k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return bad("holds a private key that cannot be read: %v", err)
			}
			key, _ = k.(*rsa.PrivateKey)
		case "RSA PRIVATE KEY":
			k, err := x509.ParsePKCS1PrivateKey(block.Bytes)
			if err != nil {
				return bad("holds a private key that cannot be read: %v", err)
			}
			key = k
		case "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return bad("holds a certificate that cannot be read: %v", err)
			}
			if cert == nil {
				cert = c
			}
		}
	}
	switch {
	case key == nil:
		return bad("holds no RSA private key")
	case cert == nil:
		return bad("holds no certificate")
	}
	if pub, ok := cert.PublicKey.(*rsa.PublicKey); !ok || !pub.Equal(&key.PublicKey) {
		return bad("holds a key and a certificate that do not belong together")
	}
	return key, cert, nil
}

// assertion makes the signed JWT that az makes too, with whole seconds.
func (s *Server) assertion(file []byte, appID, audience string) (string, error) {
	key, cert, err := parsePEM(file)
	if err != nil {
		return "", err
	}
	id, err := s.random(16)
	if err != nil {
		return "", err
	}
	thumb := sha1.Sum(cert.Raw) //nolint:gosec // see the import
	strong := sha256.Sum256(cert.Raw)
	now := s.cfg.Now()
	header, err := json.Marshal(map[string]any{"alg": "RS256", "typ": "JWT", "x5t": b64(thumb[:]), "x5t#S256": b64(strong[:])})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{"aud": audience, "iss": appID, "sub": appID, "jti": id,
		"nbf": now.Unix(), "iat": now.Unix(), "exp": now.Add(assertionLife).Unix()})
	if err != nil {
		return "", err
	}
	text := b64(header) + "." + b64(claims)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(s.cfg.Rand, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign the client assertion: %w", err)
	}
	return text + "." + b64(sig), nil
}

// IsCertificateFile reports whether the text given as a secret names a PEM
// file, as az's --password may.
func IsCertificateFile(text string) bool {
	info, err := os.Stat(text)
	if err != nil || !info.Mode().IsRegular() || info.Size() > 1<<20 {
		return false
	}
	data, err := os.ReadFile(text) //nolint:gosec // the person named it
	return err == nil && bytes.Contains(data, []byte("-----BEGIN "))
}
