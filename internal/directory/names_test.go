package directory

import (
	"strings"
	"testing"

	"sallyport/internal/fault"
)

func TestParseUPN_ClosedAlphabet(t *testing.T) {
	domains := []string{"corp.example", "second.example"}
	for _, tc := range []struct{ in, want string }{
		{"alice@corp.example", "alice@corp.example"},
		{"Alice.B-c_d'e0@CORP.example", "alice.b-c_d'e0@corp.example"},
		{"0x@second.example", "0x@second.example"},
		{strings.Repeat("a", 64) + "@corp.example", strings.Repeat("a", 64) + "@corp.example"},
		{strings.Repeat("a", 65) + "@corp.example", ""},
		{"alice", ""}, {"@corp.example", ""}, {"alice@", ""}, {"alice@other.example", ""}, {"alice@sub.corp.example", ""},
		{"a@b@corp.example", ""}, {"alice@corp.example@corp.example", ""},
		{"-o@corp.example", ""}, {".a@corp.example", ""}, {"a.@corp.example", ""}, {"a..b@corp.example", ""}, {"a-@corp.example", ""}, {"_a@corp.example", ""}, {"'a@corp.example", ""},
		{"a+b@corp.example", ""}, {"a#ext#@corp.example", ""}, {"a b@corp.example", ""}, {"a,b@corp.example", ""}, {"a*@corp.example", ""}, {"a?@corp.example", ""},
		{"a:b@corp.example", ""}, {"a/b@corp.example", ""}, {"a\nb@corp.example", ""}, {"a%u@corp.example", ""}, {"a`b@corp.example", ""}, {"a\"b@corp.example", ""},
		{"\u212aim@corp.example", ""}, {"al\u0131ce@corp.example", ""}, {"al\u200bice@corp.example", ""}, {"", ""},
	} {
		got, err := ParseUPN(tc.in, domains)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%q: got %q, %v", tc.in, got, err)
		}
		if err != nil && (!fault.Is(err, fault.Invalid) || fault.As(err).Remedy == "") {
			t.Errorf("%q: a fault without a remedy: %v", tc.in, err)
		}
	}
}

func FuzzParseUPN(f *testing.F) {
	for _, s := range []string{"alice@corp.example", "A'B@corp.example", "a@b", "-a@corp.example", "\u212a@corp.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseUPN(s, []string{"corp.example"})
		if err != nil {
			return
		}
		if again, err := ParseUPN(got, []string{"corp.example"}); err != nil || again != got {
			t.Fatalf("%q -> %q is not stable", s, got)
		}
		if len(got) > MaxUPN || strings.Count(got, "@") != 1 || strings.Trim(got, "abcdefghijklmnopqrstuvwxyz0123456789._-'@") != "" || strings.ContainsAny(got[:1], "-._'") {
			t.Fatalf("%q -> %q", s, got)
		}
	})
}

func TestParseText_RefusesWhatDeceives(t *testing.T) {
	for _, tc := range []struct {
		in string
		ok bool
	}{
		{"Alice Ångström", true}, {"  Bob  ", true}, {"李雷", true},
		{"", false}, {"   ", false}, {"a\nb", false}, {"a\x1b[31mb", false}, {"a\u202eb", false}, {"a\u200bb", false}, {"a\u2028b", false}, {"a:b", false},
		{"\xff", false}, {strings.Repeat("x", 257), false}, {"a\u00a0b", false},
	} {
		if _, err := ParseText("displayName", tc.in, MaxDisplayName); (err == nil) != tc.ok {
			t.Errorf("%q: %v", tc.in, err)
		}
	}
}

func TestParseDomain_Labels(t *testing.T) {
	for in, want := range map[string]string{
		"Corp.Example": "corp.example", "a.b.c": "a.b.c", "localhost": "", "": "", "a..b": "", "-a.b": "", "a-.b": "", "a_b.c": "", "10.0.0.1": "", "*.example": "",
		strings.Repeat("a", 45) + ".com": "",
	} {
		if got, err := ParseDomain(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q %v", in, got, err)
		}
	}
}

func TestParseRedirect_OnlyHTTPSOrLoopback(t *testing.T) {
	for in, ok := range map[string]bool{
		"https://app.example/cb": true, "http://localhost": true, "http://localhost:8080/x": true, "http://127.0.0.1/": true, "http://[::1]:9/x": true, "https://app.example:8443/a/b": true,
		"http://app.example/cb": false, "http://localhost.evil.example/": false, "https://": false, "javascript:alert(1)": false, "https://a@b/": false, "https://a/#f": false,
		"https://*.example/": false, "https://a b/": false, "https://a/\n": false, "http://localhost:80a/": false, "//x": false, "https://app.example\\@evil": false,
	} {
		if _, err := parseRedirect(in); (err == nil) != ok {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzParseRedirect(f *testing.F) {
	f.Add("https://app.example/cb")
	f.Add("http://[::1]:1/")
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := parseRedirect(s); err == nil && (got != s || strings.ContainsAny(s, "*#@\\ \n")) {
			t.Fatalf("%q", s)
		}
	})
}

// Machines cannot use up the ids that people need.
func TestPOSIXID_MachinesLeaveThePeopleTheirs(t *testing.T) {
	for uid, want := range map[uint32]bool{FirstPOSIXID: true, LastMachinePOSIXID: true, LastMachinePOSIXID + 1: false, LastPOSIXID: false} {
		if err := CheckMachinePOSIXID(uid); (err == nil) != want || err != nil && !fault.Is(err, fault.Exhausted) {
			t.Errorf("%d: %v", uid, err)
		}
	}
}
