package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/httpd/arm"
	"sallyport/internal/httpd/graph"
	httpmachine "sallyport/internal/httpd/machine"
	httpoauth "sallyport/internal/httpd/oauth"
	"sallyport/internal/httpd/operations"
	httpsignin "sallyport/internal/httpd/signin"
	"sallyport/internal/keystore"
	"sallyport/internal/oauth"
	"sallyport/internal/resource/types"
	"sallyport/internal/route"
	"sallyport/internal/store"
)

const (
	// leafLife and leafRenew are for the server's own TLS certificate, which
	// lives in memory.
	leafLife  = 30 * 24 * time.Hour
	leafRenew = 20 * 24 * time.Hour
	// workers reconcile resources.
	workers = 4
	// sweepEvery is how often expired codes, sessions and tokens are removed.
	sweepEvery = 10 * time.Minute
	// drainTime is how long answers under way may take when the server stops.
	drainTime = 5 * time.Second
)

// Run serves a deployment until ctx ends. It returns nil after an orderly stop;
// the first task that fails stops the others.
func Run(ctx context.Context, cfg Config) error {
	d, err := open(ctx, cfg)
	if err != nil {
		return err
	}
	err = d.serve(ctx)
	return errors.Join(err, d.store.Close())
}

func (d *deployment) serve(ctx context.Context) error {
	if err := d.openPackages(); err != nil {
		return err
	}
	answering := newLifetimes(ctx, d.cfg.Now, d.replica.whileFresh)
	defer answering.end()
	d.waiting = answering.waiting
	handler, err := d.doors()
	if err != nil {
		return err
	}
	d.measure()
	if err := d.openTLS(); err != nil {
		return err
	}
	metrics, err := d.listenMetrics(ctx)
	if err != nil {
		return err
	}
	listeners, err := d.listen(ctx)
	if err != nil {
		if metrics != nil {
			_ = metrics.Close()
		}
		return err
	}
	if listeners, err = d.bounded(listeners); err != nil {
		return err
	}
	server := &http.Server{
		Handler: answering.bound(d.fleeing(handler)), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: idleTime, MaxHeaderBytes: 64 << 10,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: d.tls.get, ClientAuth: tls.RequestClientCert, NextProtos: d.cfg.TLS.protocols()},
		ErrorLog:  slog.NewLogLogger(d.cfg.Log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return answering.requests },
		ConnState: answering.connections.changed,
	}
	server.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams, MaxEncoderHeaderTableSize: headerTable}
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return d.follow.run(answering.requests) }) // answers to writes wait for it
	tasks.Go(func() error {
		d.engine.Run(ctx, workers, wait, func(err error) { d.cfg.Log.Error("reconcile", "error", err.Error()) })
		return nil
	})
	tasks.Go(func() error { return d.confirm(answering.requests) })
	tasks.Go(func() error { return d.exchange(ctx) })
	tasks.Go(func() error { return d.keepPresences(ctx) })
	tasks.Go(func() error { return d.sweep(ctx) })
	tasks.Go(func() error { return d.trim(ctx) })
	tasks.Go(func() error { return d.retain(ctx) })
	tasks.Go(func() error { return d.deliver(ctx) })
	tasks.Go(func() error { return d.tellRepeats(ctx) })
	tasks.Go(func() error { return d.trust.run(ctx, d.follow.Moved) })
	tasks.Go(func() error { return d.serveMetrics(ctx, metrics) })
	tasks.Go(func() error { d.lag.run(ctx, d.cfg.Now); return nil })
	tasks.Go(func() error { return d.keepTLS(ctx) })
	tasks.Go(func() error { return d.keepPackages(ctx) })
	tasks.Go(func() error { return d.rollOut(ctx) })
	for _, l := range listeners {
		d.cfg.Log.Info("serving", "listen", l.Addr().String(), "url", d.manifest.URL, "tenant", d.manifest.Tenant)
		tasks.Go(func() error {
			if err := server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) && !answering.leaving.Load() {
				return fmt.Errorf("serve: %w", err)
			}
			return nil
		})
	}
	d.tell("READY=1")                                                  // the sockets took connections before
	tasks.Go(func() error { _ = server.Serve(d.waiting); return nil }) // until Shutdown; what it accepts has been accepted before
	tasks.Go(func() error {
		<-ctx.Done()
		d.tell("STOPPING=1")
		return answering.drain(server, listeners)
	})
	return tasks.Wait()
}

// wait is the engine's sleep.
func wait(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-wake:
	}
}

// hosts are the names that the TLS certificate bears: the URL's, and the listen
// address where that is one.
func hosts(serverURL, listen string) []string {
	var out []string
	if u, err := url.Parse(serverURL); err == nil {
		out = append(out, u.Hostname())
	}
	if host, _, err := net.SplitHostPort(listen); err == nil && host != "" && host != "0.0.0.0" && host != "::" && host != out[0] {
		out = append(out, host)
	}
	return out
}

