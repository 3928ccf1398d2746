package fault

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestAs_UnknownErrorIsInternalAndHidden(t *testing.T) {
	e := As(io.ErrUnexpectedEOF)
	if e.Kind != Internal || strings.Contains(e.Public(), "EOF") {
		t.Fatalf("got %v %q", e.Kind, e.Public())
	}
	if !errors.Is(e, io.ErrUnexpectedEOF) {
		t.Fatal("the cause is lost")
	}
}

func TestPublic_NeverHoldsTheCause(t *testing.T) {
	e := Wrap(errors.New("sql: secret"), NotFound, "ResourceNotFound", "no machine %q", "m1").WithRemedy("run: sally vm list")
	if got := e.Public(); got != `no machine "m1"; run: sally vm list` {
		t.Fatalf("got %q", got)
	}
	for text, want := range map[string]string{"It is off.": "It is off. Turn it on.", "it is off": "it is off. Turn it on."} {
		if got := New(Conflict, "Off", "%s", text).WithRemedy("Turn it on.").Public(); got != want {
			t.Errorf("got %q", got)
		}
	}
	if !strings.Contains(e.Error(), "secret") {
		t.Fatal("the operator's view lost the cause")
	}
}

func TestIs_FollowsWrapping(t *testing.T) {
	err := errors.Join(New(Conflict, "Conflict", "x"))
	if !Is(err, Conflict) || Is(err, NotFound) || KindOf(nil) != Internal {
		t.Fatal("kind lost")
	}
}
