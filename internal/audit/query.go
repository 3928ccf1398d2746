package audit

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// Filter selects records; empty fields select everything.
type Filter struct {
	CorrelationID string
	Principal     string // object id: who acted, or whom a machine's report is about
	Type          string
	Outcome       Outcome
	Target        string    // resource id or object id, in any case
	Since, Until  time.Time // both inclusive
	Before        Place     // records older than this one; zero for the newest
	Limit         int
}

// Matches reports whether the filter selects a record, whatever its place.
func (f Filter) Matches(r Record) bool {
	at := r.Time.UnixMicro()
	switch {
	case f.CorrelationID != "" && r.CorrelationID != f.CorrelationID, f.Principal != "" && r.Subject() != f.Principal, f.Type != "" && r.Type != f.Type,
		f.Outcome != "" && r.Outcome != f.Outcome, f.Target != "" && !strings.EqualFold(r.Target, f.Target),
		!f.Since.IsZero() && at < f.Since.UnixMicro(), !f.Until.IsZero() && at > f.Until.UnixMicro():
		return false
	}
	return true
}

// Subject is whom a record is about: the person in a machine's report, else the
// principal.
func (r Record) Subject() string {
	if id := r.Detail["objectId"]; id != "" && strings.HasPrefix(r.Type, "machine.") {
		return id
	}
	return r.Principal
}

// Place is a record's place in the list that is ordered by time: no two records
// share one.
type Place struct {
	Micros   int64  `json:"t"`
	Writer   string `json:"w"`
	Sequence int64  `json:"s"`
}

// Place of the record.
func (r Record) Place() Place {
	return Place{Micros: r.Time.UnixMicro(), Writer: r.Writer, Sequence: r.Sequence}
}

// Compare orders places from the oldest to the newest.
func (p Place) Compare(q Place) int {
	return cmp.Or(cmp.Compare(p.Micros, q.Micros), cmp.Compare(p.Writer, q.Writer), cmp.Compare(p.Sequence, q.Sequence))
}

// Cursor says how far a reader has read each writer's chain. It never skips a
// record that is written later and never repeats one, whatever the clocks of
// the writers say.
type Cursor map[string]int64

// Add moves the cursor past a record.
func (c Cursor) Add(r Record) { c[r.Writer] = max(c[r.Writer], r.Sequence) }

// Covers reports whether the cursor is at or past every one of the heads.
func (c Cursor) Covers(heads []Head) bool {
	return !slices.ContainsFunc(heads, func(h Head) bool { return c[h.Writer] < h.Sequence })
}

// maxToken bounds the text of a place or a cursor.
const maxToken = 8 << 10

var errToken = errors.New("it is not one that this server gave")

// Token is the text of a place or a cursor, for a client to give back.
func Token(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "" // numbers and texts always marshal
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParsePlace reads Token's text of a place.
func ParsePlace(text string) (Place, error) {
	var p Place
	if err := parseToken(text, &p); err != nil || !ValidWriter(p.Writer) || p.Sequence < 1 || p.Micros < 0 {
		return Place{}, errToken
	}
	return p, nil
}

// ParseCursor reads Token's text of a cursor.
func ParseCursor(text string) (Cursor, error) {
	var c Cursor
	if err := parseToken(text, &c); err != nil || c == nil {
		return nil, errToken
	}
	for w, n := range c {
		if !ValidWriter(w) || n < 0 {
			return nil, errToken
		}
	}
	return c, nil
}

func parseToken(text string, v any) error {
	if len(text) > maxToken {
		return errToken
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// ValidWriter holds the name of a writer to its alphabet.
func ValidWriter(w string) bool {
	return w != "" && len(w) <= 64 && strings.Trim(w, "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
}
