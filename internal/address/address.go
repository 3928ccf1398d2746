package address

import "net/netip"

// Unknown stands for every text that is no address.
const Unknown = "unknown"

// Parse reads an address without a zone; an IPv4 address inside IPv6 (RFC 4291
// section 2.5.5.2) is the IPv4 address.
func Parse(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

// Network names the place of an address: one customer has a whole /64 of IPv6
// (RFC 6177), and changes within it at will.
func Network(text string) string { return cut(text, 32, 64) }

// Wide names the neighbourhood of an address: /24, and /48 for IPv6.
func Wide(text string) string { return cut(text, 24, 48) }

func cut(text string, four, six int) string {
	a, ok := Parse(text)
	if !ok {
		return Unknown
	}
	bits := six
	if a.Is4() {
		bits = four
	}
	if bits == a.BitLen() {
		return a.String()
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return Unknown
	}
	return p.String()
}
