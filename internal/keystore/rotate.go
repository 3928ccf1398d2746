package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// held is what the folder has for one purpose: PURPOSE.pem, which Create made,
// and PURPOSE.THUMBPRINT.pem, which Make made; .pub instead of .pem where the key
// is in another process.
type held struct {
	byID map[string]crypto.Signer
	file map[string]string // by id
	made string            // id of the one that Create made; "" when it is gone
}

// first is the key to use until Use chooses: the one that Create made, else the
// only one.
func (h held) first() crypto.Signer {
	if h.made != "" {
		return h.byID[h.made]
	}
	if len(h.byID) == 1 {
		for _, k := range h.byID {
			return k
		}
	}
	return nil
}

// rotates says which purposes may have several keys.
func rotates(p Purpose) bool { return slices.Contains(Rotating(), p) }

// Rotating returns the purposes whose keys can be replaced: those that a
// manifest lists.
func Rotating() []Purpose {
	return []Purpose{protocol.UserCA, protocol.HostCA, protocol.Token, protocol.Snapshot, protocol.Audit}
}

func keyFile(p Purpose, id string) string { return string(p) + "." + id + ".pem" }

// readAll reads every key of a purpose. The error is the one of PURPOSE.pem
// where there is no key at all.
func readAll(c Config, b *box, p Purpose) (held, error) {
	found := held{byID: map[string]crypto.Signer{}, file: map[string]string{}}
	key, name, missing := open(c, b, p)
	if missing != nil && !os.IsNotExist(missing) {
		return found, missing
	}
	if missing == nil {
		id, err := protocol.Thumbprint(key.Public())
		if err != nil {
			return found, fmt.Errorf("keystore: %s: %w", p, err)
		}
		found.byID[id], found.file[id], found.made = key, name, id
	}
	if !rotates(p) {
		return found, missing
	}
	if err := found.further(c, b, p); err != nil {
		return found, err
	}
	if len(found.byID) > 0 {
		missing = nil
	}
	return found, missing
}

// further reads the keys that rotations have made or adopted.
func (h held) further(c Config, b *box, p Purpose) error {
	private, err := filepath.Glob(filepath.Join(c.Dir, string(p)+".*.pem"))
	if err != nil {
		return err
	}
	public, err := filepath.Glob(filepath.Join(c.Dir, string(p)+".*.pub"))
	if err != nil {
		return err
	}
	for _, path := range append(private, public...) {
		name := filepath.Base(path)
		var key crypto.Signer
		if strings.HasSuffix(name, ".pub") {
			key, err = readExternal(c, p, name)
		} else {
			key, err = readKey(c.Dir, b, p, name)
		}
		if err != nil {
			return err
		}
		id, err := protocol.Thumbprint(key.Public())
		if err != nil {
			return fmt.Errorf("keystore: %s: %w", p, err)
		}
		if name != keyFile(p, id) && name != publicFile(p, id) {
			return fault.New(fault.Invalid, "KeyInvalid", "%s holds another key than its name says", path)
		}
		if h.byID[id] != nil {
			return fault.New(fault.Invalid, "KeyReused", "%s is the same key as %s", path, h.file[id])
		}
		h.byID[id], h.file[id] = key, name
	}
	return nil
}

func same(a, b crypto.Signer) bool {
	x, errA := protocol.Thumbprint(a.Public())
	y, errB := protocol.Thumbprint(b.Public())
	return errA == nil && errB == nil && x == y
}

// ByID returns a key of a purpose by its thumbprint; ok is false when this
// folder does not hold it.
func (s *Store) ByID(p Purpose, id string) (key crypto.Signer, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if key, ok = s.held[p].byID[id]; ok {
		return key, true
	}
	if key = s.keys[p]; key != nil {
		if have, err := protocol.Thumbprint(key.Public()); err == nil && have == id {
			return key, true
		}
	}
	return nil, false
}

// Use makes a key the one that Signer returns. A key that was copied into the
// folder since the start is found, and one that is in a configured signer.
func (s *Store) Use(p Purpose, id string) error {
	key, ok := s.ByID(p, id)
	if !ok && rotates(p) {
		if err := s.reload(p); err != nil {
			return err
		}
		key, ok = s.ByID(p, id)
	}
	if !ok && len(s.cfg.External[p]) != 0 {
		if _, err := s.successor(p, id); err == nil {
			key, ok = s.ByID(p, id)
		}
	}
	if !ok {
		s.Unuse(p)
		return fault.New(fault.Unavailable, "KeyNotHeld", "this server does not hold the %s key %s", p, id).
			WithRemedy("Copy %s from the server that made it to the key folder here, or configure its signer here too.", keyFile(p, id))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[p] = key
	return nil
}

// Unuse leaves a purpose without a key: nothing is signed for it until Use
// chooses another.
func (s *Store) Unuse(p Purpose) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, p)
}

func (s *Store) reload(p Purpose) error {
	found, err := readAll(s.cfg, &box{passphrase: s.cfg.Passphrase, derived: map[string][]byte{}}, p)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[p] = found
	return nil
}

// like is the kind of a purpose's present key: its successor is of the same.
func (s *Store) like(p Purpose) Algorithm {
	key, err := s.Signer(p)
	if err != nil || !authority(p) {
		return ""
	}
	switch k := key.Public().(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() > 3072 {
			return RSA4096
		}
		return RSA3072
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return ECDSAP256
		}
		return ECDSAP384
	}
	return Ed25519
}

// Make makes a further key of a purpose, writes it to the folder and returns its
// public half; where signers are configured, it adopts the one whose key is not
// known yet. It is not in use before Use chooses it.
func (s *Store) Make(p Purpose) (crypto.PublicKey, error) {
	if !rotates(p) {
		return nil, fault.New(fault.Invalid, "PurposeFixed", "keys of purpose %q are not replaced", string(p))
	}
	if len(s.cfg.External[p]) != 0 {
		return s.successor(p, "")
	}
	key, err := generate(s.rand, p, s.like(p))
	if err != nil {
		return nil, fmt.Errorf("keystore: make key %s: %w", p, err)
	}
	id, err := protocol.Thumbprint(key.Public())
	if err != nil {
		return nil, fmt.Errorf("keystore: %s: %w", p, err)
	}
	box, err := newBox(s.rand, s.cfg.Passphrase)
	if err != nil {
		return nil, err
	}
	if err := writeKey(s.cfg, box, p, keyFile(p, id), key); err != nil {
		return nil, err
	}
	return key.Public(), s.reload(p)
}

// Destroy removes a key that is not in use from the folder. It is idempotent.
func (s *Store) Destroy(p Purpose, id string) error {
	if used, err := s.Signer(p); err == nil {
		if have, err := protocol.Thumbprint(used.Public()); err != nil || have == id {
			return fault.New(fault.Conflict, "KeyInUse", "the %s key %s is in use", p, id)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.held[p]
	if !ok || h.byID[id] == nil || !rotates(p) || strings.ContainsAny(id, "/.") {
		return nil
	}
	if err := os.Remove(filepath.Join(s.cfg.Dir, h.file[id])); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keystore: remove the %s key %s: %w", p, id, err)
	}
	delete(h.byID, id)
	if h.made == id {
		h.made = ""
	}
	s.held[p] = h
	return syncDir(s.cfg.Dir)
}
