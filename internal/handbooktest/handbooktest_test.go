package handbooktest

import (
	"fmt"
	"slices"
	"strconv"
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

// asked is a test that only keeps what is said of it.
type asked struct {
	testing.TB
	failed bool
	log    []string
}

func (a *asked) Helper()               {}
func (a *asked) Errorf(string, ...any) { a.failed = true }
func (a *asked) Log(words ...any)      { a.log = append(a.log, fmt.Sprint(words...)) }

// TestSaid_ReportsWhatWasHeard: the record has what was said, and nothing else.
func TestSaid_ReportsWhatWasHeard(t *testing.T) {
	const id = "arm.BeingDeleted.action" // a part of arm.BeingDeleted
	text := "'web1' is being deleted."
	for name, c := range map[string]struct {
		ask  func(*asked)
		want string
	}{
		"said":         {func(a *asked) { Said(a, "ERROR: "+text+"\n", id) }, id},
		"with meaning": {func(a *asked) { Said(a, text, id, "NAME", "web1") }, id},
		"known":        {func(a *asked) { Known(a, text) }, id},
		"a word":       {func(a *asked) { Said(a, "'web1' was being deleted.", id) }, ""},
		"of another":   {func(a *asked) { Said(a, text, id, "NAME", "web2") }, ""},
		"nothing":      {func(a *asked) { Said(a, "", id) }, ""},
		"the longer":   {func(a *asked) { Said(a, text+" Wait until it is gone and try again.", id) }, ""},
		"no such id":   {func(a *asked) { Said(a, text, "arm.BeingDeleted.act") }, ""},
		"not known":    {func(a *asked) { Known(a, "'web1' was being deleted.") }, ""},
		"known in it":  {func(a *asked) { Known(a, text+"..") }, ""},
	} {
		a := &asked{TB: t}
		c.ask(a)
		if c.want == "" && (!a.failed || len(a.log) > 0) || c.want != "" && (a.failed || !slices.Equal(a.log, []string{mark + c.want})) {
			t.Errorf("%s: failed %v, %q", name, a.failed, a.log)
		}
	}
}

// TestHeard_TheLongerIsNotTheShorter: also where a place of the shorter would take in
// what the longer has more.
func TestHeard_TheLongerIsNotTheShorter(t *testing.T) {
	p, err := Parse("> it is WHAT <!-- it -->\n> it is off. Ask NAME. <!-- it.off -->\n")
	if err != nil {
		t.Fatal(err)
	}
	h := Expect("it")
	h.open(p)
	h.HearWhole("it is off. Ask me.")
	h.Hear("so it is off. Ask me.")
	if _, is := p.heard(p["it"], "it is off. Ask me."); !is || len(h.said) > 0 {
		t.Errorf("heard %v", h.said)
	}
	if longer, _ := p.heard(p["it"], "it is off. Ask me."); longer != "it.off" {
		t.Errorf("taken for the shorter, and not for %q", longer)
	}
	if h.HearWhole("it is on"); !slices.Equal(h.said, []string{"it"}) {
		t.Errorf("heard %v", h.said)
	}
}

// TestUnheard_NamesWhatNobodyHeard: the judge at the end of a whole run counts the
// records of Said, those of what was said in tests, and no other word of a log.
func TestUnheard_NamesWhatNobodyHeard(t *testing.T) {
	const page = "# Page\n\n> it is off <!-- off -->\n\n> it is off. Wait. <!-- off.long -->\n"
	both := mark + "off\n" + mark + "off.long\n"
	table := page + RestBegins + "| code | what is said |\n|---|---|\n| `A` | cannot read … |\n| `A` | cannot read the list … |\n|  | a &lt; \\| b: … |\n| `AADSTS…` | AADSTS…: it is gone |\n"
	say := func(list ...string) (log string) {
		for _, one := range list {
			log += "    a_test.go:7: " + word + strconv.Quote(one) + "\n"
		}
		return log
	}
	for name, c := range map[string]struct {
		page, want string
		logs       []string
	}{
		"all":                             {page, "", []string{"    a_test.go:7: " + mark + "off\nok\n", mark + "off.long\n"}},
		"one":                             {page, "off.long", []string{"    a_test.go:7: " + mark + "off\n"}},
		"none":                            {page, "off off.long", []string{"ok\n"}},
		"a longer id":                     {page, "off", []string{mark + "off.long\n"}},
		"an id by itself":                 {page, "off", []string{`code "off"` + "\noff\n" + mark + "off.long\n"}},
		"more on its line":                {page, "off", []string{mark + "off is missing\n" + mark + "off.long\n"}},
		"a new entry":                     {page + "\n> WHY <!-- new -->\n", "new", []string{both}},
		"what was said is no explanation": {page, "off off.long", []string{say("it is off", "it is off. Wait.")}},
		"a table":                         {table, "", []string{both, say("cannot read x", "cannot read the list\nof y", "a < | b: c", "it is gone")}},
		"the number, too":                 {table, "", []string{both, say("cannot read x", "cannot read the list y", "a < | b: c", "AADSTS50: it is gone")}},
		"the longer row":                  {table, "cannot read …", []string{both, say("cannot read the list y", "a < | b: c", "it is gone")}},
		"more was said":                   {table, "cannot read … cannot read the list … AADSTS…: it is gone", []string{both, say("I cannot read x", "it is gone away", "a < | b: c")}},
		"not said but shown":              {table, "cannot read … cannot read the list … a &lt; \\| b: … AADSTS…: it is gone", []string{both, "it is gone\nsaid: it is gone\nunsaid: \"it is gone\".\n"}},
	} {
		unheard, all, err := Unheard(c.page, c.logs...)
		if got := strings.Join(unheard, " "); err != nil || all < 2 || got != c.want {
			t.Errorf("%s: %d %v %q", name, all, err, got)
		}
	}
	if _, all, err := Unheard("# Page\n"); all != 0 || err != nil {
		t.Error(all, err)
	}
}
