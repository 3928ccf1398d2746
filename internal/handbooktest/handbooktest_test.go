package handbooktest

import (
	"strings"
	"testing"
)

func TestParse_TakesNoOtherForm(t *testing.T) {
	for text, want := range map[string]string{
		"> it is off <!-- off -->":                      "",
		"no sentence\n> it is off <!-- off -->\n\nmore": "",
		"> it is off":                  "line 1",
		"\n  > it is off <!-- off -->": "line 2",
		"> it is off <!-- off -->\n> it is off <!-- off -->":    "line 2: there is an id off",
		"> it is off <!-- off -->\n>\n> second <!-- second -->": "line 2",
		"> it is off <!-- no id -->":                            "line 1",
	} {
		_, err := Parse(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestSentence_PlacesStandForWhatDiffers(t *testing.T) {
	s := Sentence{ID: "x", Text: "the account NAME (of NAME) has no RSA key in FILE."}
	for text, want := range map[string]bool{
		"sally: the account a (of b) has no RSA key in c.": true,
		"the account a (of b) has no DSA key in c.":        false,
		"the account  (of b) has no RSA key in c.":         false,
		"the account a (of b) has no RSA key in c":         false,
	} {
		if s.In(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
	if s.In("the account a (of b) has no RSA key in c.", "NAME", "a") || !s.In("the account a. (of a.) has no RSA key in c.", "NAME", "a.") || s.In("the account ab (of ab) has no RSA key in c.", "NAME", "a.") {
		t.Error("a meaning is taken as it is, in each place")
	}
}

func TestOpen_ThePageHasItsForm(t *testing.T) {
	if len(Open(t)) < 20 {
		t.Fatal("the page has hardly a sentence")
	}
}
