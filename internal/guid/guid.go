package guid

import (
	"encoding/hex"
	"fmt"
	"io"
)

// length of a GUID in characters.
const length = 36

// New makes a random GUID, version 4.
func New(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("random GUID: %w", err)
	}
	return Of(b), nil
}

// Of writes 16 random bytes as a GUID, version 4: six of their bits become its
// version and variant.
func Of(b [16]byte) string {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	t := hex.EncodeToString(b[:])
	return t[:8] + "-" + t[8:12] + "-" + t[12:16] + "-" + t[16:20] + "-" + t[20:]
}

// Valid reports whether s is a GUID of any version in lower case, the form in
// which identifiers are stored and compared.
func Valid(s string) bool {
	if len(s) != length {
		return false
	}
	for i := range length {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}

// Parse returns the lower-case form of a GUID that somebody wrote in any case.
func Parse(text string) (string, bool) {
	if len(text) != length {
		return "", false
	}
	b := []byte(text)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	if s := string(b); Valid(s) {
		return s, true
	}
	return "", false
}
