package store

import (
	"time"

	"sallyport/internal/audit"
)

// HoldAuditOutput makes holder the one that delivers to an output until a time;
// ok is false while another one does.
func (t *Tx) HoldAuditOutput(output, holder string, until time.Time) (ok bool, err error) {
	n, err := t.exec(`INSERT INTO audit_output (output, holder, until) VALUES ($1, $2, $3)
		ON CONFLICT (output) DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE audit_output.holder = excluded.holder OR audit_output.until < $4`,
		output, holder, micros(until), micros(t.now))
	return n == 1, err
}

// AuditOutputs lists the outputs that some server has delivered to since a time.
func (t *Tx) AuditOutputs(since time.Time) (names []string, err error) {
	err = t.query(`SELECT output FROM audit_output WHERE until >= $1 ORDER BY output`, []any{micros(since)}, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		names = append(names, name)
		return err
	})
	return names, err
}

// AuditCursor returns how far an output has the records.
func (t *Tx) AuditCursor(output string) (audit.Cursor, error) {
	c := audit.Cursor{}
	err := t.query(`SELECT writer, sequence FROM audit_cursor WHERE output = $1`, []any{output}, func(scan func(...any) error) error {
		var w string
		var n int64
		err := scan(&w, &n)
		c[w] = n
		return err
	})
	return c, err
}

// SaveAuditCursor stores how far an output has the records. It never goes back.
func (t *Tx) SaveAuditCursor(output string, c audit.Cursor) error {
	for w, n := range c {
		if _, err := t.exec(`INSERT INTO audit_cursor (output, writer, sequence) VALUES ($1, $2, $3)
			ON CONFLICT (output, writer) DO UPDATE SET sequence = excluded.sequence WHERE audit_cursor.sequence < excluded.sequence`, output, w, n); err != nil {
			return err
		}
	}
	return nil
}
