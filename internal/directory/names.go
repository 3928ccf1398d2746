package directory

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"sallyport/internal/fault"
)

// The bounds of names. 64 before the '@' and 113 in all are Entra's limits for
// user principal names; 256 is Graph's for display names.
const (
	MaxUPNLocal    = 64
	MaxUPN         = 113
	MaxDisplayName = 256
	MaxDescription = 1024
	maxDomain      = 48 // leaves room for 64 characters and '@' within 113
)

// ParseUPN returns the user principal name in its one form, lower case, or a
// fault that says what is wrong. A UPN is a login name: it reaches sshd's
// AuthorizedPrincipalsCommand, sudoers, home folders and certificates, so its
// alphabet is a-z 0-9 . _ - ' before the '@', starting with a letter or a
// digit and ending in neither '.' nor '-'; after it one of the verified domains.
// '+' and '#' are left out: file names, sudoers (#uid) and shells give them
// meanings of their own.
func ParseUPN(text string, domains []string) (string, error) {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "Request_BadRequest", format, args...).WithTarget("userPrincipalName").
			WithRemedy("A user principal name looks like alice@%s: letters, digits and . _ - ' before the '@', at most %d of them.", first(domains), MaxUPNLocal)
	}
	if len(text) > MaxUPN {
		return "", bad("the user principal name is longer than %d characters.", MaxUPN)
	}
	lower := asciiLower(text)
	local, domain, ok := strings.Cut(lower, "@")
	if !ok {
		return "", bad("the user principal name %q has no '@'.", show(text))
	}
	if !validLocal(local) {
		return "", bad("the part of %q before the '@' is not usable as a login name.", show(text))
	}
	for _, d := range domains {
		if domain == d {
			return lower, nil
		}
	}
	return "", fault.New(fault.Invalid, "Request_BadRequest", "the domain portion of the userPrincipalName property is invalid: %q is not a verified domain of this tenant.", show(domain)).
		WithTarget("userPrincipalName").WithRemedy("Use one of: %s.", strings.Join(domains, ", "))
}

func validLocal(s string) bool {
	if s == "" || len(s) > MaxUPNLocal || !alphanumeric(s[0]) || s[len(s)-1] == '.' || s[len(s)-1] == '-' {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case alphanumeric(c), c == '_', c == '-', c == '\'':
		case c == '.' && s[i-1] != '.':
		default:
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// asciiLower lowers A-Z only: Unicode case folding would let the Kelvin sign or
// a dotted capital I become a plain letter.
func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}
	return string(b)
}

// ParseDomain returns a tenant's domain name in lower case: two or more LDH
// labels (RFC 1123), the last of which is not a number.
func ParseDomain(text string) (string, error) {
	bad := fault.New(fault.Invalid, "InvalidDomain", "%q is not a domain name.", show(text)).
		WithRemedy("A domain looks like corp.example: at most %d letters, digits and hyphens with dots between.", maxDomain)
	s := asciiLower(text)
	if len(s) > maxDomain {
		return "", bad
	}
	labels := strings.Split(s, ".")
	if len(labels) < 2 {
		return "", bad
	}
	for _, l := range labels {
		if l == "" || l[0] == '-' || l[len(l)-1] == '-' {
			return "", bad
		}
		for i := 0; i < len(l); i++ {
			if !alphanumeric(l[i]) && l[i] != '-' {
				return "", bad
			}
		}
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return "", bad
	}
	return s, nil
}

