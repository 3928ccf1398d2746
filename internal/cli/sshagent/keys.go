package sshagent

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/fault"
)

const (
	// renewBefore is how much life a certificate must have left to be offered, or
	// a quarter of its life where that is shorter: what "ssh config" uses, too.
	renewBefore = 5 * time.Minute
	// lastMoment is how much a certificate must have left when a new one cannot
	// be had because the server is away.
	lastMoment = 10 * time.Second

	machineExtension = "machine@sallyport" // docs/certificate-profile.md, C10
)

// credential is a key and its certificate for one machine.
type credential struct {
	signer  ssh.Signer
	cert    *ssh.Certificate
	blob    []byte
	machine string
	removed atomic.Bool  // from the agent: no connection that was offered it signs any more
	all     *atomic.Bool // the same, of all that were fetched until then, also those that others have followed
}

func (c *credential) until() time.Time { return time.Unix(int64(c.cert.ValidBefore), 0) } //nolint:gosec // checked to be finite

func (c *credential) fresh(now time.Time) bool {
	life := c.until().Sub(time.Unix(int64(c.cert.ValidAfter), 0)) //nolint:gosec // before ValidBefore
	return c.until().Sub(now) > min(renewBefore, life/4)
}

// flight is one request for a certificate, for everybody who waits for it.
type flight struct {
	done     chan struct{}
	cred     *credential
	err      error
	previous *credential
}

func (f *flight) over() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// keys holds at most one credential of each machine.
type keys struct {
	cfg Config

	mu      sync.Mutex
	flights map[string]*flight
	all     *atomic.Bool // of credentials that are fetched now
}

// get returns the machine's credential: the one that is held, or a new one, asked
// for once however many ask at the same time.
func (k *keys) get(ctx context.Context, machine string) (*credential, error) {
	k.mu.Lock()
	f := k.flights[machine]
	if f == nil || f.over() && (f.cred == nil || !f.cred.fresh(k.cfg.Now())) {
		f = k.start(ctx, machine, f)
	}
	k.mu.Unlock()
	select {
	case <-f.done:
		return f.cred, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// start makes the flight; the lock is held. Whoever waits first does not end it
// for the others by going away.
func (k *keys) start(ctx context.Context, machine string, last *flight) *flight {
	f := &flight{done: make(chan struct{})}
	if last != nil {
		f.previous = last.cred
	}
	now := k.cfg.Now()
	for name, old := range k.flights {
		if old.over() && (old.cred == nil || !now.Before(old.cred.until())) {
			delete(k.flights, name)
		}
	}
	k.flights[machine] = f
	all := k.all
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.cfg.MintTime)
	go func() {
		defer cancel()
		if f.cred, f.err = k.mint(ctx, machine); f.cred != nil {
			f.cred.all = all
		}
		if p := f.previous; f.err != nil && p != nil && away(f.err) && p.until().Sub(k.cfg.Now()) > lastMoment {
			k.cfg.Log(fmt.Sprintf("%s The certificate that is held is used, until %s.", text(f.err), p.until().Local().Format("15:04:05")))
			f.cred, f.err = p, nil
		}
		k.mu.Lock()
		if k.flights[machine] != f {
			f.cred, f.err = nil, errors.New("all keys were removed while this one was fetched")
		}
		k.mu.Unlock()
		close(f.done)
	}()
	return f
}

// away reports whether an error says nothing about the person's rights.
func away(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || fault.KindOf(err) == fault.Unavailable
}

// mint makes a key, gets its certificate and checks that it is what was asked
// for: another machine's would open that machine.
func (k *keys) mint(ctx context.Context, machine string) (*credential, error) {
	_, private, err := ed25519.GenerateKey(k.cfg.Rand)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	cert, err := k.cfg.Identity.Mint(ctx, machine, signer.PublicKey())
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fault.Wrap(err, fault.Unavailable, "NoAnswer", "the server gave no certificate within %s.", k.cfg.MintTime).
			WithRemedy("Check that it can be reached: sally server status")
	}
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(cert.Key.Marshal(), signer.PublicKey().Marshal()) || cert.CertType != ssh.UserCert || cert.ValidBefore > 1<<40 || !boundTo(cert, machine) {
		return nil, fault.New(fault.Unavailable, "BadCertificate", "the server sent a certificate that is not for this key and this machine alone; it is not used.")
	}
	return &credential{signer: signer, cert: cert, blob: cert.Marshal(), machine: machine}, nil
}

// boundTo reports whether a certificate names the machine as the only one that
// may accept it.
func boundTo(cert *ssh.Certificate, machine string) bool {
	return machine != "" && strings.EqualFold(cert.Extensions[machineExtension], machine)
}

// forget drops the credential whose certificate this is, or all without one, and
// says whether there was one.
func (k *keys) forget(blob []byte) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if blob == nil {
		k.all.Store(true)
		k.flights, k.all = map[string]*flight{}, new(atomic.Bool)
		return true
	}
	for name, f := range k.flights {
		if f.over() && f.cred != nil && bytes.Equal(f.cred.blob, blob) {
			f.cred.removed.Store(true)
			delete(k.flights, name)
			return true
		}
	}
	return false
}

// maySign returns why the credential does not sign this data on a connection
// that is bound so.
func (c *credential) maySign(b binding, key, data []byte) error {
	l, err := parseLogin(data)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(key, c.blob) || !bytes.Equal(l.key, c.blob):
		return errors.New("it is for another key")
	case !bytes.Equal(l.session, b.session):
		return errors.New("it is for another session than the connection's")
	case l.bound && !bytes.Equal(l.hostKey, b.hostKey):
		return errors.New("it is for another host key than the connection's")
	case !slices.Contains(c.cert.ValidPrincipals, l.user):
		return fmt.Errorf("the login name %q is not %s", l.user, c.cert.ValidPrincipals[0])
	}
	return nil
}
