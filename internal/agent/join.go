package agent

import (
	"context"
	"crypto"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sallyport/internal/agent/durable"
	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/preflight"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// JoinConfig is one attempt to join.
type JoinConfig struct {
	Root    string // "/" on a machine
	Owner   uint32 // of files: 0 on a machine
	Network int    // uid of the network part, which owns the machine's key
	Token   string
	Address string // host:port to dial instead of the URL's; may be empty
	Facts   Facts
	Wait    func(ctx context.Context, d time.Duration)
	Tries   int
	Log     func(format string, args ...any)
	// What a token that a person made takes besides.
	Name, Group string
	Tags        map[string]string
	EnableLogin bool
	// Check, where set, refuses before anything is changed on the machine and before
	// the token is sent. Now is for it.
	Check func(ctx context.Context, q preflight.Question) error
	Now   func() time.Time
}

// Facts is what a machine says of itself when it joins.
type Facts struct {
	Hostname, OS, OpenSSH, Version string
}

// pendingKey is the key of a join that has not succeeded yet: the same key may
// repeat its request, so a lost answer does not cost the token.
const pendingKey = pin.KeyPath + ".join"

const keyBlock = "PRIVATE KEY"

// Join makes this machine a machine of the token's server. The manifest is
// verified against the token's thumbprint before the secret is sent to anybody,
// and the secret goes only to a server whose TLS certificate that manifest
// trusts. On success the pins, the manifest and the key are in place.
func Join(ctx context.Context, c JoinConfig) (pin.Machine, error) {
	token, err := protocol.ParseJoinToken(c.Token)
	if err != nil {
		return pin.Machine{}, fault.Wrap(err, fault.Invalid, "InvalidJoinToken", "%v", err).WithRemedy("Ask whoever manages the machine for a new token.")
	}
	if err := pin.CheckAddress(c.Address); err != nil {
		return pin.Machine{}, err
	}
	signed, manifest, at, err := c.manifest(ctx, token)
	if err != nil {
		return pin.Machine{}, err
	}
	if c.Check != nil {
		now, err := c.serverTime(ctx, token, manifest, at)
		if err != nil {
			return pin.Machine{}, err
		}
		if err := c.Check(ctx, preflight.Question{Domains: manifest.Domains, Server: now, Local: c.Now()}); err != nil {
			return pin.Machine{}, err
		}
	}
	key, err := c.key()
	if err != nil {
		return pin.Machine{}, err
	}
	answer, err := c.request(ctx, token, manifest, key)
	if err != nil {
		return pin.Machine{}, err
	}
	thumbprint, err := protocol.Thumbprint(key.Public())
	if err != nil {
		return pin.Machine{}, err
	}
	m := pin.Machine{URL: token.URL, Address: c.Address, ManifestPin: token.Pin, Tenant: manifest.Tenant, MachineID: answer.MachineID, ResourceID: answer.ResourceID, KeyThumbprint: thumbprint}
	return m, c.settle(m, signed)
}

// manifest fetches and verifies. Nothing secret is sent, so TLS need not be
// trusted yet. at is what time the answer says it is, which nobody vouches for.
func (c JoinConfig) manifest(ctx context.Context, t protocol.JoinToken) (signed protocol.SignedManifest, m protocol.Manifest, at time.Time, err error) {
	open, err := newClient(clientConfig{URL: t.URL, Address: c.Address})
	if err != nil {
		return signed, m, at, err
	}
	open.date = &at
	if err := c.patiently(ctx, func() error { return open.call(ctx, "GET", "/.well-known/sallyport/manifest", nil, &signed) }); err != nil {
		return signed, m, at, err
	}
	m, err = signed.Open(t.Pin)
	if err != nil {
		return signed, m, at, fault.Wrap(err, fault.Unauthenticated, "ServerNotTrusted", "this is not the server that the token was made by: %v", err).
			WithRemedy("Nothing was sent to it. Check the address, or ask for a new token.")
	}
	if !sameHost(m.URL, t.URL) {
		return signed, m, at, fault.New(fault.Unauthenticated, "ServerNotTrusted", "the token names %s, the server's manifest names %s", t.URL, m.URL)
	}
	return signed, m, at, nil
}

func sameHost(a, b string) bool {
	x, err := url.Parse(a)
	y, err2 := url.Parse(b)
	return err == nil && err2 == nil && strings.EqualFold(x.Host, y.Host) && x.Scheme == y.Scheme
}

func (c JoinConfig) request(ctx context.Context, t protocol.JoinToken, m protocol.Manifest, key crypto.Signer) (protocol.JoinAnswer, error) {
	var answer protocol.JoinAnswer
	trusted, err := newClient(clientConfig{URL: t.URL, Address: c.Address, Trust: m, Key: key, Pinned: true})
	if err != nil {
		return answer, err
	}
	r := protocol.JoinRequest{Capability: protocol.Unchanged, Token: t.String(), Hostname: c.Facts.Hostname, OS: c.Facts.OS, OpenSSH: c.Facts.OpenSSH, Agent: c.Facts.Version,
		Name: c.Name, Group: c.Group, Tags: c.Tags, EnableLogin: c.EnableLogin}
	if err := c.patiently(ctx, func() error { return trusted.call(ctx, "POST", "/machine/v1/join", r, &answer) }); err != nil {
		return answer, err
	}
	return answer, nil
}

// patiently repeats what fails because the server is not there yet.
func (c JoinConfig) patiently(ctx context.Context, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		if err == nil || !fault.Is(err, fault.Unavailable) || try >= c.Tries {
			return err
		}
		c.Log("%v; trying again", err)
		c.Wait(ctx, min(time.Duration(try)*200*time.Millisecond, 2*time.Second))
		if ctx.Err() != nil {
			return err
		}
	}
}

