package store

import (
	"encoding/base64"
	"errors"
	"fmt"

	"sallyport/internal/audit"
)

// chain is the end of this server's audit chain.
type chain struct {
	sequence int64
	hash     []byte
}

// tail reads the end of a writer's chain.
func (t *Tx) tail(writer string) (chain, error) {
	var c chain
	var hash string
	found, err := t.row(`SELECT sequence, hash FROM audit WHERE writer = $1 ORDER BY sequence DESC LIMIT 1`, []any{writer}, &c.sequence, &hash)
	if err != nil || !found {
		return chain{}, err
	}
	c.hash, err = base64.StdEncoding.DecodeString(hash)
	return c, err
}

// Audit writes one event with who caused it: one row, next in this server's
// chain, durable with the transaction.
func (t *Tx) Audit(by audit.By, e audit.Event) error {
	if !t.writing {
		return errors.New("audit inside a read")
	}
	if d := t.store.cfg.Declared; d != nil {
		if err := d(e); err != nil {
			return err
		}
	}
	if by.At.IsZero() {
		by.At = t.now
	}
	r := audit.NewRecord(by, e).Seal(t.store.cfg.Writer, t.chain.sequence+1, t.chain.hash)
	body, err := jsonText(r)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if _, err := t.exec(`INSERT INTO audit (writer, sequence, at, correlation, principal, type, outcome, target, body, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		r.Writer, r.Sequence, micros(r.Time), r.CorrelationID, r.Principal, r.Type, string(r.Outcome), r.Target, body, base64.StdEncoding.EncodeToString(r.Hash)); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	t.chain = chain{sequence: r.Sequence, hash: r.Hash}
	t.events = append(t.events, e)
	return nil
}

// AuditFilter selects records; empty fields select everything.
type AuditFilter struct {
	CorrelationID string
	Principal     string
	Type          string
	Before        int64 // sequence, exclusive; 0 for the newest
	Limit         int
}

// AuditRecords returns records, newest first.
func (t *Tx) AuditRecords(f AuditFilter) ([]audit.Record, error) {
	if f.Limit <= 0 || f.Limit > 1000 {
		f.Limit = 100
	}
	if f.Before <= 0 {
		f.Before = 1 << 62
	}
	var out []audit.Record
	err := t.query(`SELECT body FROM audit WHERE sequence < $1 AND ($2 = '' OR correlation = $2) AND ($3 = '' OR principal = $3) AND ($4 = '' OR type = $4) ORDER BY at DESC, sequence DESC LIMIT $5`,
		[]any{f.Before, f.CorrelationID, f.Principal, f.Type, f.Limit}, func(scan func(...any) error) error {
			var body string
			if err := scan(&body); err != nil {
				return err
			}
			var r audit.Record
			if err := fromJSON(body, &r); err != nil {
				return err
			}
			out = append(out, r)
			return nil
		})
	return out, err
}

// VerifyAudit walks every chain from its beginning and returns the number of
// records and the heads. The error names the first record that is missing or
// was altered.
func (t *Tx) VerifyAudit() (records int64, heads []audit.Head, err error) {
	var last audit.Record
	err = t.query(`SELECT writer, sequence, body, hash FROM audit ORDER BY writer, sequence`, nil, func(scan func(...any) error) error {
		var writer, body, hash string
		var sequence int64
		if err := scan(&writer, &sequence, &body, &hash); err != nil {
			return err
		}
		var r audit.Record
		if err := fromJSON(body, &r); err != nil {
			return fmt.Errorf("record %s/%d cannot be read: %w", writer, sequence, err)
		}
		if r.Writer != writer || r.Sequence != sequence || base64.StdEncoding.EncodeToString(r.Hash) != hash {
			return fmt.Errorf("record %s/%d was altered: its columns do not match its body", writer, sequence)
		}
		if last.Writer != r.Writer {
			if last.Writer != "" {
				heads = append(heads, head(last))
			}
			last = audit.Record{}
		}
		if err := r.Verify(last); err != nil {
			return err
		}
		last = r
		records++
		return nil
	})
	if err == nil && last.Writer != "" {
		heads = append(heads, head(last))
	}
	return records, heads, err
}

func head(r audit.Record) audit.Head {
	return audit.Head{Writer: r.Writer, Sequence: r.Sequence, Hash: r.Hash}
}

// AuditHead returns the end of this server's chain as committed.
func (t *Tx) AuditHead() (audit.Head, error) {
	c, err := t.tail(t.store.cfg.Writer)
	return audit.Head{Writer: t.store.cfg.Writer, Sequence: c.sequence, Hash: c.hash}, err
}
