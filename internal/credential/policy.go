package credential

import (
	_ "embed"
	"strings"
	"unicode"
	"unicode/utf8"

	"sallyport/internal/fault"
)

// The bounds of passwords. Length is what makes a password strong (NIST SP
// 800-63B section 5.1.1); there are no rules about kinds of characters.
const (
	MinPassword = 12
	MaxPassword = 256 // bytes
)

//go:embed weak.txt
var weak string

// CheckPolicy returns nil when the password may be used by somebody with the
// given names (UPN, display name): long enough, printable, not a name, not made
// of the words that everybody tries first.
func CheckPolicy(password string, names ...string) error {
	bad := func(why string) error {
		return fault.New(fault.Invalid, "Request_BadRequest", "the specified password does not comply with password complexity requirements: %s.", why).WithTarget("passwordProfile").
			WithRemedy("Use at least %d characters, for example four unrelated words, without your name.", MinPassword)
	}
	switch {
	case !utf8.ValidString(password):
		return bad("it is not UTF-8")
	case utf8.RuneCountInString(password) < MinPassword:
		return bad("it is too short")
	case len(password) > MaxPassword:
		return bad("it is too long")
	}
	distinct := map[rune]bool{}
	for _, r := range password {
		if !unicode.IsPrint(r) {
			return bad("it holds a control character")
		}
		distinct[r] = true
	}
	if len(distinct) < 5 {
		return bad("it repeats a few characters")
	}
	plain := strings.ToLower(password)
	for _, word := range nameWords(names) {
		if strings.Contains(plain, word) {
			return bad("it contains the name of its owner")
		}
	}
	// What remains after every well-known word and sequence is taken out must
	// still hold something: "Password123!" is "password", "123" and "!".
	rest := plain
	for _, word := range strings.Fields(weak) {
		rest = strings.ReplaceAll(rest, word, "")
	}
	if utf8.RuneCountInString(rest) < 4 {
		return bad("it is made of words that everybody tries first")
	}
	return nil
}

// nameWords splits names into words worth forbidding, from four characters on;
// the domain of a UPN is none.
func nameWords(names []string) []string {
	var words []string
	for _, name := range names {
		local, _, _ := strings.Cut(strings.ToLower(name), "@")
		for _, w := range strings.FieldsFunc(local, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			if utf8.RuneCountInString(w) >= 4 {
				words = append(words, w)
			}
		}
	}
	return words
}
