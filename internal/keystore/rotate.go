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
// and PURPOSE.THUMBPRINT.pem, which Make made.
type held struct {
	byID map[string]crypto.Signer
	made string // id of PURPOSE.pem; "" when it is gone
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
	found := held{byID: map[string]crypto.Signer{}}
	key, missing := open(c, b, p)
	if missing != nil && !os.IsNotExist(missing) {
		return found, missing
	}
	if missing == nil {
		id, err := protocol.Thumbprint(key.Public())
		if err != nil {
			return found, fmt.Errorf("keystore: %s: %w", p, err)
		}
		found.byID[id], found.made = key, id
	}
	if !rotates(p) {
		return found, missing
	}
	names, err := filepath.Glob(filepath.Join(c.Dir, string(p)+".*.pem"))
	if err != nil {
		return found, err
	}
	for _, path := range names {
		name := filepath.Base(path)
		key, err := readKey(c.Dir, b, p, name)
		if err != nil {
			return found, err
		}
		id, err := protocol.Thumbprint(key.Public())
		if err != nil {
			return found, fmt.Errorf("keystore: %s: %w", p, err)
		}
		if name != keyFile(p, id) {
			return found, fault.New(fault.Invalid, "KeyInvalid", "%s holds another key than its name says", path)
		}
		if found.byID[id] != nil {
			return found, fault.New(fault.Invalid, "KeyReused", "%s is the same key as %s", path, fileName(p))
		}
		found.byID[id] = key
	}
	if len(found.byID) > 0 {
		missing = nil
	}
	return found, missing
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
// folder since the start is found.
func (s *Store) Use(p Purpose, id string) error {
	key, ok := s.ByID(p, id)
	if !ok && rotates(p) {
		if err := s.reload(p); err != nil {
			return err
		}
		key, ok = s.ByID(p, id)
	}
	if !ok {
		s.Unuse(p)
		return fault.New(fault.Unavailable, "KeyNotHeld", "this server does not hold the %s key %s", p, id).
			WithRemedy("Copy %s from the server that made it to the key folder here.", keyFile(p, id))
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
// public half. It is not in use before Use chooses it.
func (s *Store) Make(p Purpose) (crypto.PublicKey, error) {
	if !rotates(p) {
		return nil, fault.New(fault.Invalid, "PurposeFixed", "keys of purpose %q are not replaced", string(p))
	}
	if _, ok := s.cfg.External[p]; ok {
		return nil, fault.New(fault.Conflict, "KeyElsewhere", "the %s key is in a signer; a key in a file would be weaker", p).
			WithRemedy("Make the successor in the signer.")
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
	name := keyFile(p, id)
	if h.made == id {
		name = fileName(p)
	}
	if err := os.Remove(filepath.Join(s.cfg.Dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keystore: remove the %s key %s: %w", p, id, err)
	}
	delete(h.byID, id)
	if h.made == id {
		h.made = ""
	}
	s.held[p] = h
	return syncDir(s.cfg.Dir)
}
