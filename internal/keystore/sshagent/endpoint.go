package sshagent

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"sallyport/internal/fault"
)

const (
	scheme = "ssh-agent:"
	// maxPath is what a unix socket's address holds (unix(7)), without its NUL.
	maxPath = 107
)

// Endpoint names one key in one agent. Its text form is
//
//	ssh-agent:/run/signer/user-ca.sock#SHA256:FINGERPRINT
//	ssh-agent:/run/signer/user-ca.sock?owner=UID#SHA256:FINGERPRINT
//
// The socket belongs to this process's uid, to root, or to the uid given.
type Endpoint struct {
	Path        string
	Owner       int    // a third uid that may own the socket; -1 for none
	Fingerprint string // "SHA256:...", as ssh-keygen -l prints it
}

// Parse reads an endpoint's text form. Everything but it is refused.
func Parse(s string) (Endpoint, error) {
	wrong := func(format string, args ...any) (Endpoint, error) {
		return Endpoint{}, fault.New(fault.Invalid, "InvalidSigner", "%q names no signer: %s", s, fmt.Sprintf(format, args...)).
			WithRemedy("Write it as ssh-agent:/path/of/socket#SHA256:FINGERPRINT; `ssh-add -l` lists fingerprints.")
	}
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		return wrong("it does not begin with %s", scheme)
	}
	rest, fingerprint, ok := strings.Cut(rest, "#")
	digest, sha := strings.CutPrefix(fingerprint, "SHA256:")
	if raw, err := base64.RawStdEncoding.Strict().DecodeString(digest); !ok || !sha || err != nil || len(raw) != 32 {
		return wrong("it does not end in #SHA256: and the 43 characters of a fingerprint")
	}
	e := Endpoint{Owner: -1, Fingerprint: fingerprint}
	path, query, hasQuery := strings.Cut(rest, "?")
	if hasQuery {
		uid, ok := strings.CutPrefix(query, "owner=")
		n, err := strconv.ParseUint(uid, 10, 31)
		if !ok || err != nil || strconv.FormatUint(n, 10) != uid {
			return wrong("what follows '?' is not owner= and a numeric uid")
		}
		e.Owner = int(n)
	}
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || len(path) > maxPath || strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r > '~' }) {
		return wrong("the socket's path must be absolute, without detours, and have at most %d characters", maxPath)
	}
	e.Path = path
	return e, nil
}

// String returns the text form.
func (e Endpoint) String() string {
	if e.Owner < 0 {
		return scheme + e.Path + "#" + e.Fingerprint
	}
	return scheme + e.Path + "?owner=" + strconv.Itoa(e.Owner) + "#" + e.Fingerprint
}
