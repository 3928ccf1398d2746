package httpd

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"sallyport/internal/address"
)

// The headers that proxies may name the client in.
const (
	XForwardedFor = "X-Forwarded-For"
	Forwarded     = "Forwarded" // RFC 7239
)

// Proxies are the programs before this server whose word about the client's
// address counts, and the one header that they write. A second header would be
// the client's own word: a proxy passes on what it does not write.
type Proxies struct {
	Networks []netip.Prefix
	Header   string // XForwardedFor where empty
}

// trusts reports whether an address is a proxy of ours.
func (p Proxies) trusts(a netip.Addr) bool {
	for _, n := range p.Networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// client returns the address that a request came from: the peer's, or, where
// the peer is a proxy of ours, the right-most address of its header that is
// not. What stands left of that is the client's own word. A hop that cannot be
// read ends the search at the proxy that reported it.
func (p Proxies) client(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return address.Unknown
	}
	at, ok := address.Parse(host)
	if !ok {
		return host // a zone, say: the peer's own text, never a header's
	}
	if !p.trusts(at) {
		return at.String()
	}
	header := p.Header
	if header == "" {
		header = XForwardedFor
	}
	hops := strings.Split(strings.Join(r.Header.Values(header), ","), ",")
	for i := len(hops) - 1; i >= 0 && p.trusts(at); i-- {
		text := strings.Trim(hops[i], " \t")
		if header == Forwarded {
			text = forwardedFor(text)
		}
		hop, ok := hopAddress(text)
		if !ok {
			break
		}
		at = hop
	}
	return at.String()
}

// hopAddress reads one address as proxies write them: bare, in brackets, with a
// port.
func hopAddress(text string) (netip.Addr, bool) {
	if a, ok := address.Parse(text); ok {
		return a, true
	}
	if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
		a, ok := address.Parse(strings.TrimSuffix(inner, "]"))
		return a, ok && a.Is6()
	}
	ap, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.Addr{}, false
	}
	return address.Parse(ap.Addr().String())
}

// forwardedFor returns the node of the one "for" of an element of Forwarded, ""
// where there is none or two. Obfuscated names and "unknown" are no addresses,
// which the caller finds out. No address holds a comma or a semicolon, so that
// quotes need no more care than this.
func forwardedFor(element string) string {
	node, found := "", false
	for _, pair := range strings.Split(element, ";") {
		name, value, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
		if !ok || !strings.EqualFold(name, "for") {
			continue
		}
		if found {
			return ""
		}
		if inner, quoted := strings.CutPrefix(value, `"`); quoted {
			if value, ok = strings.CutSuffix(inner, `"`); !ok {
				return ""
			}
		}
		node, found = value, true
	}
	return node
}