// leaf makes and renews the server's TLS certificate under the manifest's root.
type leaf struct {
	keys  *keystore.Store
	root  []byte
	hosts []string
	now   func() time.Time

	mu   sync.Mutex
	made time.Time
	cert *tls.Certificate
}

func (l *leaf) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if l.cert != nil && now.Sub(l.made) < leafRenew {
		return l.cert, nil
	}
	der, err := l.keys.TLSCertificate(l.root, keystore.TLSNames{Hosts: l.hosts, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(leafLife)})
	if err != nil {
		return nil, err
	}
	key, err := l.keys.Signer(keystore.TLS)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	l.cert, l.made = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: parsed}, now
	return l.cert, nil
}

// doors mounts every handler on its row.
func (d *deployment) doors() (http.Handler, error) {
	mux := httpd.NewMux()
	httpoauth.New(httpoauth.Config{OAuth: d.oauth, Passwords: d.sessions, Manifest: d.trust, URL: d.manifest.URL}).Mount(mux)
	pages, err := httpsignin.New(httpsignin.Config{OAuth: d.oauth, SignIn: d.sessions, Consents: d.people, Rand: d.cfg.Rand})
	if err != nil {
		return nil, err
	}
	pages.Mount(mux)
	graph.New(graph.Config{Directory: d.people, Credentials: d.credentials, Roles: d.dirRoles, Policies: d.policy, URL: d.manifest.URL}).Mount(mux)
	httpmachine.New(httpmachine.Config{Machines: d.machines, Identities: identities{d}, Devices: devices{d}}).Mount(mux)
	probes, err := operations.New(operations.Config{Rows: route.All(), URL: d.manifest.URL, Ready: d.ready, Packages: d.packagesAt()})
	if err != nil {
		return nil, err
	}
	probes.Mount(mux)
	arm.New(arm.Config{URL: d.manifest.URL, Cloud: d.oauth.Cloud(), Engine: d.engine, Accounts: d.accounts, Backend: d.backend(), Agents: agents{d.machines}, Machines: d.wanted,
		Authorization: types.Authorization{Engine: d.engine, Write: writes[types.AuthorizationTx](d), Roles: d.roles, People: d.directory},
		Access:        d.access(), Restores: d, SignIns: d.oauth, Sessions: d.machines, Joins: d.machines, Inventories: d.machines, Certificates: d.oauth, Revocations: d.machines, People: d.person, Principals: d.people, IdentityOf: d.identityOf,
		Keys: d.trust, Upgrades: d.upgrades,
		Audit: auditor{d}, Retention: auditor{d}, Tenant: d.directory.Tenant}).Mount(mux)
	proxies, err := d.cfg.Abuse.proxies()
	if err != nil {
		return nil, err
	}
	return httpd.New(httpd.Config{Proxies: proxies, Rows: route.All(), Mux: mux, Admit: d.admit, Authenticator: d, Limits: limits(), Authority: d.manifest.URL + "/" + d.manifest.Tenant, Now: d.cfg.Now, Rand: d.cfg.Rand, Log: d.cfg.Log,
		Nothing: arm.Nothing(), Answered: d.meter.answered, Waiting: d.waiting, Manifest: d.trust.named})
}

// Bearer verifies an access token for a surface.
func (d *deployment) Bearer(_ context.Context, bearer string, surface route.Surface, at time.Time) (audit.By, error) {
	switch surface {
	case route.ARM:
		return d.oauth.Authenticate(bearer, oauth.ARM, at)
	case route.Graph:
		return d.oauth.Authenticate(bearer, oauth.Graph, at)
	case route.OAuth:
		return d.oauth.Authenticate(bearer, oauth.Own, at)
	default:
		return audit.By{}, fault.New(fault.Unauthenticated, "InvalidAuthenticationToken", "no access token is accepted here")
	}
}

// Machine finds the joined machine that holds a key.
func (d *deployment) Machine(_ context.Context, thumbprint string) (audit.By, error) {
	m, ok := d.machineKeys.ByKey(thumbprint)
	if !ok {
		return audit.By{}, fault.New(fault.Unauthenticated, "MachineUnknown", "no machine has joined with this key, or another key has taken its place").
			WithRemedy("Join it again with a new join token.")
	}
	return audit.By{Principal: m.ID, Type: audit.Machine, Name: m.ResourceID.String()}, nil
}

// sweep removes what has expired.
func (d *deployment) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		before := d.cfg.Now().Add(-protocolGrace)
		if err := d.store.Write(ctx, func(t *store.Tx) error { _, err := t.SweepOAuth(before); return err }); err != nil && ctx.Err() == nil {
			d.cfg.Log.Error("sweep", "error", err.Error())
		}
		if err := d.sweepAbuse(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Log.Error("sweep", "error", err.Error())
		}
	}
}

// protocolGrace is how long what has expired stays, so that its late user reads
// "expired" and not "unknown".
const protocolGrace = time.Hour
