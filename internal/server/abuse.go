package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/machine"
	"sallyport/internal/repeat"
	"sallyport/internal/sshca"
	"sallyport/internal/store"
)

// Abuse is what an operator says about the network before the server.
type Abuse struct {
	// TrustedProxies are the networks of the proxies that say where a request
	// comes from, and ProxyHeader the header in which they do.
	TrustedProxies []string
	ProxyHeader    string
	// Connections is how many connections one address may hold; 0 for any.
	Connections int
}

// proxies reads the networks; an address alone is a network of itself.
func (a Abuse) proxies() (httpd.Proxies, error) {
	p := httpd.Proxies{Header: a.ProxyHeader}
	switch http.CanonicalHeaderKey(a.ProxyHeader) {
	case "", httpd.XForwardedFor:
		p.Header = httpd.XForwardedFor
	case httpd.Forwarded:
		p.Header = httpd.Forwarded
	default:
		return p, fault.New(fault.Invalid, "ProxyHeader", "%q is no header that names a client", a.ProxyHeader).WithTarget("proxyHeader").
			WithRemedy("It is X-Forwarded-For or Forwarded: the one that your proxy writes itself, whatever clients send.")
	}
	for _, text := range a.TrustedProxies {
		text = strings.TrimSpace(text)
		n, err := netip.ParsePrefix(text)
		if one, bad := netip.ParseAddr(text); bad == nil && one.Zone() == "" {
			n, err = netip.PrefixFrom(one.Unmap(), one.Unmap().BitLen()), nil
		}
		if err != nil || n.Masked() != n {
			return p, fault.New(fault.Invalid, "TrustedProxy", "%q is no network of proxies", text).WithTarget("trustedProxies").
				WithRemedy("Give addresses or networks without host bits, for example 10.0.0.5 or 10.0.0.0/24.")
		}
		if n.Bits() == 0 {
			return p, fault.New(fault.Invalid, "TrustedProxy", "%q is everybody: each client could say where it comes from", text).WithTarget("trustedProxies").WithRemedy("Name your proxies' networks.")
		}
		p.Networks = append(p.Networks, n)
	}
	return p, nil
}

// check says what is wrong with it.
func (a Abuse) check() error {
	_, err := a.proxies()
	return err
}

func (a *Abuse) flags(f *pflag.FlagSet) {
	f.StringSliceVar(&a.TrustedProxies, "trusted-proxy", nil, "Network of proxies that are believed when they name a client's address; may be given again.")
	f.StringVar(&a.ProxyHeader, "proxy-header", "", "The header in which they name it: X-Forwarded-For (default) or Forwarded.")
	f.IntVar(&a.Connections, "connections-per-address", 2000, "Connections that one address may hold open; 0 for any number.")
}

// bounded holds listeners to the bound of connections.
func (d *deployment) bounded(listeners []net.Listener) ([]net.Listener, error) {
	proxies, err := d.cfg.Abuse.proxies()
	if err != nil {
		for _, l := range listeners {
			err = errors.Join(err, l.Close())
		}
		return nil, err
	}
	limited := make([]net.Listener, len(listeners))
	shared := httpd.NewConnections(d.cfg.Abuse.Connections, proxies)
	for i, l := range listeners {
		limited[i] = shared.Listen(l)
	}
	return limited, nil
}

// limits bound addresses, callers, and what is worked on at a time. Sign-in is
// slow on purpose; the rest keeps one client from starving others. Machines
// poll from behind shared addresses and wait on purpose.
func limits() map[string]httpd.Limit {
	return map[string]httpd.Limit{
		"login":  {PerSecond: 20, Burst: 200, InFlight: 64},
		"device": {PerSecond: 2, Burst: 60, InFlight: 64},
		"token":  {PerSecond: 5_000, Burst: 10_000, InFlight: 128},
		"read":   {PerSecond: 2_000, Burst: 5_000, PrincipalPerSecond: 500, PrincipalBurst: 2_000, InFlight: 128},
		// Half an hour on a slow line, by anybody: room of its own, or sign-in pages and
		// keys would wait for the downloads of a fleet.
		"package": {PerSecond: 2_000, Burst: 5_000, InFlight: 256},
		"write":   {PerSecond: 500, Burst: 2_000, PrincipalPerSecond: 200, PrincipalBurst: 2_000, InFlight: 128},
		// A program that asks for what is not there goes on working.
		httpd.Unmatched: {PerSecond: 20, Burst: 200},
		"poll":          {PerSecond: 5_000, Burst: 20_000, PrincipalPerSecond: 10, PrincipalBurst: 100},
		// A report may replace a thousand sessions, and all writes wait for it: 39 ms.
		"report": {PerSecond: 500, Burst: 2_000, PrincipalPerSecond: 10, PrincipalBurst: 100, InFlight: 128},
	}
}

// newTokenLimit bounds the tokens and certificates of one principal, each of
// which is a record for ever.
func newTokenLimit() *httpd.PrincipalLimit { return httpd.NewPrincipalLimit(1_000, 20_000) }

// streams is how many requests one HTTP/2 connection may have open.
const streams = 100

// headerTable is how many octets of header fields each HTTP/2 connection keeps to
// refer to in later answers (RFC 7541 section 4.2): none. An answer bears 300
// octets more, and each of ten thousand waiting machines holds 2.4 KiB less.
const headerTable = 1

// How long counted tries and places of sign-in are remembered.
const (
	keepAttempts = 24 * time.Hour
	keepPlaces   = 90 * 24 * time.Hour
)

// newRepeats makes the counter of refusals.
func (d *deployment) newRepeats() *repeat.Counter {
	return repeat.New(repeat.Config{Write: writes[repeat.Tx](d)})
}

// tellRepeats writes what was counted, once a window and at the end.
func (d *deployment) tellRepeats(ctx context.Context) error {
	tick := time.NewTicker(repeat.Window / 6)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			d.flushRepeats(context.WithoutCancel(ctx), true)
			return nil
		case <-tick.C:
			d.flushRepeats(ctx, false)
		}
	}
}

func (d *deployment) flushRepeats(ctx context.Context, all bool) {
	limited, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	if err := d.repeats.Flush(limited, d.cfg.Now(), all); err != nil {
		d.cfg.Log.Error("summary of refusals", "error", err.Error())
	}
}

// revokedSerials is what machines are told about revoked certificates.
func (d *deployment) revokedSerials() []string { return d.revoked.Serials(d.cfg.Now()) }

// person finds a user by name.
func (d *deployment) person(upn string) (string, bool) {
	u, ok := d.directory.UserByUPN(upn)
	return u.ID, ok
}

// revokedGrace is how long a revoked certificate stays known after its end:
// longer than machines are told of it.
const revokedGrace = sshca.RevokedFor + protocolGrace

// sweepAbuse removes what lock-out has forgotten, and certificates that were
// revoked and have ended.
func (d *deployment) sweepAbuse(ctx context.Context) error {
	now := d.cfg.Now()
	return d.store.Write(ctx, func(t *store.Tx) error {
		return errors.Join(t.SweepAttempts(now.Add(-keepAttempts), now.Add(-keepPlaces)), t.SweepRevocations(now.Add(-revokedGrace)), t.SweepEndings(now.Add(-machine.EndingMemory)), t.SweepRevocationLog(now.Add(-machine.RevocationMemory)))
	})
}
