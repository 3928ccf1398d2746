package address

import "testing"

func TestNetwork_OnePlace(t *testing.T) {
	for _, c := range [][3]string{
		{"192.0.2.7", "192.0.2.7", "192.0.2.0/24"},
		{"::ffff:192.0.2.7", "192.0.2.7", "192.0.2.0/24"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::/48"},
		{"2001:db8:1:2:ffff::", "2001:db8:1:2::/64", "2001:db8:1::/48"},
		{"fe80::1%eth0", Unknown, Unknown},
		{"", Unknown, Unknown}, {"192.0.2.7:80", Unknown, Unknown}, {"192.0.2.07", Unknown, Unknown}, {"host", Unknown, Unknown},
	} {
		if n, w := Network(c[0]), Wide(c[0]); n != c[1] || w != c[2] {
			t.Errorf("%q: %s %s", c[0], n, w)
		}
	}
}

func FuzzNetwork(f *testing.F) {
	f.Add("192.0.2.7")
	f.Add("2001:db8::1")
	f.Fuzz(func(t *testing.T, text string) {
		a, ok := Parse(text)
		if n := Network(text); ok == (n == Unknown) || ok && Network(a.String()) != n {
			t.Fatalf("%q: %q", text, n)
		}
	})
}
