package keystore

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// Purpose says the one thing a key is for. The five that a manifest lists are
// protocol's.
type Purpose = protocol.Purpose

// The purposes that no manifest lists.
const (
	Manifest Purpose = "manifest" // signs the manifest; may be moved off the server
	TLSCA    Purpose = "tls-ca"   // signs the server's own TLS certificate
	TLS      Purpose = "tls"      // the server's TLS key
	// Repository signs the package repositories that a server hands out. Only a
	// deployment that does has one: AddRepository makes it.
	Repository Purpose = "repository"
)

const hashFile = "hash.key"

// Purposes returns every purpose that a complete store holds.
func Purposes() []Purpose {
	return []Purpose{Manifest, protocol.UserCA, protocol.HostCA, protocol.Token, protocol.Snapshot, protocol.Audit, TLSCA, TLS}
}

// possible returns every purpose that a store may hold.
func possible() []Purpose { return append(Purposes(), Repository) }

// Config says where the keys are. Rand is needed by Create and Rotate and by the
// signatures that need randomness. Passphrase, where given, encrypts the files at
// rest (argon2id, XChaCha20-Poly1305).
type Config struct {
	Dir        string
	Rand       io.Reader
	Passphrase []byte
	// Algorithms are the kinds of the authorities' keys that Create makes.
	Algorithms map[Purpose]Algorithm
	// External are the authorities' keys that are in other processes: for Create
	// one of a purpose, for Open every one that is in use or to be rotated to.
	External map[Purpose][]External
}

// Store holds opened keys. It is safe for concurrent use.
type Store struct {
	cfg  Config
	rand io.Reader
	hash []byte

	mu   sync.RWMutex
	keys map[Purpose]crypto.Signer // what Signer gives
	held map[Purpose]held          // of the purposes that rotate: everything in the folder
}

// Create makes a complete set of keys in a folder that does not exist yet or is
// empty, each file written beside its place, flushed and moved. It never
// replaces a key.
func Create(c Config) (*Store, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	if len(entries) != 0 {
		return nil, fault.New(fault.Conflict, "KeysExist", "the key folder %s is not empty", c.Dir).
			WithRemedy("Keys are never replaced by init: choose another state folder, or start the server with the keys that are there.")
	}
	box, err := newBox(c.Rand, c.Passphrase)
	if err != nil {
		return nil, err
	}
	for _, p := range Purposes() {
		if len(c.External[p]) != 0 {
			if err := create(c, p); err != nil {
				return nil, err
			}
			continue
		}
		key, err := generate(c.Rand, p, c.Algorithms[p])
		if err != nil {
			return nil, fmt.Errorf("keystore: make key %s: %w", p, err)
		}
		if err := writeKey(c, box, p, fileName(p), key); err != nil {
			return nil, err
		}
	}
	secret := make([]byte, 32)
	if _, err := io.ReadFull(c.Rand, secret); err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	if err := writeSecret(c, box, hashFile, pemHash, secret); err != nil {
		return nil, err
	}
	return Open(c)
}

// Open reads every key and refuses a folder or a file that another user could
// read or change. Only the manifest key may be absent, for it may be kept offline,
// and the repository key.
func Open(c Config) (*Store, error) {
	if err := checkDir(c.Dir); err != nil {
		return nil, err
	}
	s := &Store{cfg: c, rand: c.Rand, keys: map[Purpose]crypto.Signer{}, held: map[Purpose]held{}}
	box := &box{passphrase: c.Passphrase, derived: map[string][]byte{}}
	seen := map[string]Purpose{}
	for _, p := range possible() {
		found, err := readAll(c, box, p)
		if os.IsNotExist(err) && (p == Manifest || p == Repository) {
			continue
		}
		if err != nil {
			return nil, absent(err)
		}
		for id := range found.byID {
			if other, dup := seen[id]; dup {
				return nil, fault.New(fault.Invalid, "KeyReused", "the keys %s and %s are the same key; every purpose needs its own", other, p)
			}
			seen[id] = p
		}
		if key := found.first(); key != nil {
			s.keys[p] = key
		}
		s.held[p] = found
	}
	secret, err := readSecret(c.Dir, box, hashFile, pemHash)
	if err != nil {
		return nil, absent(err)
	}
	if len(secret) != 32 {
		return nil, fault.New(fault.Invalid, "KeyInvalid", "%s must hold 32 bytes", filepath.Join(c.Dir, hashFile))
	}
	s.hash = secret
	return s, nil
}

// open reads the key that Create made for a purpose, or connects the one that is
// elsewhere. The error is the private file's where there is neither.
func open(c Config, b *box, p Purpose) (crypto.Signer, string, error) {
	key, missing := readKey(c.Dir, b, p, fileName(p))
	if !authority(p) || missing != nil && !os.IsNotExist(missing) {
		return key, fileName(p), missing
	}
	remote, err := readExternal(c, p, publicName(p))
	switch {
	case os.IsNotExist(err):
		return key, fileName(p), missing
	case err == nil && missing == nil:
		return nil, "", fault.New(fault.Conflict, "KeyTwice", "there are both %s and %s in %s", fileName(p), publicName(p), c.Dir).
			WithRemedy("One of them belongs to another deployment: take it away.")
	}
	return remote, publicName(p), err
}

// Signer returns the key of one purpose: the one that Use chose, else the one
// that Create made.
func (s *Store) Signer(p Purpose) (crypto.Signer, error) {
	s.mu.RLock()
	key, ok := s.keys[p]
	s.mu.RUnlock()
	if ok {
		return key, nil
	}
	if p == Manifest {
		return nil, fault.New(fault.Unavailable, "ManifestKeyOffline", "the manifest key is not on this server").
			WithRemedy("Bring manifest.pem back to the key folder for the time of the change.")
	}
	if p == Repository {
		return nil, fault.New(fault.Precondition, "RepositoryKeyMissing", "this deployment has no key for its package repositories yet").
			WithRemedy("Run once, on one server: sally server repository-key --state FOLDER; other servers of the deployment get a copy of keys/%s.", fileName(p))
	}
	return nil, fault.New(fault.Internal, "KeyUnknown", "no key is in use for %q", string(p))
}

// AddRepository makes the repository key of a deployment that has none. It never
// replaces a key.
func (s *Store) AddRepository() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[Repository] != nil {
		return nil
	}
	box, err := newBox(s.cfg.Rand, s.cfg.Passphrase)
	if err != nil {
		return err
	}
	key, err := generate(s.cfg.Rand, Repository, "")
	if err != nil {
		return fmt.Errorf("keystore: make key %s: %w", Repository, err)
	}
	if err := writeKey(s.cfg, box, Repository, fileName(Repository), key); err != nil {
		return err
	}
	s.keys[Repository] = key
	return nil
}

// Public returns all public keys, so that no certificate is ever issued for one
// of them.
func (s *Store) Public() []crypto.PublicKey {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []crypto.PublicKey
	for _, p := range possible() {
		key := s.keys[p]
		if key != nil {
			out = append(out, key.Public())
		}
		for _, k := range s.held[p].byID {
			if key == nil || !same(k, key) {
				out = append(out, k.Public())
			}
		}
	}
	return out
}

// Hash returns the keyed SHA-256 (HMAC) of a generated, high-entropy secret.
// The label separates uses, so that a hash stored for one thing never matches
// another.
func (s *Store) Hash(label, secret string) []byte {
	h := hmac.New(sha256.New, s.hash)
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(label)))
	h.Write(n[:])
	io.WriteString(h, label)
	io.WriteString(h, secret)
	return h.Sum(nil)
}
