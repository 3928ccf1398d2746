package server

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/fault"
	"sallyport/internal/keyring"
	"sallyport/internal/keystore"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/oauth/token"
	"sallyport/internal/sshca"
	"sallyport/internal/store"
)

// authority is what this deployment signs with and vouches for, as the store has
// it now: keys, manifest, issuer and token keys follow the change feed, so that
// every replica turns with a rotation.
type authority struct {
	cfg    authorityConfig
	pin    string // of the manifest key: it never changes
	tokens *token.Keys
	state  atomic.Pointer[vouched]

	mu      sync.Mutex // one rotation begins at a time
	turning sync.Mutex // one state follows the other
}

type authorityConfig struct {
	Store    *store.Store
	Write    func(context.Context, func(*store.Tx) error) error // returns when the change is visible here
	Keys     *keystore.Store
	HostKeys sshca.HostKeys
	Rand     io.Reader
	Now      func() time.Time
	Log      *slog.Logger
	// Longest is the longest life of a user certificate.
	Longest time.Duration
}

// vouched is one state. It is never changed, only replaced.
type vouched struct {
	signed   protocol.SignedManifest
	manifest protocol.Manifest
	ring     keyring.Ring
	issuer   *sshca.Issuer
	lacking  map[protocol.Purpose]error // purposes that cannot sign, and why
}

// openAuthority reads manifest and keys and holds the keys on disk to them: a
// server whose keys are not the listed ones would be refused by every machine.
func openAuthority(ctx context.Context, cfg authorityConfig) (*authority, error) {
	a := &authority{cfg: cfg}
	var err error
	if a.tokens, err = token.New(cfg.Rand, nil); err != nil {
		return nil, err
	}
	if err := cfg.Store.Read(ctx, a.load); err != nil {
		return nil, err
	}
	for _, p := range keyring.Purposes() {
		active, ok := a.now().ring.Active(p)
		if !ok {
			continue // withdrawn, and the successor waits for the manifest's signature
		}
		if _, held := cfg.Keys.ByID(p, active.ID); !held || !a.now().manifest.Lists(p, active.ID) && p != protocol.Token {
			return nil, fault.New(fault.Conflict, "KeyNotListed", "the %s key in %s is not the one that the manifest lists (%s)", p, keysDir, active.ID).WithRemedy("Put back the keys that belong to this store.")
		}
	}
	return a, nil
}

// SignedManifest returns the newest signed manifest.
func (d *deployment) SignedManifest(ctx context.Context) (protocol.SignedManifest, error) {
	return d.trust.SignedManifest(ctx)
}

// longest is the longest life of a user certificate.
func (c Config) longest() time.Duration {
	if c.LongestCertificate == 0 {
		return sshca.MaxLifetime
	}
	return min(c.LongestCertificate, sshca.MaxLifetime)
}

// openTrust opens the deployment's authority.
func (d *deployment) openTrust(ctx context.Context) (err error) {
	d.machineKeys = machine.NewIndex()
	d.trust, err = openAuthority(ctx, authorityConfig{Store: d.store, Keys: d.keys, HostKeys: d.machineKeys, Rand: d.cfg.Rand, Now: d.cfg.Now, Log: d.cfg.Log, Longest: d.cfg.longest(),
		Write: func(ctx context.Context, f func(*store.Tx) error) error { return d.follow.Write(ctx, f) }})
	if err != nil {
		return err
	}
	_, d.manifest = d.trust.Manifest()
	return d.trust.allow(ctx)
}

func (a *authority) now() *vouched { return a.state.Load() }

// Manifest returns the newest signed manifest with its content.
func (a *authority) Manifest() (protocol.SignedManifest, protocol.Manifest) {
	v := a.now()
	return v.signed, v.manifest
}

// named is the manifest in force as answers name it.
func (a *authority) named() string {
	m := a.now().manifest
	return strconv.FormatInt(m.Epoch, 10) + "." + strconv.FormatInt(m.Version, 10)
}

// SignedManifest returns the newest signed manifest.
func (a *authority) SignedManifest(context.Context) (protocol.SignedManifest, error) {
	return a.now().signed, nil
}

// refresh follows the change feed.
func (a *authority) refresh(t *store.Tx, kind, _ string) error {
	if kind != store.ManifestChange {
		return nil
	}
	return a.load(t)
}

// load reads the store's state and turns to it.
func (a *authority) load(t *store.Tx) error {
	signed, manifest, ring, err := a.read(t)
	if err != nil {
		return err
	}
	if a.pin == "" {
		if a.pin, err = signed.Pin(); err != nil {
			return err
		}
	}
	return a.turn(&vouched{signed: signed, manifest: manifest, ring: ring, lacking: map[protocol.Purpose]error{}})
}