// ParseText checks a name or sentence that people will read: valid UTF-8,
// printable, without control, bidirectional or invisible format characters, not
// blank, at most limit characters. Leading and trailing spaces are dropped. The
// colon is refused with them: the text becomes a passwd field.
func ParseText(property, text string, limit int) (string, error) {
	bad := func(why string) error {
		return fault.New(fault.Invalid, "Request_BadRequest", "invalid value specified for property '%s' of the resource: %s.", property, why).WithTarget(property).
			WithRemedy("Use printable characters, at most %d of them, without ':'.", limit)
	}
	s := strings.TrimSpace(text)
	switch {
	case !utf8.ValidString(s):
		return "", bad("it is not UTF-8")
	case s == "":
		return "", bad("it is empty")
	case utf8.RuneCountInString(s) > limit:
		return "", bad("it is too long")
	}
	for _, r := range s {
		// unicode.IsPrint excludes controls (Cc), format characters (Cf: bidi
		// overrides, zero-width joiners), surrogates, private use and any
		// space but U+0020.
		if !unicode.IsPrint(r) || r == ':' {
			return "", bad("it holds a character that may not be used in names")
		}
	}
	return s, nil
}

// optionalText is ParseText that lets the empty text pass.
func optionalText(property, text string, limit int) (string, error) {
	if strings.TrimSpace(text) == "" {
		return "", nil
	}
	return ParseText(property, text, limit)
}

// parseNickname checks the part of a mail address before the @, which may be none: at
// most 64 characters of ASCII without those that Microsoft Graph's reference of group
// leaves out.
func parseNickname(text string) (string, error) {
	for _, r := range text {
		if r <= ' ' || r >= unicode.MaxASCII || strings.ContainsRune(`@()\[]";:<>,`, r) {
			return "", fault.New(fault.Invalid, "Request_BadRequest", "invalid value specified for property 'mailNickname' of the resource: it holds a character that an address may not have.").WithTarget("mailNickname").
				WithRemedy("Use letters, digits, dots and hyphens.")
		}
	}
	return optionalText("mailNickname", text, 64)
}

// parseRedirect checks a redirect URI: https, or http on the loopback host
// (RFC 8252 section 7.3), printable ASCII, no fragment, no user info, no wildcard.
func parseRedirect(text string) (string, error) {
	bad := fault.New(fault.Invalid, "Request_BadRequest", "the redirect URI %q is not allowed.", show(text)).WithTarget("redirectUris").
		WithRemedy("Use https://HOST/PATH, or http://localhost for a client on the user's own computer.")
	if len(text) > 256 {
		return "", bad
	}
	for i := 0; i < len(text); i++ {
		if c := text[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}*#@", c) >= 0 {
			return "", bad
		}
	}
	rest, secure := strings.CutPrefix(text, "https://")
	if !secure {
		var ok bool
		if rest, ok = strings.CutPrefix(text, "http://"); !ok {
			return "", bad
		}
	}
	authority, _, _ := strings.Cut(rest, "/")
	authority, _, query := strings.Cut(authority, "?")
	host, port, hasPort := strings.Cut(authority, ":")
	if v6, after, ok := strings.Cut(authority, "]"); ok && v6 == "[::1" {
		host, port, hasPort = "::1", strings.TrimPrefix(after, ":"), after != ""
	}
	loopback := host == "localhost" || host == "127.0.0.1" || host == "::1"
	switch {
	case query, host == "", !secure && !loopback, hasPort && !digits(port):
		return "", bad
	case host != "::1" && strings.Trim(asciiLower(host), "abcdefghijklmnopqrstuvwxyz0123456789.-") != "":
		return "", bad
	}
	return text, nil
}

func digits(s string) bool {
	return s != "" && len(s) <= 5 && strings.Trim(s, "0123456789") == ""
}

func first(list []string) string {
	if len(list) == 0 {
		return "example.com"
	}
	return list[0]
}

// Shown bounds foreign text before it is quoted back in an error or kept in the
// audit log.
func Shown(s string) string { return show(s) }

func show(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}

// CheckMachinePOSIXID refuses a POSIX id for a managed identity out of the part of
// the block that is kept for people.
func CheckMachinePOSIXID(uid uint32) error {
	if uid <= LastMachinePOSIXID {
		return nil
	}
	return fault.New(fault.Exhausted, "PosixIdsExhausted", "all POSIX ids for managed identities have been given; the rest is kept for people.").
		WithRemedy("Ids are never given twice. Find in the audit log who assigned and removed identities so often.")
}
