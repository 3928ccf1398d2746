package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/backup"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/keyring"
	"sallyport/internal/keystore"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/sshca"
	"sallyport/internal/store"
)

const (
	// partialDir is where a restore is made; what is in it is no deployment.
	partialDir = "restore.partial"
	// ownKeys, a file in it, says that the key folder in its place came out of a
	// file of keys, so that the next restore may replace it.
	ownKeys = "own-keys"
	// posixStep is how many POSIX ids a restore passes over: more than any
	// directory gives out between two backups, and 268 restores' worth.
	posixStep = 1_000_000
	// sequenceStep is how many audit records may have been written in the lost
	// time, at the least; sequencesPerEpoch makes two restores of one backup
	// differ, because an epoch is a time in seconds.
	sequenceStep      = 1_000_000_000
	sequencesPerEpoch = 1_000_000
)

// RestoreConfig describes a restore.
type RestoreConfig struct {
	State      string
	Database   Database // where the data go; the zero value: a file in the folder
	File       string   // the data
	Open       backup.Opener
	KeysFile   string // the keys; empty where the key folder is in its place already
	KeysOpen   backup.Opener
	Passphrase []byte // of the keys at rest
	Request    string // new file for what the manifest key must sign, where that is kept elsewhere
	Signers    map[keystore.Purpose][]keystore.External
	Now        func() time.Time
	Rand       io.Reader
}

// RestoredBackup is what Restore made.
type RestoredBackup struct {
	Header  backup.Header
	Restore string // id, to be confirmed
	Epoch   int64
	Rotated bool                      // the keys are of another time than the data
	Request *protocol.ManifestRequest // what is to be signed where the manifest key is; nil when it was signed here
}

// Restore makes a deployment from a backup in a folder that holds none. It is
// there whole or not at all, whenever the process or the computer ends. What was
// issued before is dead, machines are told by a higher epoch, and the deployment
// issues nothing until an administrator has confirmed it.
func Restore(ctx context.Context, cfg RestoreConfig) (RestoredBackup, error) {
	if err := notRoot(); err != nil {
		return RestoredBackup{}, err
	}
	return restoreInto(ctx, cfg)
}

func restoreInto(ctx context.Context, cfg RestoreConfig) (out RestoredBackup, err error) {
	if err := privateDir(cfg.State); err != nil {
		return out, err
	}
	lock, err := lockFolder(cfg.State)
	if err != nil {
		return out, err
	}
	defer func() { _ = lock.Close() }()
	if err := cfg.Database.check(); err != nil {
		return out, err
	}
	work := restoring{cfg: cfg, state: cfg.State, partial: filepath.Join(cfg.State, partialDir)}
	if err := work.begin(ctx); err != nil {
		return out, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, work.takeBack(), os.RemoveAll(work.partial))
		}
	}()
	keys, keysHeader, err := work.keys()
	if err != nil {
		return out, err
	}
	if out, err = work.data(ctx, keys, keysHeader); err != nil {
		return out, err
	}
	return out, work.finish()
}

// request writes what is to be signed elsewhere, before the deployment is there.
func (r restoring) request(q *protocol.ManifestRequest) error {
	if q == nil {
		return nil
	}
	text, err := json.MarshalIndent(q, "", "  ")
	if err != nil {
		return err
	}
	f, err := newPending(r.cfg.Request)
	if err != nil {
		return err
	}
	defer f.discard()
	if _, err := f.Write(append(text, '\n')); err != nil {
		return errCannotWrite(r.cfg.Request, err)
	}
	return f.commit()
}

// lockFolder holds the folder against another restore; the lock ends with the
// process.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil { //nolint:gosec // a descriptor fits
		return nil, errors.Join(fault.Wrap(err, fault.Conflict, "StateInUse", "another restore is at work in %s", dir), f.Close())
	}
	return f, nil
}

// restoring is one restore at work.
type restoring struct {
	cfg            RestoreConfig
	state, partial string
}

func (r restoring) at(name string) string { return filepath.Join(r.state, name) }

