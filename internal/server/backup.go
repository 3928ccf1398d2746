package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"sallyport/internal/backup"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/store"
)

// BackupConfig describes a backup: of the data, of the keys, or of both.
type BackupConfig struct {
	State    string
	File     string // of the data; empty for none
	Lock     backup.Lock
	KeysFile string // of the key folder; empty for none
	KeysLock backup.Lock
	Build    string
	Now      func() time.Time
	Rand     io.Reader
}

// Backed is what Backup wrote.
type Backed struct {
	Header backup.Header
	Data   backup.Summary
	Keys   backup.Summary
}

// The one table of a file of keys.
const keysTable = "keys"

func keyColumns() []string { return []string{"name", "content"} }

const (
	// maxKeyFile bounds a key file.
	maxKeyFile = 1 << 20
	// maxKeyFiles bounds how many there are.
	maxKeyFiles = 1000
)

// keyName is what a file of the key folder may be called.
func keyName(name string) bool {
	return regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$`).MatchString(name)
}

// Backup writes the deployment as it is at one moment, while a server may serve
// it. Data and keys go to files of their own under secrets of their own. Either
// is there whole or not at all.
func Backup(ctx context.Context, cfg BackupConfig) (Backed, error) {
	if err := notRoot(); err != nil {
		return Backed{}, err
	}
	return backUp(ctx, cfg)
}

func backUp(ctx context.Context, cfg BackupConfig) (b Backed, err error) {
	if cfg.File == "" && cfg.KeysFile == "" {
		return b, fault.New(fault.Invalid, "BackupFile", "say where the backup is to be written").WithRemedy("Give --file FILE for the data, --keys FILE for the keys, or both.")
	}
	if cfg.File != "" && cfg.KeysFile != "" && !cfg.Lock.Apart(cfg.KeysLock) {
		return b, fault.New(fault.Invalid, "BackupNotApart", "one secret would open both files: whoever finds it has the deployment").WithRemedy("Give the keys a recipient or passphrase of their own, and keep it elsewhere.")
	}
	place, err := Database{}.place(cfg.State, "")
	if err != nil {
		return b, err
	}
	place.Now = cfg.Now
	st, err := store.OpenRead(ctx, place)
	if err != nil {
		return b, err
	}
	defer func() { _ = st.Close() }() // it has only read
	id, err := guid.New(cfg.Rand)
	if err != nil {
		return b, err
	}
	b.Header = backup.Header{ID: id, Build: cfg.Build, At: cfg.Now().UTC().Truncate(time.Microsecond)}
	data, err := newPending(cfg.File)
	if err != nil {
		return b, err
	}
	defer data.discard()
	keys, err := newPending(cfg.KeysFile)
	if err != nil {
		return b, err
	}
	defer keys.discard()
	if err := b.write(ctx, cfg, st, data, keys); err != nil {
		return b, err
	}
	if err := keys.commit(); err != nil {
		return b, err
	}
	if err := data.commit(); err != nil || data == nil {
		return b, err
	}
	return b, writeLastBackup(cfg.State, LastBackup{Taken: b.Header.At, File: cfg.File})
}

// write fills the files from one read. The keys come after the rows: whatever
// key the rows speak of is in the folder by then.
func (b *Backed) write(ctx context.Context, cfg BackupConfig, st *store.Store, data, keys *pending) error {
	err := st.Read(ctx, func(t *store.Tx) error {
		if err := describe(t, &b.Header); err != nil {
			return err
		}
		if data == nil {
			return nil
		}
		h := b.Header
		h.Kind = backup.Data
		var err error
		b.Data, err = seal(data, cfg.Lock, h, func(w *backup.Writer) error {
			return t.EachRow(func(table string, columns []string, values []any) error {
				if err := ctx.Err(); err != nil {
					return err
				}
				return w.Row(table, columns, values)
			})
		})
		return err
	})
	if err != nil || keys == nil {
		return err
	}
	h := b.Header
	h.Kind, h.Migrations = backup.Keys, nil
	b.Keys, err = seal(keys, cfg.KeysLock, h, func(w *backup.Writer) error {
		return eachKeyFile(filepath.Join(cfg.State, keysDir), func(name string, content []byte) error {
			return w.Row(keysTable, keyColumns(), []any{name, content})
		})
	})
	return err
}

// describe fills in what a transaction knows of its deployment.
func describe(t *store.Tx, h *backup.Header) error {
	signed, m, err := storedManifest(t)
	if err != nil {
		return err
	}
	h.Tenant, h.ManifestPin, h.Epoch, h.ManifestVersion = m.Tenant, signed.Envelope.KeyID, m.Epoch, m.Version
	if h.Position, err = t.FeedPosition(); err != nil {
		return err
	}
	h.Migrations, err = t.SchemaFiles()
	return err
}

// storedManifest reads the manifest of a store and checks it against the key
// that it names: whether that is the right key, only who has pinned it knows.
func storedManifest(t *store.Tx) (signed protocol.SignedManifest, m protocol.Manifest, err error) {
	signed, found, err := t.Manifest()
	if err != nil {
		return signed, m, err
	}
	if !found {
		return signed, m, fault.New(fault.NotFound, "ManifestMissing", "the store holds no deployment").WithRemedy("Make one with: sally server init")
	}
	pub, err := x509.ParsePKIXPublicKey(signed.ManifestKey)
	if err != nil {
		return signed, m, fmt.Errorf("manifest key: %w", err)
	}
	pin, err := protocol.Thumbprint(pub)
	if err != nil {
		return signed, m, err
	}
	m, err = signed.Open(pin)
	return signed, m, err
}

// seal writes one file.
func seal(p *pending, lock backup.Lock, h backup.Header, fill func(*backup.Writer) error) (backup.Summary, error) {
	w, err := backup.NewWriter(diskWriter{p}, lock, h)
	if err != nil {
		return backup.Summary{}, err
	}
	if err := fill(w); err != nil {
		return backup.Summary{}, err
	}
	return w.Close()
}

// diskWriter says what a disk that is full or gone means.
type diskWriter struct{ p *pending }

func (d diskWriter) Write(b []byte) (int, error) {
	n, err := d.p.Write(b)
	if err != nil {
		err = errCannotWrite(d.p.path, err)
	}
	return n, err
}

// eachKeyFile reads the key folder. It stops at anything that it does not
// understand: a backup that lacks a key is found out when it is too late.
func eachKeyFile(dir string, each func(name string, content []byte) error) error {
	if err := ownFolder(dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return errFolder(dir, err)
	}
	n := 0
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".new") {
			continue // being written by a server; it gets its name when it is whole
		}
		if n++; n > maxKeyFiles || !keyName(e.Name()) {
			return fault.New(fault.Invalid, "KeyFileUnknown", "the key folder %s holds %q, which is no key file", dir, e.Name())
		}
		content, err := keyFile(filepath.Join(dir, e.Name()))
		if os.IsNotExist(err) {
			continue // destroyed since the folder was listed
		}
		if err != nil {
			return err
		}
		if err := each(e.Name(), content); err != nil {
			return err
		}
	}
	return nil
}

// keyFile reads one file as it is: still encrypted where a passphrase protects
// the keys at rest.
func keyFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || int(st.Uid) != os.Geteuid() || info.Size() > maxKeyFile {
		return nil, fault.New(fault.Forbidden, "KeyFileUnsafe", "%s is not a regular file of uid %d with mode 0600", path, os.Geteuid())
	}
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}

// VerifyBackup reads a file to its end and returns what it is. Its secret is
// needed: nothing of a backup is in clear.
func VerifyBackup(path string, kind backup.Kind, open backup.Opener) (backup.Header, backup.Summary, error) {
	var sum backup.Summary
	h, err := readBackup(path, kind, open, func(r *backup.Reader) (err error) {
		sum, err = r.Rows(func(table string, columns []string, values []any) error {
			if kind != backup.Keys {
				return nil
			}
			_, _, err := keyRow(table, values)
			return err
		})
		return err
	})
	return h, sum, err
}

// readBackup opens a file of one kind.
func readBackup(path string, kind backup.Kind, open backup.Opener, use func(*backup.Reader) error) (backup.Header, error) {
	f, err := os.Open(path)
	if err != nil {
		return backup.Header{}, fault.Wrap(err, fault.NotFound, "BackupNotFound", "cannot read the backup: %v", err)
	}
	defer func() { _ = f.Close() }()
	r, err := backup.Open(f, open)
	if err != nil {
		return backup.Header{}, err
	}
	if r.Header.Kind != kind {
		return r.Header, fault.New(fault.Invalid, "BackupKind", "%s holds %s, not %s", path, kindText(r.Header.Kind), kindText(kind))
	}
	return r.Header, use(r)
}

func kindText(k backup.Kind) string {
	if k == backup.Keys {
		return "keys"
	}
	return "the data of a deployment"
}

// keyRow checks a row of a file of keys.
func keyRow(table string, values []any) (name string, content []byte, err error) {
	ok := table == keysTable && len(values) == 2
	if ok {
		name, ok = values[0].(string)
	}
	if ok {
		content, ok = values[1].([]byte)
	}
	if !ok || !keyName(name) || len(content) == 0 || len(content) > maxKeyFile {
		return "", nil, fault.New(fault.Invalid, "BackupDamaged", "the file of keys holds something that is no key file").WithRemedy("Take another copy of the file, or an older backup.")
	}
	return name, content, nil
}
