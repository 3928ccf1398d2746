package protocol

import (
	"strings"
	"testing"
	"time"
)

// TestSession_Check: people read what machines say of sessions, so that nothing
// in it paints on their terminals, and ids are compared as bytes.
func TestSession_Check(t *testing.T) {
	good := Session{ID: "11111111-2222-3333-4444-555555555555", ObjectID: "aaaaaaaa-2222-3333-4444-555555555555", LoginName: "a@b.example", UID: 1879048200, Since: time.Unix(1_800_000_000, 0),
		From: "fe80::1%eth0", Service: "sshd", Kind: SessionPTY, TTY: "pts/0", Elevated: 2, Serial: "18446744073709551615", KeyID: "k", CorrelationID: "c"}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Session){
		"no id":                 func(n *Session) { n.ID = "" },
		"an id of its own form": func(n *Session) { n.ID = strings.ToUpper("aaaaaaaa-2222-3333-4444-555555555555") },
		"nobody's":              func(n *Session) { n.ObjectID = "" },
		"no kind":               func(n *Session) { n.Kind = "" },
		"another kind":          func(n *Session) { n.Kind = "x11" },
		"a signed serial":       func(n *Session) { n.Serial = "-1" },
		"a long serial":         func(n *Session) { n.Serial = "18446744073709551616" },
		"a padded serial":       func(n *Session) { n.Serial = "01" },
		"no beginning":          func(n *Session) { n.Since = time.Time{} },
		"less than none":        func(n *Session) { n.Elevated = -1 },
		"an escape":             func(n *Session) { n.TTY = "\x1b[2J" },
		"a long text":           func(n *Session) { n.From = strings.Repeat("x", 257) },
		"a wide letter":         func(n *Session) { n.LoginName = "\u202ea@b.example" },
	} {
		n := good
		change(&n)
		if n.Check() == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
