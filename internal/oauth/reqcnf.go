package oauth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"strings"

	"golang.org/x/crypto/ssh"
)

// confirmation is req_cnf: a JSON Web Key (RFC 7517, RFC 8037), or
// {"kty":"ssh","key":BASE64 of the public key blob} for keys that JWK has no
// form for, such as security keys.
type confirmation struct {
	Kty   string `json:"kty"`
	N     string `json:"n"`
	E     string `json:"e"`
	Crv   string `json:"crv"`
	X     string `json:"x"`
	Y     string `json:"y"`
	Key   string `json:"key"`
	KeyID string `json:"kid"`
	Use   string `json:"use"`
	Alg   string `json:"alg"`
}

// parseConfirmation returns the public key of a req_cnf parameter. A private key
// sent by mistake is refused as an unknown field.
func parseConfirmation(text string) (ssh.PublicKey, error) {
	bad := func(why string) error {
		return refuse("invalid_request", 9002331, "The parameter 'req_cnf' is no public key: %s. Send a JSON Web Key such as {\"kty\":\"RSA\",\"n\":...,\"e\":...}.", why)
	}
	if len(text) > 16<<10 {
		return nil, bad("it is too long")
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	var c confirmation
	if err := d.Decode(&c); err != nil {
		return nil, bad("it is not a JSON object with known members")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, bad("something follows the object")
	}
	var key any
	var err error
	switch c.Kty {
	case "RSA":
		key, err = c.rsa()
	case "EC":
		key, err = c.ec()
	case "OKP":
		key, err = c.okp()
	case "ssh":
		return c.blob(bad)
	default:
		return nil, bad("its kty is none of RSA, EC, OKP and ssh")
	}
	if err != nil {
		return nil, bad(err.Error())
	}
	pub, err := ssh.NewPublicKey(key)
	if err != nil {
		return nil, bad("SSH has no such key type")
	}
	return pub, nil
}

// number decodes base64url, with or without padding. az sends the raw SSH mpint,
// with its leading zero byte.
func number(text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil, errors.New("a member is not base64url")
	}
	b = bytes.TrimLeft(b, "\x00")
	if len(b) == 0 {
		return nil, errors.New("a member is missing")
	}
	return b, nil
}

func (c confirmation) rsa() (any, error) {
	n, err := number(c.N)
	if err != nil {
		return nil, err
	}
	e, err := number(c.E)
	if err != nil {
		return nil, err
	}
	if len(n) > 1024 || len(e) > 4 {
		return nil, errors.New("the RSA key is too large")
	}
	exponent := new(big.Int).SetBytes(e).Int64()
	if exponent > 1<<31-1 {
		return nil, errors.New("the RSA exponent is too large")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent)}, nil
}

func (c confirmation) ec() (any, error) {
	var curve elliptic.Curve
	switch c.Crv {
	case "P-256":
		curve = elliptic.P256()
	case "P-384":
		curve = elliptic.P384()
	case "P-521":
		curve = elliptic.P521()
	default:
		return nil, errors.New("its curve is none of P-256, P-384 and P-521")
	}
	size := (curve.Params().BitSize + 7) / 8
	point := make([]byte, 1+2*size)
	point[0] = 4
	for i, text := range []string{c.X, c.Y} {
		v, err := number(text)
		if err != nil || len(v) > size {
			return nil, errors.New("a coordinate is malformed")
		}
		copy(point[1+(i+1)*size-len(v):], v)
	}
	// Refuses points that are not on the curve.
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, errors.New("the point is not on the curve")
	}
	return key, nil
}

func (c confirmation) okp() (any, error) {
	x, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(c.X, "="))
	if c.Crv != "Ed25519" || err != nil || len(x) != ed25519.PublicKeySize {
		return nil, errors.New("only Ed25519 with 32 bytes is known")
	}
	return ed25519.PublicKey(x), nil
}

func (c confirmation) blob(bad func(string) error) (ssh.PublicKey, error) {
	b, err := base64.StdEncoding.DecodeString(c.Key)
	if err != nil {
		return nil, bad("key is not base64")
	}
	pub, err := ssh.ParsePublicKey(b)
	if err != nil {
		return nil, bad("key is no SSH public key")
	}
	if !bytes.Equal(pub.Marshal(), b) {
		return nil, bad("key is not in its canonical form")
	}
	return pub, nil
}
