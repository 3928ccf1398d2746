package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/machine"
)

// Tx is one transaction. It satisfies the Tx interface of every domain. It is
// used by one goroutine and is dead after its function returns.
type Tx struct {
	ctx      context.Context //nolint:containedctx // a transaction lives inside one call
	conn     *conn
	store    *Store
	now      time.Time
	chain    chain
	position int64
	events   []audit.Event
	// revocations are those among the events that take something from people on
	// machines.
	revocations []machine.Revocation
	writing     bool
	progress    func() // of a read: the database has answered; nil otherwise
}

// Now is the one time of this transaction.
func (t *Tx) Now() time.Time { return t.now }

// exec runs a statement and returns how many rows it touched.
func (t *Tx) exec(query string, args ...any) (int64, error) {
	if err := storable(args); err != nil {
		return 0, err
	}
	st, err := t.conn.prepare(t.ctx, query)
	if err != nil {
		return 0, err
	}
	res, err := st.ExecContext(t.ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// row reads one row into dest; found is false when there is none.
func (t *Tx) row(query string, args []any, dest ...any) (found bool, err error) {
	if err := storable(args); err != nil {
		return false, err
	}
	defer t.answered()
	st, err := t.conn.prepare(t.ctx, query)
	if err != nil {
		return false, err
	}
	err = st.QueryRowContext(t.ctx, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// query reads every row; each is called with the row's Scan.
func (t *Tx) query(query string, args []any, each func(scan func(dest ...any) error) error) error {
	if err := storable(args); err != nil {
		return err
	}
	st, err := t.conn.prepare(t.ctx, query)
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(t.ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for n := 0; rows.Next(); n++ {
		if n%answeredEvery == 0 {
			t.answered()
		}
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// answeredEvery is after how many rows the database counts as alive again.
const answeredEvery = 256

// answered notes that the database has said something.
func (t *Tx) answered() {
	if t.progress != nil {
		t.progress()
	}
}

// storable refuses text that PostgreSQL cannot hold. SQLite could, and a
// deployment that holds it could not be moved.
func storable(args []any) error {
	for _, a := range args {
		if text, ok := a.(string); ok && (strings.IndexByte(text, 0) >= 0 || !utf8.ValidString(text)) {
			return fault.New(fault.Invalid, "InvalidCharacter", "a value holds the character U+0000 or is not UTF-8")
		}
	}
	return nil
}

// changed adds a row to the change feed.
func (t *Tx) changed(kind, key string) error {
	if _, err := t.row(`UPDATE feed_position SET position = position + 1 WHERE id = 1 RETURNING position`, nil, &t.position); err != nil {
		return fmt.Errorf("feed position: %w", err)
	}
	_, err := t.exec(`INSERT INTO feed (position, kind, key, at) VALUES ($1, $2, $3, $4)`, t.position, kind, key, micros(t.now))
	return err
}

// micros is how times are stored: microseconds since 1970, 0 for none.
func micros(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.UnixMicro()
}

// fromMicros is the inverse of micros.
func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// jsonText stores a value as JSON text.
func jsonText(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// fromJSON reads what jsonText stored.
func fromJSON(text string, v any) error {
	if text == "" {
		return nil
	}
	return json.Unmarshal([]byte(text), v)
}

// unique reports whether err is a violated UNIQUE or PRIMARY KEY constraint.
func unique(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "UNIQUE constraint failed") || strings.Contains(err.Error(), "SQLSTATE 23505"))
}

// SetFact stores a fact about the deployment as JSON.
func (t *Tx) SetFact(name string, v any) error {
	text, err := jsonText(v)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO deployment (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, text)
	return err
}

// Fact reads a fact about the deployment; found is false when it was never set.
func (t *Tx) Fact(name string, v any) (found bool, err error) {
	var text string
	if found, err = t.row(`SELECT value FROM deployment WHERE name = $1`, []any{name}, &text); !found || err != nil {
		return found, err
	}
	return true, fromJSON(text, v)
}
