package token

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"time"
)

// The life of refresh tokens: sliding, absolute, and how long after a rotation
// the predecessor may come once more (parallel runs of one command line).
const (
	Sliding  = 14 * 24 * time.Hour
	Absolute = 30 * 24 * time.Hour
	Reuse    = 10 * time.Second
)

// Family is one line of refresh tokens, from one sign-in. Only keyed hashes of
// the newest token and of its predecessor are kept.
type Family struct {
	ID         string
	Principal  string // user object id
	Client     string
	Session    string // sign-in session, empty for grants without a browser
	Address    string // that the sign-in came from
	Scope      string // as first requested
	Factors    map[string]time.Time
	SignedInAt time.Time
	CreatedAt  time.Time
	RotatedAt  time.Time
	Slides     time.Time // ends then unless it is used before
	Ends       time.Time // ends then whatever happens
	Current    []byte
	Previous   []byte
	EndedFor   string // why it ended, empty while it lives
}

// Verdict on a presented refresh token.
type Verdict uint8

// The verdicts. Reused means that a token which was spent came again: whoever
// sent it may be a thief, and the family must end.
const (
	Unknown Verdict = iota
	Current
	Repeated
	Reused
	Expired
	Ended
)

// Judge says what a presented token, by its hash, is to the family now.
func (f Family) Judge(hash []byte, at time.Time) Verdict {
	switch {
	case f.EndedFor != "":
		return Ended
	case !at.Before(f.Ends) || !at.Before(f.Slides):
		return Expired
	case same(hash, f.Current):
		return Current
	case same(hash, f.Previous) && at.Sub(f.RotatedAt) <= Reuse:
		return Repeated
	}
	return Reused
}

// Rotate returns the family after its current token was spent.
func (f Family) Rotate(successor []byte, at time.Time) Family {
	f.Previous, f.Current, f.RotatedAt = f.Current, successor, at
	f.Slides = at.Add(Sliding)
	if f.Slides.After(f.Ends) {
		f.Slides = f.Ends
	}
	return f
}

// Until is when the family ends if nobody uses it again: the session that a
// certificate rests on.
func (f Family) Until() time.Time {
	if f.Slides.Before(f.Ends) {
		return f.Slides
	}
	return f.Ends
}

func same(a, b []byte) bool { return len(a) > 0 && subtle.ConstantTimeCompare(a, b) == 1 }

// Format writes a refresh token: version, family, secret.
func Format(family string, secret []byte) string {
	return "sp1." + strings.ReplaceAll(family, "-", "") + "." + base64.RawURLEncoding.EncodeToString(secret)
}

// ParseRefresh returns the family id of a refresh token.
func ParseRefresh(text string) (family string, ok bool) {
	rest, ok := strings.CutPrefix(text, "sp1.")
	if !ok {
		return "", false
	}
	id, secret, ok := strings.Cut(rest, ".")
	if !ok || len(id) != 32 || len(secret) != 43 || strings.ToLower(id) != id {
		return "", false
	}
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 16 {
		return "", false
	}
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(secret); err != nil || len(raw) != 32 {
		return "", false
	}
	return id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:], true
}
