package store

import (
	"fmt"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/machine"
)

// revokes notes an audited change that takes something away from people on
// machines; its position is known when the transaction's function is done.
func (t *Tx) revokes(r audit.Record, e audit.Event) {
	reach, what, ok := machine.Revokes(e)
	if !ok {
		return
	}
	t.revocations = append(t.revocations, machine.Revocation{ID: fmt.Sprintf("%s-%d", r.Writer, r.Sequence), At: r.Time, Type: e.Type, Target: e.Target, What: what,
		By: r.Principal, ByName: r.PrincipalName, CorrelationID: r.CorrelationID, Reach: reach})
}

// keepRevocations stores what revokes noted, with the transaction's last
// position: whoever holds everything up to there holds it. What has changed
// nothing that machines follow is none.
func (t *Tx) keepRevocations() error {
	if t.position == 0 {
		return nil
	}
	for _, r := range t.revocations {
		if _, err := t.exec(`INSERT INTO revocation (id, position, at, type, target, what, by_id, by_name, correlation, reach) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			r.ID, t.position, micros(r.At), r.Type, r.Target, r.What, r.By, r.ByName, r.CorrelationID, r.Reach); err != nil {
			return fmt.Errorf("revocation: %w", err)
		}
	}
	return nil
}

const revocationColumns = `SELECT id, position, at, type, target, what, by_id, by_name, correlation, reach FROM revocation`

// Revocations returns revocations behind a place in the list, newest first, and
// after a time.
func (t *Tx) Revocations(behind machine.RevocationPlace, after time.Time, limit int) (list []machine.Revocation, err error) {
	where, args := ` WHERE at > $1`, []any{micros(after), limit}
	if behind.Position > 0 {
		where, args = where+` AND (position < $3 OR position = $3 AND id > $4)`, append(args, behind.Position, behind.ID)
	}
	err = t.query(revocationColumns+where+` ORDER BY position DESC, id LIMIT $2`, args, func(scan func(...any) error) error {
		r, err := scanRevocation(scan)
		list = append(list, r)
		return err
	})
	return list, err
}

// RevocationByID finds one revocation.
func (t *Tx) RevocationByID(id string) (r machine.Revocation, found bool, err error) {
	err = t.query(revocationColumns+` WHERE id = $1`, []any{id}, func(scan func(...any) error) (err error) {
		r, err = scanRevocation(scan)
		found = true
		return err
	})
	return r, found, err
}

func scanRevocation(scan func(...any) error) (r machine.Revocation, err error) {
	var at int64
	err = scan(&r.ID, &r.Position, &at, &r.Type, &r.Target, &r.What, &r.By, &r.ByName, &r.CorrelationID, &r.Reach)
	r.At = fromMicros(at)
	return r, err
}

// SweepRevocationLog forgets revocations from before a time.
func (t *Tx) SweepRevocationLog(before time.Time) error {
	_, err := t.exec(`DELETE FROM revocation WHERE at < $1`, micros(before))
	return err
}
