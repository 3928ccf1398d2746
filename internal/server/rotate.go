package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/httpd/arm"
	"sallyport/internal/keyring"
	"sallyport/internal/keystore"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/store"
)

const (
	// rotateEvery is how often a rotation under way is looked at, and restEvery how
	// often one that is not.
	rotateEvery = time.Second
	restEvery   = time.Minute
	// missingEvery is how often a key that this server lacks is looked for.
	missingEvery = 5 * time.Second
)

// Rotate begins to replace the key of a purpose. The rest is the task's: see
// keyring for the steps. A repeated call with Force ends the waiting for machines.
func (a *authority) Rotate(ctx context.Context, by audit.By, r arm.Rotation) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := protocol.Purpose(r.Purpose)
	if done, err := a.force(ctx, by, p, r); done || err != nil {
		return err
	}
	options := keyring.Options{Compromised: r.Compromised, Forced: r.Force, After: r.After}
	if err := a.now().ring.May(p, options); err != nil {
		return err
	}
	// The private key is on disk before anything names it: a kill in between leaves
	// a file that nobody uses.
	public, err := a.cfg.Keys.Make(p)
	if err != nil {
		return err
	}
	err = a.change(ctx, func(t *store.Tx, c *course) error {
		next, fresh, err := c.ring.Rotate(p, public, a.cfg.Longest, options, t.Now())
		if err != nil {
			return err
		}
		c.ring = next
		detail := map[string]string{"key": fresh.ID, "compromised": strconv.FormatBool(r.Compromised), "force": strconv.FormatBool(r.Force)}
		if r.After > 0 {
			detail["after"] = r.After.String()
		}
		return t.Audit(by, audit.Event{Type: "key.rotate", Outcome: audit.Success, Target: r.Purpose, Detail: detail})
	}, by)
	if err == nil || fault.As(err).Code == store.CodeOutcomeUnknown {
		return err // it may be stored, and its key is the only one of it
	}
	id, _ := protocol.Thumbprint(public)
	return errors.Join(err, a.cfg.Keys.Destroy(p, id))
}

// force ends the waiting of a rotation under way.
func (a *authority) force(ctx context.Context, by audit.By, p protocol.Purpose, r arm.Rotation) (done bool, err error) {
	if !r.Force || r.Compromised {
		return false, nil
	}
	if _, found := a.now().ring.Force(p); !found {
		return false, nil
	}
	err = a.change(ctx, func(t *store.Tx, c *course) error {
		next, found := c.ring.Force(p)
		if done = found; !found {
			return nil
		}
		c.ring = next
		return t.Audit(by, audit.Event{Type: "key.force", Outcome: audit.Success, Target: r.Purpose})
	}, by)
	return done, err
}

// course is the state that one transaction changes.
type course struct {
	signed   protocol.SignedManifest
	manifest protocol.Manifest
	ring     keyring.Ring
}

// change runs f on the stored state, does every step that is due after it, and
// stores the result: keys, manifest and records in one transaction, or nothing.
func (a *authority) change(ctx context.Context, f func(*store.Tx, *course) error, by audit.By) error {
	return a.cfg.Write(ctx, func(t *store.Tx) error {
		var c, before course
		err := epochSigned(t)
		if err != nil {
			return err
		}
		if c.signed, c.manifest, c.ring, err = a.read(t); err != nil {
			return err
		}
		before = c
		if err := f(t, &c); err != nil {
			return err
		}
		if err := a.advance(t, &c); err != nil {
			return err
		}
		return a.keep(t, before, c, by)
	})
}

// epochSigned refuses a change of keys while the epoch of a restore waits for the
// manifest key elsewhere: the list that comes back was asked for before, and would
// undo the change, a withdrawal of a compromised key for one.
func epochSigned(t *store.Tx) error {
	var r restored
	if found, err := t.RestoreFact(&r); err != nil || !found || r.Request == nil {
		return err
	}
	return fault.New(fault.Conflict, "EpochNotSigned", "the manifest of epoch %d, which the restore of this server asked for, is not signed yet: until then no key changes", r.Epoch).
		WithRemedy("Have it signed, stop the server, and run: sally server restore-epoch")
}

