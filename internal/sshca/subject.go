package sshca

import (
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/fault"
)

// RSA bounds for subject keys: below 2048 bits sshd refuses by default on
// current systems; above 8192 verification becomes a way to burn CPU.
const (
	minRSA = 2048
	maxRSA = 8192
)

// CheckKey says whether a public key may be certified at all.
func CheckKey(k ssh.PublicKey) error {
	if _, isCert := k.(*ssh.Certificate); isCert {
		return fault.New(fault.Invalid, "KeyForbidden", "the public key is itself a certificate").WithRemedy("Send the plain public key (id_ed25519.pub, not id_ed25519-cert.pub).")
	}
	switch k.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
		return nil
	case ssh.KeyAlgoRSA:
		return checkRSA(k)
	}
	return otherType(k)
}

func otherType(k ssh.PublicKey) error {
	return fault.New(fault.Invalid, "KeyForbidden", "keys of type %q cannot be certified", k.Type()).
		WithRemedy("Use ed25519, ecdsa, rsa (2048 bits or more) or a security key (sk-ssh-ed25519, sk-ecdsa).")
}

func checkRSA(k ssh.PublicKey) error {
	pub, ok := rsaOf(k)
	if !ok {
		return otherType(k)
	}
	if n := pub.N.BitLen(); n < minRSA || n > maxRSA {
		return fault.New(fault.Invalid, "KeyForbidden", "the RSA key has %d bits; between %d and %d are accepted", n, minRSA, maxRSA).
			WithRemedy("Run: ssh-keygen -t ed25519")
	}
	if pub.N.Bit(0) == 0 || pub.E < 65537 || pub.E&1 == 0 {
		return fault.New(fault.Invalid, "KeyForbidden", "the RSA key is weak: its modulus or exponent is not one that ssh-keygen makes").
			WithRemedy("Run: ssh-keygen -t ed25519")
	}
	return nil
}

// PrincipalAllowed reports whether a name stays inside the closed alphabet of
// certificates: lower-case ASCII letters, digits, '.', '_', '-', an apostrophe
// (O'Brien) and at most one '@' that is neither first nor last. No comma
// (OpenSSH 10.3), colon (az), space, wildcard or control character can appear.
func PrincipalAllowed(name string) bool {
	if name == "" || len(name) > 180 || name[0] == '-' || name[0] == '.' || name[0] == '\'' {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '_', c == '-', c == '\'', c == '@':
		default:
			return false
		}
	}
	at := strings.IndexByte(name, '@')
	return at < 0 || at > 0 && at < len(name)-1 && strings.Count(name, "@") == 1
}
