package keystore

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"sallyport/internal/fault"
)

const (
	pemKey  = "PRIVATE KEY" // PKCS #8, RFC 5958
	pemHash = "SALLYPORT HASH KEY"
	// maxFile bounds what is read of a key file.
	maxFile = 64 << 10
)

func fileName(p Purpose) string { return string(p) + ".pem" }

func writeKey(c Config, b *box, p Purpose, name string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("keystore: %s: %w", p, err)
	}
	return writeSecret(c, b, name, pemKey, der)
}

func readKey(dir string, b *box, p Purpose, name string) (crypto.Signer, error) {
	der, err := readSecret(dir, b, name, pemKey)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "KeyInvalid", "%s holds no PKCS #8 key", filepath.Join(dir, name))
	}
	key, ok := parsed.(crypto.Signer)
	if !ok || !suits(p, key.Public()) {
		return nil, fault.New(fault.Invalid, "KeyInvalid", "%s holds a key of the wrong kind, or too weak, for its purpose", filepath.Join(dir, name))
	}
	return key, nil
}

// writeSecret seals data where there is a passphrase and puts it in place whole:
// a crash leaves no half key, and an existing file is never replaced.
func writeSecret(c Config, b *box, name, kind string, data []byte) error {
	block, err := b.seal(c.Rand, name, kind, data)
	if err != nil {
		return err
	}
	path := filepath.Join(c.Dir, name)
	temp := path + ".new"
	// What a kill has left beside it would stand in the way for ever.
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keystore: %w", err)
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("keystore: %w", err)
	}
	_, err = f.Write(pem.EncodeToMemory(block))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Link(temp, path)
	}
	err = errors.Join(err, os.Remove(temp))
	if err == nil {
		err = syncDir(c.Dir)
	}
	if err != nil {
		return fmt.Errorf("keystore: write %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readSecret opens without following links and judges the opened file, not its
// name, so that it cannot be exchanged between the check and the reading.
func readSecret(dir string, b *box, name, kind string) ([]byte, error) {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Invalid, "KeyFileUnsafe", "%s is not a regular file", path)
	}
	if err := private(path, info, 0o600); err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("keystore: read %s: %w", path, err)
	}
	block, rest := pem.Decode(raw)
	if block == nil || len(rest) != 0 || len(raw) > maxFile {
		return nil, fault.New(fault.Invalid, "KeyInvalid", "%s is not one PEM block", path)
	}
	return b.open(path, name, kind, block)
}

// unreadable says why a file cannot be opened; that it is not there is left to the
// caller, who may not need it.
func unreadable(path string, err error) error {
	info, missing := os.Lstat(path)
	if missing != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fault.Wrap(err, fault.Invalid, "KeyFileUnsafe", "%s is not a regular file", path)
	}
	if unsafe := private(path, info, 0o600); unsafe != nil {
		return unsafe
	}
	return fault.Wrap(err, fault.Forbidden, "KeyFileUnsafe", "%s cannot be read by its owner", path).WithRemedy("Run: chmod 600 %s", path)
}

// absent turns a file that is not there into a fault.
func absent(err error) error {
	var p *fs.PathError
	if !errors.As(err, &p) || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fault.Wrap(err, fault.NotFound, "KeyMissing", "the key %s is missing", p.Path).
		WithRemedy("Put it back: a backup of the keys has it, and so has another server of the same deployment.")
}

func checkDir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fault.Wrap(err, fault.NotFound, "KeysMissing", "there is no key folder %s", dir).WithRemedy("Run: sally server init")
	}
	if !info.IsDir() {
		return fault.New(fault.Invalid, "KeyFileUnsafe", "%s is not a folder", dir)
	}
	return private(dir, info, 0o700)
}

// private refuses a file that is not this process's own or that others may touch.
func private(path string, info os.FileInfo, want os.FileMode) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) != os.Geteuid() {
		return fault.New(fault.Forbidden, "KeyFileUnsafe", "%s belongs to another user", path).
			WithRemedy("Only the server's own user may own it: chown it to uid %d.", os.Geteuid())
	}
	if info.Mode().Perm()&^want != 0 {
		return fault.New(fault.Forbidden, "KeyFileUnsafe", "%s has mode %04o, which lets others in", path, info.Mode().Perm()).
			WithRemedy("Run: chmod %o %s; and if others could read it, replace the key.", want, path)
	}
	return nil
}