// key returns the pending key, or makes one. A machine that joins again always
// gets a new key.
func (c JoinConfig) key() (crypto.Signer, error) {
	path := filepath.Join(c.Root, pendingKey)
	if err := durable.Folder(filepath.Join(c.Root, pin.KeyFolder), 0o755); err != nil {
		return nil, err
	}
	b, err := durable.Read(path, c.Owner, 64<<10)
	if err == nil {
		if block, _ := pem.Decode(b); block != nil {
			return parseKey(block.Bytes)
		}
		err = fs.ErrNotExist
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, der, err := newKey()
	if err != nil {
		return nil, err
	}
	return key, durable.Write(path, pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), 0o600)
}

// settle puts everything in place; the pins come last and make it true.
func (c JoinConfig) settle(m pin.Machine, signed protocol.SignedManifest) error {
	if old, err := pin.Load(c.Root, c.Owner); err == nil && (old.MachineID != m.MachineID || old.ManifestPin != m.ManifestPin) {
		// Counters of another identity mean nothing for this one.
		if err := durable.Remove(filepath.Join(c.Root, "/var/lib/sallyport/root/held.json")); err != nil {
			return err
		}
	}
	if err := durable.Folder(filepath.Join(c.Root, pin.Folder), 0o755); err != nil {
		return err
	}
	if err := pin.SaveManifest(c.Root, signed); err != nil {
		return err
	}
	path := filepath.Join(c.Root, pendingKey)
	if err := os.Lchown(path, c.Network, -1); err != nil {
		return fmt.Errorf("give the machine's key to the network part: %w", err)
	}
	if err := os.Rename(path, filepath.Join(c.Root, pin.KeyPath)); err != nil {
		return err
	}
	return m.Save(c.Root)
}

// LoadKey reads the machine's key, which belongs to owner alone.
func LoadKey(root string, owner uint32) (crypto.Signer, error) {
	path := filepath.Join(root, pin.KeyPath)
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others", path)
	}
	b, err := durable.Read(path, owner, 64<<10)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != keyBlock {
		return nil, fmt.Errorf("%s holds no key", path)
	}
	return parseKey(block.Bytes)
}