// begin refuses a folder that holds a deployment or keys of one, and removes
// what a restore left that was killed. That one moves keys and then the store;
// in between, the keys in their place are its own.
func (r restoring) begin(ctx context.Context) error {
	if exists(r.at(databaseFile)) {
		if err := r.unfinished(ctx); err != nil {
			return err
		}
	}
	if exists(r.at(storeFile)) {
		return fault.New(fault.Conflict, "StoreExists", "%s already holds a deployment", r.state).
			WithRemedy("Choose another --state folder, or move this one's contents away.")
	}
	if err := r.takeKeysBack(); err != nil {
		return errCannotWrite(r.partial, err)
	}
	if err := os.RemoveAll(r.partial); err != nil {
		return errCannotWrite(r.partial, err)
	}
	switch has := exists(r.at(keysDir)); {
	case has && r.cfg.KeysFile != "":
		return fault.New(fault.Conflict, "KeysExist", "%s holds keys already, which a restore does not replace", r.state).
			WithRemedy("Restore with these keys by leaving --keys out, or choose another --state folder.")
	case !has && r.cfg.KeysFile == "":
		return fault.New(fault.Invalid, "KeysMissing", "the data alone restores nothing: the keys are missing").WithRemedy("Give the file of keys with --keys FILE.")
	}
	if err := os.Mkdir(r.partial, 0o700); err != nil {
		return errCannotWrite(r.partial, err)
	}
	return nil
}

// unfinished takes back what a restore into a database has put into the folder
// and was killed before the database had the data. A folder whose database holds
// a deployment is one.
func (r restoring) unfinished(ctx context.Context) error {
	holds := fault.New(fault.Conflict, "StoreExists", "%s already holds a deployment", r.state).WithRemedy("Choose another --state folder, or move this one's contents away.")
	if !exists(r.partial) {
		return holds
	}
	place, err := Database{}.place(r.state, "")
	if err != nil {
		return err
	}
	place.Now = r.cfg.Now
	st, err := store.OpenRead(ctx, place)
	if err == nil {
		_ = st.Close() // it has only looked
		return holds
	}
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	return r.takeBack()
}

// takeBack undoes put: with a database, keys and databaseFile are in their places
// before the data are.
func (r restoring) takeBack() error {
	if !exists(r.at(databaseFile)) {
		return nil
	}
	return errors.Join(r.takeKeysBack(), os.Remove(r.at(databaseFile)))
}

// takeKeysBack undoes putKeys, when there is a file to take the keys from again.
// Keys that were there before any restore are never moved: they may be the only
// ones.
func (r restoring) takeKeysBack() error {
	if r.cfg.KeysFile == "" || !exists(filepath.Join(r.partial, ownKeys)) || !exists(r.at(keysDir)) || exists(filepath.Join(r.partial, keysDir)) {
		return nil
	}
	return os.Rename(r.at(keysDir), filepath.Join(r.partial, keysDir))
}

// put puts keys and the name of the database into the folder. It is the last
// thing before the database takes the data over: that is what makes a deployment.
func (r restoring) put() error {
	if err := r.putKeys(); err != nil || r.cfg.Database.URL == "" {
		return err
	}
	return r.cfg.Database.keep(r.state)
}

