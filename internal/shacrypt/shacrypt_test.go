package shacrypt

import (
	"crypto/rand"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// The hashes are those of Debian 12's crypt(3) (libxcrypt 4.4.33); the first is
// what openssl passwd -6 says, too.
func TestVerify_CryptsOwn(t *testing.T) {
	for _, tc := range []struct{ password, hash string }{
		{"Hello world!", "$6$rounds=50000$saltstringsaltst$vIrJ0ZODqBy6zNUKe.x6HPQOlHqw9KWaBF2bzZaXreLZdx2jxilmyQ4YrWVGOWjJa83.Oo9Vs8AR3aC2TgiDL/"},
		{"Meadow-Quartz-83-Lamp", "$6$rounds=50000$./0123456789ABCD$67dW3DKA1O.UqApLQpz.FO/ZA5xgxP1Ob.lJq2aVMqsv0gtnTSLo61qJ3LIepUBjC6oekYRT6ThCkMIglOY/m0"},
		{"pässwörd-ÄÖÜ 12345", "$6$rounds=50000$zzzzzzzzzzzzzzzz$HrddOYpHfDUwFboMdIo3xKa0Q7jTkpoUi.xpmJOlQxJ7EZu6gRt/kuKZTsU47pTrcIP/Hg20zocqR2yrLI3PO/"},
		{strings.Repeat("x", 72), "$6$rounds=50000$abcdefghijklmnop$3UNuEdPeMzHeapcn5YMKOWqb3QG5PRprZ7s7DntQvYHyfjCoLQ1.70NUDTMjXoYCYzv.QIEUBhY22REkXXna8."},
		{"a", "$6$rounds=50000$abcdefghijklmnop$1km.2TncEJWF4A7IrRWJiX51UAlamT3mhb.86ET4UIxGoi20cuag1.YxVTvnvjKDOEDidhaAh8fextA.21Xe90"},
		{"", "$6$rounds=50000$abcdefghijklmnop$rLeiMGUHn5U/6Ih1McEpE.2RYgPixK1PNZ7xT0MQAqeDYheJ0bP0AwLlhX640NBSMgvVrxyxU1lvJ9O1mWiZP/"},
		{strings.Repeat("Ab1!", 72), "$6$rounds=50000$abcdefghijklmnop$p0fBDYHU23NdGljlNXgZuxWB.sC1dMxbAhcWEKuUYC6ugkukFADd.I0/Vl8l7FPvnN9zt5jeEN.lt0VByVlha/"},
	} {
		if !Verify(tc.hash, tc.password) {
			t.Errorf("%q is not of %s", tc.password, tc.hash)
		}
		if Verify(tc.hash, tc.password+"x") || Verify(strings.Replace(tc.hash, "$6$rounds=5", "$6$rounds=6", 1), tc.password) {
			t.Errorf("another one is of %s", tc.hash)
		}
	}
}

// TestNew_IsCrypts: what New writes is what this computer's crypt(3) makes of the
// same salt. Perl is part of every Debian.
func TestNew_IsCrypts(t *testing.T) {
	seen := map[string]bool{}
	for _, password := range []string{"x", "Meadow-Quartz-83", "$6$ : \\ ' \" \t", strings.Repeat("\u00e4", 36), strings.Repeat("Ab1!", 16), strings.Repeat("p", 63) + "qr", strings.Repeat("0123456789ab", 6)} {
		hash, err := New(rand.Reader, password)
		if err != nil {
			t.Fatal(err)
		}
		if !Valid(hash) || !Verify(hash, password) || seen[strings.Split(hash, "$")[3]] {
			t.Errorf("%q: %s", password, hash)
		}
		seen[strings.Split(hash, "$")[3]] = true
		cmd := exec.Command("perl", "-e", "chomp(my $p = do { local $/; <STDIN> }); print crypt($p, $ARGV[0])", hash[:strings.LastIndex(hash, "$")+1])
		cmd.Stdin = strings.NewReader(password)
		if out, err := cmd.Output(); err != nil || string(out) != hash {
			t.Errorf("%q: %s, crypt(3) says %s %v", password, hash, out, err)
		}
	}
	if _, err := New(strings.NewReader("short"), "x"); err == nil {
		t.Error("a salt without randomness")
	}
}

func TestValid_RefusesWhatIsNotOurs(t *testing.T) {
	salt, sum := strings.Repeat("a", saltLength), strings.Repeat("b", hashLength)
	good := fmt.Sprintf("$6$rounds=50000$%s$%s", salt, sum)
	if !Valid(good) {
		t.Fatal("a good one is refused")
	}
	for _, bad := range []string{"", "!", "*", "x", "$6$" + salt + "$" + sum, "$5" + good[2:], good + "\n", good + ":", good[:len(good)-1], good + "a", strings.Replace(good, "a", ":", 1), strings.Replace(good, "b", "\n", 1),
		strings.Replace(good, "50000", "050000", 1), strings.Replace(good, "50000", "999", 1), strings.Replace(good, "50000", "1000001", 1), strings.Replace(good, "50000", "", 1), strings.Replace(good, "50000", "+50000", 1), "$$" + good} {
		if Valid(bad) || Verify(bad, "") {
			t.Errorf("taken: %q", bad)
		}
	}
}

func FuzzValid(f *testing.F) {
	f.Add("$6$rounds=50000$saltstringsaltst$vIrJ0ZODqBy6zNUKe.x6HPQOlHqw9KWaBF2bzZaXreLZdx2jxilmyQ4YrWVGOWjJa83.Oo9Vs8AR3aC2TgiDL/")
	f.Fuzz(func(t *testing.T, s string) {
		if Valid(s) && (strings.ContainsAny(s, ":\n\r \x00") || len(s) > 128) {
			t.Errorf("%q would be more than a password's field", s)
		}
	})
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		if _, err := New(rand.Reader, "Meadow-Quartz-83-Lamp"); err != nil {
			b.Fatal(err)
		}
	}
}
