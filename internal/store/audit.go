package store

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

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
	if err := t.appendRecord(r); err != nil {
		return err
	}
	t.chain = chain{sequence: r.Sequence, hash: r.Hash}
	t.events = append(t.events, e)
	t.revokes(r, e)
	return nil
}

// appendRecord stores a sealed record.
func (t *Tx) appendRecord(r audit.Record) error {
	body, err := jsonText(r)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if _, err := t.exec(`INSERT INTO audit (writer, sequence, at, correlation, principal, type, outcome, target, body, hash, subject, target_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		r.Writer, r.Sequence, micros(r.Time), r.CorrelationID, r.Principal, r.Type, string(r.Outcome), r.Target, body, base64.StdEncoding.EncodeToString(r.Hash), r.Subject(), strings.ToLower(r.Target)); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// AuditFilter selects records; empty fields select everything.
type AuditFilter = audit.Filter

// maxAudit bounds one answer of records; auditPage is how many there are
// without a limit.
const (
	maxAudit  = 1000
	auditPage = 100
)

// AuditRecords returns records, newest first. Each filter by itself, with or
// without times, is answered from an index.
func (t *Tx) AuditRecords(f AuditFilter) ([]audit.Record, error) {
	query, args := auditQuery(f)
	return t.auditRows(query, args...)
}

// auditQuery is the statement of a filter: only the conditions that it has, so
// that the index of one of them serves.
func auditQuery(f AuditFilter) (string, []any) {
	var where []string
	var args []any
	add := func(condition string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "?", "$"+strconv.Itoa(len(args)), 1)
		}
		where = append(where, condition)
	}
	for _, c := range []struct{ column, value string }{
		{"correlation", f.CorrelationID}, {"subject", f.Principal}, {"target_key", strings.ToLower(f.Target)}, {"type", f.Type}, {"outcome", string(f.Outcome)},
	} {
		switch {
		case c.value == "":
		case len(where) == 0:
			add(c.column+" = ?", c.value)
		default: // the index of the first serves: the columns are in the order of how few records they leave
			add(c.column+" || '' = ?", c.value)
		}
	}
	if f.Outcome != "" && f.Outcome != audit.Success && len(where) == 1 {
		add("outcome <> 'success'") // these words are the index's
	}
	if !f.Since.IsZero() {
		add("at >= ?", micros(f.Since))
	}
	if !f.Until.IsZero() {
		add("at <= ?", micros(f.Until))
	}
	if b := f.Before; b.Writer != "" {
		add("at <= ? AND (at < ? OR writer < ? OR writer = ? AND sequence < ?)", b.Micros, b.Micros, b.Writer, b.Writer, b.Sequence)
	}
	query := "SELECT body FROM audit"
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	if f.Limit <= 0 {
		f.Limit = auditPage
	}
	args = append(args, min(f.Limit, maxAudit))
	return query + " ORDER BY at DESC, writer DESC, sequence DESC LIMIT $" + strconv.Itoa(len(args)), args
}

func (t *Tx) auditRows(query string, args ...any) ([]audit.Record, error) {
	var out []audit.Record
	err := t.query(query, args, func(scan func(...any) error) error {
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

// auditWriters lists who has written, from the primary key alone.
func (t *Tx) auditWriters() ([]string, error) {
	var writers []string
	last := ""
	for {
		found, err := t.row(`SELECT writer FROM audit WHERE writer > $1 ORDER BY writer LIMIT 1`, []any{last}, &last)
		if err != nil || !found {
			return writers, err
		}
		writers = append(writers, last)
	}
}

// AuditHeads returns the end of every chain.
func (t *Tx) AuditHeads() ([]audit.Head, error) {
	writers, err := t.auditWriters()
	if err != nil {
		return nil, err
	}
	heads := make([]audit.Head, len(writers))
	for i, w := range writers {
		c, err := t.tail(w)
		if err != nil {
			return nil, err
		}
		heads[i] = audit.Head{Writer: w, Sequence: c.sequence, Hash: c.hash}
	}
	return heads, nil
}

// AuditAfter returns records that a cursor has not passed, in the order of each
// chain, and moves the cursor past them. Fewer than limit records does not mean
// that there are no more; none does.
func (t *Tx) AuditAfter(c audit.Cursor, limit int) ([]audit.Record, error) {
	writers, err := t.auditWriters()
	if err != nil || len(writers) == 0 {
		return nil, err
	}
	share := max(1, min(limit, maxAudit)/len(writers)) // a busy writer does not hide the others
	parts := make([][]audit.Record, len(writers))
	for i, w := range writers {
		if parts[i], err = t.auditRows(`SELECT body FROM audit WHERE writer = $1 AND sequence > $2 ORDER BY sequence LIMIT $3`, w, c[w], share); err != nil {
			return nil, err
		}
	}
	var out []audit.Record
	for {
		parts = slices.DeleteFunc(parts, func(p []audit.Record) bool { return len(p) == 0 })
		if len(parts) == 0 {
			return out, nil
		}
		next := 0
		for i, p := range parts {
			if p[0].Time.Before(parts[next][0].Time) {
				next = i
			}
		}
		r := parts[next][0]
		parts[next] = parts[next][1:]
		c.Add(r)
		out = append(out, r)
	}
}

// WalkAudit gives every record to a verifier, by writer and sequence. A record
// whose columns say something else than its body is refused: it would be found,
// or not be found, by another's name.
func (t *Tx) WalkAudit(v *audit.Verifier) error {
	const query = `SELECT writer, sequence, at, correlation, principal, type, outcome, target, body, hash, subject, target_key FROM audit ORDER BY writer, sequence`
	return t.query(query, nil, func(scan func(...any) error) error {
		var c auditColumns
		var body string
		if err := scan(&c.writer, &c.sequence, &c.at, &c.correlation, &c.principal, &c.kind, &c.outcome, &c.target, &body, &c.hash, &c.subject, &c.targetKey); err != nil {
			return err
		}
		var r audit.Record
		if err := fromJSON(body, &r); err != nil {
			return &audit.Broken{Writer: c.writer, Sequence: c.sequence, Reason: "cannot be read: its body is damaged"}
		}
		want := columnsOf(r)
		if c.subject == r.Principal {
			want.subject = r.Principal // a record of a build that had no such column
		}
		if c != want {
			return &audit.Broken{Writer: c.writer, Sequence: c.sequence, Reason: "was altered: its columns do not match its body"}
		}
		return v.Add(r)
	})
}

// auditColumns are the columns beside a record's body.
type auditColumns struct {
	writer                                                       string
	sequence, at                                                 int64
	correlation, principal, kind, outcome, target, hash, subject string
	targetKey                                                    string
}

func columnsOf(r audit.Record) auditColumns {
	return auditColumns{writer: r.Writer, sequence: r.Sequence, at: micros(r.Time), correlation: r.CorrelationID, principal: r.Principal, kind: r.Type, outcome: string(r.Outcome),
		target: r.Target, hash: base64.StdEncoding.EncodeToString(r.Hash), subject: r.Subject(), targetKey: strings.ToLower(r.Target)}
}

// VerifyAudit walks every chain and returns the number of records and the
// heads. The error names the first record that is missing or was altered. Its
// caller has no evidence of others; see WalkAudit.
func (t *Tx) VerifyAudit() (records int64, heads []audit.Head, err error) {
	v := audit.NewVerifier(nil, nil)
	err = t.WalkAudit(v)
	verdict, last := v.Finish()
	return verdict.Records, verdict.Heads, errors.Join(err, last)
}

// AuditHead returns the end of this server's chain as committed.
func (t *Tx) AuditHead() (audit.Head, error) {
	c, err := t.tail(t.store.cfg.Writer)
	return audit.Head{Writer: t.store.cfg.Writer, Sequence: c.sequence, Hash: c.hash}, err
}
