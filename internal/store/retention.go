package store

import (
	"time"

	"sallyport/internal/audit"
)

// factRetention is how many days of audit records are kept.
const factRetention = "auditRetention"

// SetAuditRetention says how many days audit records are kept; 0: for ever.
func (t *Tx) SetAuditRetention(days int) error { return t.SetFact(factRetention, days) }

// AuditRetention returns how many days audit records are kept; 0: for ever.
func (t *Tx) AuditRetention() (days int, err error) {
	_, err = t.Fact(factRetention, &days)
	return days, err
}

// AuditCut returns the checkpoint up to which a writer's records are all older
// than a time, and not beyond upTo; ok is false when there is nothing to delete. The last record of a
// chain always stays, because the next one follows it.
func (t *Tx) AuditCut(writer string, before time.Time, upTo int64) (c audit.Checkpoint, ok bool, err error) {
	tail, err := t.tail(writer)
	if err != nil || tail.sequence < 2 {
		return c, false, err
	}
	last := min(tail.sequence-1, upTo)
	var kept int64
	found, err := t.row(`SELECT sequence FROM audit WHERE writer = $1 AND at >= $2 ORDER BY sequence LIMIT 1`, []any{writer, micros(before)}, &kept)
	if err != nil {
		return c, false, err
	}
	if found {
		last = min(last, kept-1)
	}
	records, err := t.auditRows(`SELECT body FROM audit WHERE writer = $1 AND sequence = $2`, writer, last)
	if err != nil || len(records) == 0 {
		return c, false, err
	}
	return audit.Checkpoint{Writer: writer, Sequence: last, Hash: records[0].Hash, Count: last, Before: before.UTC().Truncate(time.Microsecond), Time: t.now.UTC()}, true, nil
}

// DropAudit deletes at most limit records that a stored checkpoint accounts
// for, the oldest first, and returns how many it deleted.
func (t *Tx) DropAudit(limit int64) (int64, error) {
	writers, err := t.auditWriters()
	if err != nil {
		return 0, err
	}
	var dropped int64
	for _, w := range writers {
		var upTo, first int64
		found, err := t.row(`SELECT sequence FROM audit_checkpoint WHERE writer = $1 ORDER BY sequence DESC LIMIT 1`, []any{w}, &upTo)
		if err != nil {
			return dropped, err
		}
		if !found {
			continue
		}
		if _, err := t.row(`SELECT sequence FROM audit WHERE writer = $1 ORDER BY sequence LIMIT 1`, []any{w}, &first); err != nil {
			return dropped, err
		}
		n, err := t.exec(`DELETE FROM audit WHERE writer = $1 AND sequence <= $2`, w, min(upTo, first+limit-dropped-1))
		if dropped += n; err != nil || dropped >= limit {
			return dropped, err
		}
	}
	return dropped, nil
}