// advance publishes and steps until nothing is due.
func (a *authority) advance(t *store.Tx, c *course) error {
	for {
		draft, differs := c.ring.Draft(c.manifest, t.Now())
		if differs && a.canSign() {
			signed, err := a.cfg.Keys.SignNext(protocol.ManifestRequest{Current: c.signed, Next: draft})
			if err != nil {
				return err
			}
			c.signed, c.manifest = signed, draft
			c.ring = c.ring.Published(draft, t.Now())
		}
		next, changed, err := c.ring.Step(keyring.View{At: t.Now(), Missing: func(version int64) (int, error) { return t.CountBehind(c.manifest.Epoch, version) }})
		if err != nil || !changed {
			return err
		}
		c.ring = next
	}
}

// canSign says whether the manifest key is on this server.
func (a *authority) canSign() bool {
	_, err := a.cfg.Keys.Signer(keystore.Manifest)
	return err == nil
}

// keep stores what differs, and a record of every key that changed its state.
func (a *authority) keep(t *store.Tx, before, after course, by audit.By) error {
	old := map[string]keyring.State{}
	for _, k := range before.ring.Keys {
		old[k.ID] = k.State
	}
	changed := len(before.ring.Keys) != len(after.ring.Keys)
	for i, k := range after.ring.Keys {
		changed = changed || i < len(before.ring.Keys) && !sameKey(before.ring.Keys[i], k)
		if old[k.ID] == k.State {
			continue
		}
		if err := entered(t, by, k, map[string]string{"key": k.ID, "previously": string(old[k.ID])}); err != nil {
			return err
		}
	}
	if after.manifest.Version != before.manifest.Version || after.manifest.Epoch != before.manifest.Epoch {
		if err := t.PutManifest(after.signed); err != nil {
			return err
		}
		event := audit.Event{Type: "manifest.publish", Outcome: audit.Success, Target: after.manifest.Tenant, Detail: map[string]string{
			"epoch": strconv.FormatInt(after.manifest.Epoch, 10), "version": strconv.FormatInt(after.manifest.Version, 10)}}
		if err := t.Audit(by, event); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	return t.PutKeyring(after.ring)
}

// entered records that a key has entered its state. Of a next one, key.rotate
// says so.
func entered(t *store.Tx, by audit.By, k keyring.Key, detail map[string]string) error {
	switch k.State {
	case keyring.Active:
		return recordKey(t, by, "key.active", k, detail)
	case keyring.Retiring:
		return recordKey(t, by, "key.retiring", k, detail)
	case keyring.Retired:
		return recordKey(t, by, "key.retired", k, detail)
	case keyring.Compromised:
		return recordKey(t, by, "key.compromised", k, detail)
	}
	return nil
}

func recordKey(t *store.Tx, by audit.By, kind string, k keyring.Key, detail map[string]string) error {
	return t.Audit(by, audit.Event{Type: kind, Outcome: audit.Success, Target: string(k.Purpose), Detail: detail})
}

func sameKey(a, b keyring.Key) bool {
	return a.ID == b.ID && a.State == b.State && a.Listed == b.Listed && a.Forced == b.Forced && a.After == b.After && a.Longest == b.Longest && a.Until.Equal(b.Until)
}

// run does what becomes due: it looks every second while a rotation is under
// way. It holds no state, so that it goes on after a kill where it was.
func (a *authority) run(ctx context.Context, moved func() <-chan struct{}) error {
	for {
		wake := moved()
		pause := restEvery
		if a.ready() != nil { // a key file may have been copied here since
			pause = missingEvery
			if err := a.again(); err != nil {
				a.cfg.Log.Error("keys", "error", err.Error())
			}
		}
		if a.underWay() {
			pause = rotateEvery
			if err := a.advanceStored(ctx); err != nil && ctx.Err() == nil {
				a.cfg.Log.Error("rotation of keys", "error", err.Error())
			}
		}
		if wait(ctx, pause, wake); ctx.Err() != nil {
			return nil
		}
	}
}

// underWay says whether any key is on its way from one state to the next.
func (a *authority) underWay() bool {
	v := a.now()
	for _, k := range v.ring.Keys {
		if k.State == keyring.Next || k.State == keyring.Retiring {
			return true
		}
	}
	_, differs := v.ring.Draft(v.manifest, a.cfg.Now())
	return differs && a.canSign()
}

// advanceStored does what is due now, if anything is.
func (a *authority) advanceStored(ctx context.Context) error {
	due := false
	err := a.cfg.Store.Read(ctx, func(t *store.Tx) error {
		if fault.Is(epochSigned(t), fault.Conflict) {
			return nil
		}
		_, manifest, ring, err := a.read(t)
		if err != nil {
			return err
		}
		_, differs := ring.Draft(manifest, t.Now())
		_, steps, err := ring.Step(keyring.View{At: t.Now(), Missing: func(version int64) (int, error) { return t.CountBehind(manifest.Epoch, version) }})
		due = steps || differs && a.canSign()
		return err
	})
	if err != nil || !due {
		return err
	}
	id, err := guid.New(a.cfg.Rand)
	if err != nil {
		return fmt.Errorf("rotation of keys: %w", err)
	}
	by := audit.By{Type: audit.Task, Name: "key rotation", CorrelationID: id, At: a.cfg.Now()}
	return a.change(ctx, func(*store.Tx, *course) error { return nil }, by)
}

// allow notes how long the user certificates of this server may live, when that
// is longer than any before.
func (a *authority) allow(ctx context.Context) error {
	if _, longer := a.now().ring.Allow(a.cfg.Longest); !longer {
		return nil
	}
	err := a.cfg.Store.Write(ctx, func(t *store.Tx) error {
		_, _, ring, err := a.read(t)
		if err != nil {
			return err
		}
		next, longer := ring.Allow(a.cfg.Longest)
		if !longer {
			return nil
		}
		return t.PutKeyring(next)
	})
	if err != nil {
		return err
	}
	return a.cfg.Store.Read(ctx, a.load)
}

// Request returns what waits for the manifest key on another computer.
func (a *authority) Request(ctx context.Context) (r protocol.ManifestRequest, err error) {
	err = a.cfg.Store.Read(ctx, func(t *store.Tx) error {
		signed, manifest, ring, err := a.read(t)
		if err != nil {
			return err
		}
		draft, differs := ring.Draft(manifest, t.Now())
		if !differs {
			return fault.New(fault.NotFound, "NothingToSign", "the manifest in force is as it should be: nothing waits for a signature")
		}
		r = protocol.ManifestRequest{Current: signed, Next: draft}
		return nil
	})
	return r, err
}

// Apply takes over a manifest that was signed on another computer. It must say
// exactly what this server asked for.
func (a *authority) Apply(ctx context.Context, by audit.By, signed protocol.SignedManifest) error {
	m, err := signed.Open(a.pin)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "ManifestRefused", "the manifest is refused: %v", err)
	}
	return a.change(ctx, func(t *store.Tx, c *course) error {
		if c.manifest.Same(m) {
			return nil
		}
		draft, differs := c.ring.Draft(c.manifest, t.Now())
		if !differs || !draft.Same(m) {
			return fault.New(fault.Conflict, "ManifestOutdated", "the signed manifest is not the one that is wanted now").
				WithRemedy("Make a new request and sign that: sally ca request-manifest")
		}
		if m.IssuedAt.After(t.Now().Add(maxBackwards)) {
			return fault.New(fault.Invalid, "ManifestRefused", "the manifest was made at %s, which is in the future", m.IssuedAt.Format(time.RFC3339))
		}
		c.signed, c.manifest = signed, m
		c.ring = c.ring.Published(m, t.Now())
		return nil
	}, by)
}