// read verifies what the store holds. A store that has never rotated has no ring:
// its manifest says everything.
func (a *authority) read(t *store.Tx) (protocol.SignedManifest, protocol.Manifest, keyring.Ring, error) {
	signed, found, err := t.Manifest()
	if err != nil || !found {
		return signed, protocol.Manifest{}, keyring.Ring{}, errors.Join(err, fault.New(fault.NotFound, "ManifestMissing", "the store holds no deployment").WithRemedy("Make one with: sally server init"))
	}
	pin := a.pin
	if pin == "" {
		if pin, err = signed.Pin(); err != nil {
			return signed, protocol.Manifest{}, keyring.Ring{}, err
		}
	}
	manifest, err := signed.Open(pin)
	if err != nil {
		return signed, manifest, keyring.Ring{}, err
	}
	ring, found, err := t.Keyring()
	if err == nil && !found {
		ring = keyring.Of(manifest, sshca.MaxLifetime)
	}
	return signed, manifest, ring, err
}

// turn makes a state the one that signs. A key that this server does not hold is
// no error here: what it is for is refused until it is there.
func (a *authority) turn(v *vouched) error {
	a.turning.Lock()
	defer a.turning.Unlock()
	return a.turnTo(v)
}

// again turns to the present state once more: a key that was missing may be here
// now.
func (a *authority) again() error {
	a.turning.Lock()
	defer a.turning.Unlock()
	v := *a.now()
	v.lacking = map[protocol.Purpose]error{}
	return a.turnTo(&v)
}

func (a *authority) turnTo(v *vouched) error {
	for _, p := range keyring.Purposes() {
		active, ok := v.ring.Active(p)
		if !ok {
			a.cfg.Keys.Unuse(p)
			v.lacking[p] = fault.New(fault.Unavailable, "KeyWithdrawn", "the %s key was withdrawn and its successor waits for the signature of the manifest", p).
				WithRemedy("An administrator signs it with: sally ca request-manifest, sally ca sign-manifest, sally ca apply-manifest.")
			continue
		}
		if err := a.cfg.Keys.Use(p, active.ID); err != nil {
			v.lacking[p] = err
			a.cfg.Log.Error("a key is missing", "purpose", string(p), "error", err.Error())
		}
	}
	var err error
	if v.issuer, err = a.issuer(v); err != nil {
		return err
	}
	if err := a.turnTokens(v.ring); err != nil {
		return err
	}
	a.state.Store(v)
	a.destroy(v.ring)
	return nil
}

func (a *authority) issuer(v *vouched) (*sshca.Issuer, error) {
	own := a.cfg.Keys.Public()
	for _, k := range v.ring.Keys {
		pub, err := k.Parsed()
		if err != nil {
			return nil, err
		}
		own = append(own, pub)
	}
	cas := map[protocol.Purpose]crypto.Signer{}
	for _, p := range []protocol.Purpose{protocol.UserCA, protocol.HostCA} {
		signer, err := a.cfg.Keys.Signer(p)
		if err != nil {
			// The issuer is never asked for this type: Issue refuses before. Any key
			// of the right kind holds the place, and cannot sign.
			if signer, err = placeholder(p, v.ring); err != nil {
				return nil, err
			}
		}
		cas[p] = signer
	}
	return sshca.New(sshca.Config{UserCA: cas[protocol.UserCA], HostCA: cas[protocol.HostCA], Rand: a.cfg.Rand, Own: own, HostKeys: a.cfg.HostKeys})
}

// unable is a public key without its private half.
type unable struct{ public crypto.PublicKey }

func (u unable) Public() crypto.PublicKey { return u.public }

func (u unable) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("there is no private key")
}

func placeholder(p protocol.Purpose, r keyring.Ring) (crypto.Signer, error) {
	for _, k := range r.Keys {
		if k.Purpose == p {
			pub, err := k.Parsed()
			return unable{pub}, err
		}
	}
	return nil, fmt.Errorf("there never was a %s key", p)
}

func (a *authority) turnTokens(r keyring.Ring) error {
	var trusted []crypto.PublicKey
	for _, k := range r.Trusted(protocol.Token, time.Time{}) {
		pub, err := k.Parsed()
		if err != nil {
			return err
		}
		trusted = append(trusted, pub)
	}
	signer, err := a.cfg.Keys.Signer(protocol.Token)
	if err != nil {
		signer = nil // lacking has the reason
	}
	return a.tokens.Turn(signer, trusted...)
}

// destroy removes private keys that are never needed again.
func (a *authority) destroy(r keyring.Ring) {
	for _, k := range r.Keys {
		if k.State != keyring.Retired && k.State != keyring.Compromised {
			continue
		}
		if err := a.cfg.Keys.Destroy(k.Purpose, k.ID); err != nil {
			a.cfg.Log.Error("a retired key cannot be removed", "purpose", string(k.Purpose), "key", k.ID, "error", err.Error())
		}
	}
}

// Issue signs a certificate with the key that is active now.
func (a *authority) Issue(r sshca.Request) (*ssh.Certificate, error) {
	v, p := a.now(), protocol.UserCA
	if r.Type == sshca.Host {
		p = protocol.HostCA
	}
	if err := v.lacking[p]; err != nil {
		return nil, err
	}
	return v.issuer.Issue(r)
}

// ready says whether every purpose has its key.
func (a *authority) ready() error {
	var errs []error
	for _, p := range keyring.Purposes() {
		errs = append(errs, a.now().lacking[p])
	}
	return errors.Join(errs...)
}
