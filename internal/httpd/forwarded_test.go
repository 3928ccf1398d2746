package httpd

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func proxies(header string) Proxies {
	return Proxies{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:f::/48")}, Header: header}
}

// The address is the peer's unless the peer is a proxy of ours, and then the
// right-most one that is not: what the client wrote itself is left of it.
func TestForwarded_OnlyOurProxiesAreBelieved(t *testing.T) {
	for _, c := range []struct {
		name, peer, header string
		values             []string
		want               string
	}{
		{"a stranger's word", "192.0.2.1:1", XForwardedFor, []string{"6.6.6.6"}, "192.0.2.1"},
		{"a proxy without a word", "10.0.0.1:1", XForwardedFor, nil, "10.0.0.1"},
		{"a proxy's word", "10.0.0.1:1", XForwardedFor, []string{"192.0.2.1"}, "192.0.2.1"},
		{"forged before it", "10.0.0.1:1", XForwardedFor, []string{"6.6.6.6, 192.0.2.1"}, "192.0.2.1"},
		{"forged in a header of its own", "10.0.0.1:1", XForwardedFor, []string{"6.6.6.6", "192.0.2.1"}, "192.0.2.1"},
		{"forged as our proxy", "10.0.0.1:1", XForwardedFor, []string{"6.6.6.6, 10.0.0.9, 192.0.2.1"}, "192.0.2.1"},
		{"two proxies", "10.0.0.1:1", XForwardedFor, []string{"6.6.6.6, 192.0.2.1, 10.0.0.2"}, "192.0.2.1"},
		{"a hop that is no address", "10.0.0.1:1", XForwardedFor, []string{"192.0.2.1, garbage"}, "10.0.0.1"},
		{"garbage behind a proxy", "10.0.0.1:1", XForwardedFor, []string{"192.0.2.1, x, 10.0.0.2"}, "10.0.0.2"},
		{"an empty hop", "10.0.0.1:1", XForwardedFor, []string{"192.0.2.1,"}, "10.0.0.1"},
		{"with a port", "10.0.0.1:1", XForwardedFor, []string{"192.0.2.1:4711"}, "192.0.2.1"},
		{"IPv6", "[2001:db8:f::1]:1", XForwardedFor, []string{"2001:db8::7"}, "2001:db8::7"},
		{"IPv6 with a port", "[2001:db8:f::1]:1", XForwardedFor, []string{"[2001:db8::7]:9"}, "2001:db8::7"},
		{"IPv4 inside IPv6", "[::ffff:10.0.0.1]:1", XForwardedFor, []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		{"Forwarded where X-Forwarded-For is ours", "10.0.0.1:1", "", nil, "10.0.0.1"},
		{"Forwarded", "10.0.0.1:1", Forwarded, []string{`for=6.6.6.6, For="192.0.2.1:80";proto=https`}, "192.0.2.1"},
		{"Forwarded IPv6", "10.0.0.1:1", Forwarded, []string{`for="[2001:db8::7]:80"`}, "2001:db8::7"},
		{"Forwarded hidden", "10.0.0.1:1", Forwarded, []string{`for=192.0.2.1, for=_hidden`}, "10.0.0.1"},
		{"Forwarded twice", "10.0.0.1:1", Forwarded, []string{`for=192.0.2.1;for=6.6.6.6`}, "10.0.0.1"},
		{"Forwarded half quoted", "10.0.0.1:1", Forwarded, []string{`for="192.0.2.1`}, "10.0.0.1"},
		{"nothing", "", XForwardedFor, nil, "unknown"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		for _, v := range c.values {
			r.Header.Add(c.header, v)
		}
		if c.header == "" {
			r.Header.Set(Forwarded, "for=6.6.6.6")
		}
		if got := proxies(c.header).client(r); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// Whatever a client writes before the address that our proxy adds changes
// nothing.
func FuzzForwarded(f *testing.F) {
	f.Add("6.6.6.6", false)
	f.Add(`for="[::1]:80";by=_x, for=`, true)
	f.Fuzz(func(t *testing.T, own string, standard bool) {
		header, ours := XForwardedFor, "192.0.2.1"
		if standard {
			header, ours = Forwarded, "for=192.0.2.1"
		}
		r := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{header: {own, ours}}}
		if got := proxies(header).client(r); got != "192.0.2.1" {
			t.Fatalf("%q: %s", own, got)
		}
		r.RemoteAddr, r.Header = "198.51.100.1:1", http.Header{header: {own}}
		if got := proxies(header).client(r); got != "198.51.100.1" {
			t.Fatalf("%q: %s", own, got)
		}
	})
}