func (r restoring) putKeys() error {
	if r.cfg.KeysFile == "" {
		return nil
	}
	if err := writeKeyFile(filepath.Join(r.partial, ownKeys), nil); err != nil {
		return err
	}
	if err := errors.Join(syncFolder(r.partial), moveNew(filepath.Join(r.partial, keysDir), r.at(keysDir)), syncFolder(r.state)); err != nil {
		return errCannotWrite(r.at(keysDir), err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !os.IsNotExist(err)
}

// keys puts the key folder beside its place and opens it. The header is the zero
// one for keys that are in their place already.
func (r restoring) keys() (keys *keystore.Store, h backup.Header, err error) {
	dir := r.at(keysDir)
	if r.cfg.KeysFile != "" {
		dir = filepath.Join(r.partial, keysDir)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, h, errCannotWrite(dir, err)
		}
		if h, err = readBackup(r.cfg.KeysFile, backup.Keys, r.cfg.KeysOpen, func(b *backup.Reader) error {
			_, err := b.Rows(func(table string, _ []string, values []any) error {
				name, content, err := keyRow(table, values)
				if err != nil {
					return err
				}
				return writeKeyFile(filepath.Join(dir, name), content)
			})
			return err
		}); err != nil {
			return nil, h, err
		}
		if err := syncFolder(dir); err != nil {
			return nil, h, errCannotWrite(dir, err)
		}
	}
	keys, err = keystore.Open(keystore.Config{Dir: dir, Rand: r.cfg.Rand, Passphrase: r.cfg.Passphrase, External: r.cfg.Signers})
	return keys, h, err
}

func writeKeyFile(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return errCannotWrite(path, err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errCannotWrite(path, err)
	}
	return nil
}

// data fills the store beside its place.
func (r restoring) data(ctx context.Context, keys *keystore.Store, keysHeader backup.Header) (out RestoredBackup, err error) {
	_, err = readBackup(r.cfg.File, backup.Data, r.cfg.Open, func(b *backup.Reader) error {
		h := b.Header
		if k := keysHeader; k.ID != "" && (k.Tenant != h.Tenant || k.ManifestPin != h.ManifestPin) {
			return fault.New(fault.Conflict, "BackupNotOfOne", "the data and the keys are of two deployments")
		}
		if r.cfg.Now().Add(maxBackwards).Before(h.At) {
			return fault.New(fault.Conflict, "ClockBehind", "the clock of this computer is before the backup's time, %s", h.At.Format(time.RFC3339)).
				WithRemedy("Set the clock: what was issued before the restore is told apart by its time.")
		}
		out = RestoredBackup{Header: h, Rotated: keysHeader.ID != "" && (keysHeader.Epoch != h.Epoch || keysHeader.ManifestVersion != h.ManifestVersion)}
		place := store.Config{Path: filepath.Join(r.partial, storeFile), Now: r.cfg.Now, Writer: writerName}
		if r.cfg.Database.URL != "" {
			var err error
			if place, err = r.cfg.Database.place(r.state, ""); err != nil {
				return err
			}
			place.Now = r.cfg.Now
		}
		return store.Restore(ctx, place, store.Contents{
			Migrations: h.Migrations,
			Rows: func(put store.Row) error {
				_, err := b.Rows(put)
				return err
			},
			Finish: func(t *store.Tx) error { return r.end(t, keys, &out) },
		})
	})
	return out, err
}

// end is what makes the rows of a backup a deployment that may be started.
func (r restoring) end(t *store.Tx, keys *keystore.Store, out *RestoredBackup) error {
	document, m, err := storedManifest(t)
	if err != nil {
		return err
	}
	h := out.Header
	if m.Tenant != h.Tenant || m.Epoch != h.Epoch || m.Version != h.ManifestVersion || document.Envelope.KeyID != h.ManifestPin {
		return fault.New(fault.Invalid, "BackupDamaged", "the backup cannot be used: its header and its rows are of two deployments")
	}
	if out.Restore, err = guid.New(r.cfg.Rand); err != nil {
		return err
	}
	if err := holdsKeys(t, keys, m); err != nil {
		return err
	}
	request, signed, err := raiseEpoch(t, keys)
	if err != nil {
		return err
	}
	if !signed {
		if r.cfg.Request == "" {
			return fault.New(fault.Unavailable, "ManifestKeyOffline", "the manifest key is not among the keys: without its signature machines refuse a restored server").
				WithRemedy("Give --manifest-request FILE: it is to be signed where the manifest key is.")
		}
		out.Request = &request
	}
	out.Epoch = request.Next.Epoch
	if err := t.EndIssued("the server was restored from a backup"); err != nil {
		return err
	}
	if err := t.SkipPOSIXIDs(posixStep); err != nil {
		return err
	}
	if err := r.continueChains(t, *out); err != nil {
		return err
	}
	if err := t.PutRestoreFact(restored{ID: out.Restore, At: t.Now(), Backup: h.ID, BackupAt: h.At, Build: h.Build, Position: h.Position, Epoch: out.Epoch, Request: out.Request}); err != nil {
		return err
	}
	if err := r.request(out.Request); err != nil || r.cfg.Database.URL == "" {
		return err
	}
	return r.put()
}

// holdsKeys refuses keys that are not the data's: the server could sign nothing
// that anybody trusts.
func holdsKeys(t *store.Tx, keys *keystore.Store, m protocol.Manifest) error {
	ring, found, err := t.Keyring()
	if err != nil {
		return err
	}
	if !found {
		ring = keyring.Of(m, sshca.MaxLifetime)
	}
	for _, p := range keyring.Purposes() {
		active, ok := ring.Active(p)
		if !ok {
			continue // withdrawn, and not replaced yet
		}
		if _, held := keys.ByID(p, active.ID); !held {
			return fault.New(fault.Conflict, "KeyNotListed", "the keys do not hold %s, the %s key of the data: they are of a time before or after it was rotated, or of another deployment", active.ID, p).
				WithRemedy("Give the file of keys that was written together with this data.")
		}
	}
	return nil
}

// continueChains writes to every chain that it was cut here.
func (r restoring) continueChains(t *store.Tx, out RestoredBackup) error {
	h := out.Header
	by := audit.By{Type: audit.Task, Name: "server restore", CorrelationID: out.Restore, At: t.Now()}
	_, err := t.ContinueChains(by, out.Epoch*sequencesPerEpoch, sequenceStep, func(last audit.Head) audit.Event {
		return audit.Event{Type: audit.Restored, Outcome: audit.Success, Target: h.Tenant, Detail: map[string]string{
			"restore": out.Restore, "backup": h.ID, "backupTime": h.At.Format(time.RFC3339), "build": h.Build, "position": strconv.FormatInt(h.Position, 10), "epoch": strconv.FormatInt(out.Epoch, 10),
			audit.LastSequence: strconv.FormatInt(last.Sequence, 10), "lastHash": base64.StdEncoding.EncodeToString(last.Hash), "localUid": strconv.Itoa(os.Geteuid()),
		}}
	})
	return err
}

// finish moves the keys and then the store to their places. The store is what
// makes the folder a deployment, so that it is one after the last step alone.
func (r restoring) finish() error {
	if r.cfg.Database.URL != "" {
		return os.RemoveAll(r.partial)
	}
	if log := filepath.Join(r.partial, storeFile+"-wal"); exists(log) {
		return fault.New(fault.Internal, "StoreNotClosed", "the database left %s behind", log)
	}
	if err := syncFile(filepath.Join(r.partial, storeFile)); err != nil {
		return errCannotWrite(r.partial, err)
	}
	if err := r.put(); err != nil {
		return err
	}
	if err := errors.Join(moveNew(filepath.Join(r.partial, storeFile), r.at(storeFile)), syncFolder(r.state)); err != nil {
		return errCannotWrite(r.at(storeFile), err)
	}
	return os.RemoveAll(r.partial)
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// AcceptEpoch gives a restored deployment its manifest, signed on another
// computer as its restore asked. No server may serve it meanwhile.
func AcceptEpoch(ctx context.Context, cfg Config, signed protocol.SignedManifest) error {
	if err := notRoot(); err != nil {
		return err
	}
	return applyEpoch(ctx, cfg, signed)
}

func applyEpoch(ctx context.Context, cfg Config, signed protocol.SignedManifest) error {
	cfg, err := cfg.located()
	if err != nil {
		return err
	}
	st, err := store.Open(ctx, cfg.storeConfig(newMeter()))
	if err != nil {
		return err
	}
	err = st.Write(ctx, func(t *store.Tx) error {
		var r restored
		found, err := t.RestoreFact(&r)
		if err != nil {
			return err
		}
		if !found || r.Request == nil {
			return fault.New(fault.Conflict, "NothingToSign", "no restore of this deployment waits for the manifest key")
		}
		if err := acceptEpoch(t, *r.Request, signed); err != nil {
			return err
		}
		next := r.Request.Next
		r.Request = nil
		by := audit.By{Type: audit.Task, Name: "server restore-epoch", CorrelationID: r.ID, At: t.Now()}
		detail := map[string]string{"epoch": strconv.FormatInt(next.Epoch, 10), "version": strconv.FormatInt(next.Version, 10)}
		if err := t.Audit(by, audit.Event{Type: "manifest.publish", Outcome: audit.Success, Target: next.Tenant, Detail: detail}); err != nil {
			return err
		}
		return t.PutRestoreFact(r)
	})
	return errors.Join(err, st.Close())
}
