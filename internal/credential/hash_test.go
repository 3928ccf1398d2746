package credential

import (
	"crypto/rand"
	"strings"
	"testing"
)

func TestHash_RoundTripAndOwnCost(t *testing.T) {
	cheap := Cost{MemoryKiB: 8, Passes: 1, Lanes: 1}
	text, err := makeHash(rand.Reader, cheap, "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	p, err := parseHash(text)
	if err != nil || p.cost != cheap || !p.matches("correct horse battery") || p.matches("correct horse batterx") || p.matches("") {
		t.Fatal(p, err)
	}
	again, err := makeHash(rand.Reader, cheap, "correct horse battery")
	if err != nil || again == text {
		t.Fatal("the salt is not random")
	}
}

func TestParseHash_OnlyWhatWeWrite(t *testing.T) {
	text, err := makeHash(rand.Reader, Cost{8, 1, 1}, "x")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "plain", "$2y$10$abc", strings.Replace(text, "argon2id", "argon2i", 1), strings.Replace(text, "v=19", "v=16", 1), strings.Replace(text, "m=8", "m=08", 1),
		strings.Replace(text, "m=8", "m=99999999", 1), strings.Replace(text, "t=1", "t=0", 1), strings.Replace(text, "p=1", "p=300", 1), text + "$", text + "=", text[:len(text)-4], text + "\n",
	} {
		if _, err := parseHash(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := parseHash(s); err == nil && p.String() != s {
			t.Fatalf("%q", s)
		}
	})
}

func TestCheckPolicy_Table(t *testing.T) {
	for password, ok := range map[string]bool{
		"four unrelated words": true, "Tr0ub4dor&3xyz!q": true, "длинныйпароль42": true,
		"short": false, "elevenchars": false, "Password123!": false, "P@ssw0rd2026!": false, "Welcome12345!": false, "qwertyuiop123": false, "Summer2026!!": false,
		"aaaaaaaaaaaa": false, "abababababab": false, "alice likes cats": false, "my name is Liddell": false, "line\nbreak in it": false, "bidi \u202e override": false, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff": false,
		strings.Repeat("longer and longer ", 20): false,
	} {
		if err := CheckPolicy(password, "alice@corp.example", "Alice Liddell"); (err == nil) != ok {
			t.Errorf("%q: %v", password, err)
		}
	}
}
