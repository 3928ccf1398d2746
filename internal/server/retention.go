package server

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/guid"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/store"
)

const (
	// retainEvery is how often audit records whose time is over are looked for.
	retainEvery = time.Hour
	// feedDays is how long the change feed lists a change: longer than a machine
	// may hold accounts that are brought up to date by changes alone, and than a
	// server may stand still and go on.
	feedDays = 30
	// dropAtOnce is how many records one write deletes, so that others wait little.
	dropAtOnce = 500
)

// Retention returns how many days audit records are kept; 0: for ever.
func (a auditor) Retention(ctx context.Context) (days int, err error) {
	err = a.store.Read(ctx, func(t *store.Tx) error {
		days, err = t.AuditRetention()
		return err
	})
	return days, err
}

// SetRetention changes it. The records themselves go in the background.
func (a auditor) SetRetention(ctx context.Context, by audit.By, days int) error {
	return a.store.Write(ctx, func(t *store.Tx) error {
		before, err := t.AuditRetention()
		if err != nil {
			return err
		}
		if err := t.SetAuditRetention(days); err != nil {
			return err
		}
		return t.Audit(by, audit.Event{Type: "audit.retention", Outcome: audit.Success, Detail: map[string]string{"days": strconv.Itoa(days), "before": strconv.Itoa(before)}})
	})
}

// retain deletes audit records and rows of the change feed whose time is over,
// until the context ends.
func (d *deployment) retain(ctx context.Context) error {
	tick := time.NewTicker(retainEvery)
	defer tick.Stop()
	for {
		if err := d.retainOnce(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Log.Error("audit retention", "error", err.Error())
		}
		if _, err := d.store.TrimFeed(ctx, d.cfg.Now().AddDate(0, 0, -feedDays), dropAtOnce); err != nil && ctx.Err() == nil {
			d.cfg.Log.Error("trim the change feed", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// retainOnce signs a checkpoint for each chain that has records to lose, and
// then deletes what checkpoints account for. A kill in between leaves records
// that the next run deletes.
func (d *deployment) retainOnce(ctx context.Context) error {
	var days int
	var writers []audit.Head
	if err := d.store.Read(ctx, func(t *store.Tx) (err error) {
		if days, err = t.AuditRetention(); err == nil {
			writers, err = t.AuditHeads()
		}
		return err
	}); err != nil {
		return err
	}
	if err := d.resign(ctx); err != nil {
		return err
	}
	if days == 0 {
		return nil
	}
	before := d.cfg.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -days) // one checkpoint a day is enough
	for _, w := range writers {
		if err := d.checkpoint(ctx, w.Writer, before); err != nil {
			return err
		}
	}
	for ctx.Err() == nil {
		var n int64
		if err := d.store.Write(ctx, func(t *store.Tx) (err error) { n, err = t.DropAudit(dropAtOnce); return err }); err != nil || n == 0 {
			return err
		}
	}
	return nil
}

// checkpoint signs for what is to be deleted of one chain.
func (d *deployment) checkpoint(ctx context.Context, writer string, before time.Time) error {
	id, err := guid.New(d.cfg.Rand)
	if err != nil {
		return err
	}
	key, err := d.keys.Signer(protocol.Audit)
	if err != nil {
		return err
	}
	return d.store.Write(ctx, func(t *store.Tx) error {
		delivered, err := d.deliveredUpTo(t, writer)
		if err != nil {
			return err
		}
		c, ok, err := t.AuditCut(writer, before, delivered)
		if err != nil || !ok {
			return err
		}
		e, err := protocol.Sign(d.cfg.Rand, key, protocol.TypeCheckpoint, c.Bytes())
		if err != nil {
			return err
		}
		if err := t.PutAuditCheckpoint(c, e); err != nil {
			return err
		}
		by := audit.By{Type: audit.Task, Name: "audit retention", CorrelationID: id, At: t.Now()}
		return t.Audit(by, audit.Event{Type: "audit.checkpoint", Outcome: audit.Success, Target: writer,
			Detail: map[string]string{"sequence": strconv.FormatInt(c.Sequence, 10), "hash": fmt.Sprintf("%x", c.Hash), "before": c.Before.Format(time.RFC3339)}})
	})
}

// resign puts the active audit key's signature under the newest checkpoint of
// each chain when another key has signed it: that key will be retired.
func (d *deployment) resign(ctx context.Context) error {
	key, err := d.keys.Signer(protocol.Audit)
	if err != nil {
		return err
	}
	id, err := protocol.Thumbprint(key.Public())
	if err != nil {
		return err
	}
	_, manifest := d.trust.Manifest()
	newest := map[string]protocol.Envelope{}
	contents := map[string]audit.Checkpoint{}
	if err := d.store.Read(ctx, func(t *store.Tx) error {
		list, err := t.AuditCheckpoints()
		for _, e := range list {
			if c, err := protocol.OpenCheckpoint(e, manifest.For(protocol.Audit)); err == nil {
				newest[c.Writer], contents[c.Writer] = e, c
			}
		}
		return err
	}); err != nil {
		return err
	}
	for writer, e := range newest {
		if e.KeyID == id {
			continue
		}
		c := contents[writer]
		signed, err := protocol.Sign(d.cfg.Rand, key, protocol.TypeCheckpoint, c.Bytes())
		if err != nil {
			return err
		}
		if err := d.store.Write(ctx, func(t *store.Tx) error { return t.PutAuditCheckpoint(c, signed) }); err != nil {
			return err
		}
	}
	return nil
}
