package guid

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestNew_VersionAndVariant(t *testing.T) {
	for fill, want := range map[string]string{
		"\xff": "ffffffff-ffff-4fff-bfff-ffffffffffff",
		"\x00": "00000000-0000-4000-8000-000000000000",
	} {
		if got, err := New(strings.NewReader(strings.Repeat(fill, 16))); err != nil || got != want {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func TestNew_ShortRandomness(t *testing.T) {
	if got, err := New(strings.NewReader("too short")); !errors.Is(err, io.ErrUnexpectedEOF) || got != "" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestOf_LeavesItsBytes(t *testing.T) {
	b := [16]byte{6: 0xff, 8: 0xff}
	if Of(b); b[6] != 0xff || b[8] != 0xff {
		t.Fatal("the caller's bytes were changed")
	}
}

func TestValidAndParse(t *testing.T) {
	for text, want := range map[string]struct {
		valid  bool
		parsed string
	}{
		"1b4e28ba-2fa1-11d2-883f-0016d3cca427":     {true, "1b4e28ba-2fa1-11d2-883f-0016d3cca427"},
		"1B4E28BA-2fa1-11D2-883F-0016d3cca427":     {false, "1b4e28ba-2fa1-11d2-883f-0016d3cca427"},
		"1b4e28ba-2fa1-11d2-883f-0016d3cca42":      {},
		"1b4e28ba-2fa1-11d2-883f-0016d3cca4270":    {},
		"1b4e28ba02fa1-11d2-883f-0016d3cca427":     {},
		"1b4e28b--2fa1-11d2-883f-0016d3cca427":     {},
		"1b4e28bg-2fa1-11d2-883f-0016d3cca427":     {},
		"{1b4e28ba-2fa1-11d2-883f-0016d3cca42}":    {},
		"\u212ab4e28ba-2fa1-11d2-883f-0016d3cca4":  {}, // KELVIN SIGN: three bytes, lower case k
		"\u013032100f-2fa1-11d2-883f-0016d3cca427": {},
		"": {},
	} {
		if Valid(text) != want.valid {
			t.Errorf("Valid(%q)", text)
		}
		if got, ok := Parse(text); got != want.parsed || ok != (want.parsed != "") {
			t.Errorf("Parse(%q) = %q, %v", text, got, ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("1B4E28BA-2fa1-11D2-883F-0016d3cca427")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := Parse(text)
		if ok != Valid(got) || ok && !strings.EqualFold(got, text) || Valid(text) && got != text {
			t.Fatalf("Parse(%q) = %q, %v", text, got, ok)
		}
	})
}