// raiseEpoch is the manifest of a restored deployment: machines accept its epoch,
// which is higher than any that they have seen, whichever backup was restored how
// often. Where the manifest key is on this server it is signed and stored in t,
// and signed is true; else the request has to be signed on another computer and
// come back through acceptEpoch.
func raiseEpoch(t *store.Tx, keys *keystore.Store) (r protocol.ManifestRequest, signed bool, err error) {
	current, old, err := storedManifest(t)
	if err != nil {
		return r, false, err
	}
	next := old
	// Two restores of one backup must not meet: the time tells them apart.
	next.Epoch, next.Version, next.IssuedAt = max(old.Epoch+1, t.Now().Unix()), old.Version+1, t.Now().UTC().Truncate(time.Second)
	r = protocol.ManifestRequest{Current: current, Next: next}
	if _, err := keys.Signer(keystore.Manifest); err != nil {
		return r, false, nil
	}
	document, err := keys.SignNext(r)
	if err != nil {
		return r, false, err
	}
	return r, true, t.PutManifest(document)
}

// acceptEpoch stores a restored deployment's manifest that was signed on another
// computer: signed by the pinned key, and what was asked for but for the time.
func acceptEpoch(t *store.Tx, r protocol.ManifestRequest, signed protocol.SignedManifest) error {
	pin, err := r.Current.Pin()
	if err != nil {
		return err
	}
	m, err := signed.Open(pin)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "ManifestRefused", "the manifest is refused: %v", err)
	}
	if !m.Same(r.Next) {
		return fault.New(fault.Conflict, "ManifestOutdated", "the signed manifest is not the one that was asked for")
	}
	return t.PutManifest(signed)
}
