// Package address owns what counts as one place on the network, for limits and
// lock-out: an IPv4 address, an IPv6 network of 64 bits, and the wider networks
// that many places are counted together in when there are too many of them.
//
// It refuses: names, zones, and any decision about who is let in.
package address
