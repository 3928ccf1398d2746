package store

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/oauth"
	"sallyport/internal/sshca"
)

// PutRevocation revokes a certificate; one that is revoked stays as it is.
func (t *Tx) PutRevocation(r sshca.Revocation) error {
	n, err := t.exec(`INSERT INTO revoked_certificate (serial, principal, reason, at, ends) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (serial) DO NOTHING`,
		r.Serial, r.Principal, r.Reason, micros(r.At), micros(r.Ends))
	if err != nil || n == 0 {
		return err
	}
	return t.changed("revocation", r.Serial)
}

// RevocationBySerial finds a revoked certificate.
func (t *Tx) RevocationBySerial(serial string) (sshca.Revocation, bool, error) {
	r := sshca.Revocation{Serial: serial}
	var at, ends int64
	found, err := t.row(`SELECT principal, reason, at, ends FROM revoked_certificate WHERE serial = $1`, []any{serial}, &r.Principal, &r.Reason, &at, &ends)
	r.At, r.Ends = fromMicros(at), fromMicros(ends)
	return r, found, err
}

// RevokedOf counts the certificates of a principal that are revoked and known.
func (t *Tx) RevokedOf(principal string) (n int, err error) {
	_, err = t.row(`SELECT COUNT(*) FROM revoked_certificate WHERE principal = $1`, []any{principal}, &n)
	return n, err
}

// EachRevocation visits every revoked certificate.
func (t *Tx) EachRevocation(f func(sshca.Revocation) error) error {
	return t.query(`SELECT serial, principal, reason, at, ends FROM revoked_certificate`, nil, func(scan func(...any) error) error {
		var r sshca.Revocation
		var at, ends int64
		if err := scan(&r.Serial, &r.Principal, &r.Reason, &at, &ends); err != nil {
			return err
		}
		r.At, r.Ends = fromMicros(at), fromMicros(ends)
		return f(r)
	})
}

// SweepRevocations forgets certificates that ended before a time. No feed rows:
// what has ended counts nowhere.
func (t *Tx) SweepRevocations(before time.Time) error {
	_, err := t.exec(`DELETE FROM revoked_certificate WHERE ends < $1`, micros(before))
	return err
}

// IssuedCertificates returns the certificates of a principal that were issued
// after a time, from their one record, the audit's.
func (t *Tx) IssuedCertificates(principal string, after time.Time) ([]oauth.Issued, error) {
	var list []oauth.Issued
	err := t.query(`SELECT body FROM audit WHERE at > $1 AND subject = $2 AND type = 'certificate.issue' AND outcome = 'success' ORDER BY at`,
		[]any{micros(after), principal}, func(scan func(...any) error) error {
			var body string
			if err := scan(&body); err != nil {
				return err
			}
			var r audit.Record
			if err := fromJSON(body, &r); err != nil {
				return err
			}
			ends, err := time.Parse(time.RFC3339, r.Detail["validBefore"])
			if err != nil {
				return err
			}
			if _, err := strconv.ParseUint(r.Detail["serial"], 10, 64); err != nil {
				return err
			}
			list = append(list, oauth.Issued{Serial: r.Detail["serial"], Family: r.Detail["family"], Session: r.Detail["session"], Ends: ends})
			return nil
		})
	return list, err
}

// CertificateBySerial finds the record of a certificate that was issued after a
// time, or that opened a session which is still open: of one principal, or "" for
// whose ever it is.
func (t *Tx) CertificateBySerial(serial, principal string, after time.Time) (audit.Record, bool, error) {
	issued, sessions := `SELECT body FROM audit WHERE type = 'certificate.issue' AND outcome = 'success' AND body LIKE $1 AND `, `SELECT body FROM machine_session WHERE body LIKE $1`
	words := []any{`%"serial":"` + serial + `"%`} // a decimal number, which JSON writes as it is
	if principal != "" {
		issued, sessions = issued+`subject = $2 AND `, sessions+` AND object_id = $2`
		words = append(words, principal)
	}
	with := func(where string, value any) ([]audit.Record, error) {
		args := append(slices.Clone(words), value)
		return t.auditRows(fmt.Sprintf("%s%s $%d", issued, where, len(args)), args...)
	}
	records, err := with("at >", micros(after))
	if err != nil || len(records) > 0 {
		return first(records), len(records) > 0, err
	}
	// What a machine says only leads to the record; the record says whose it is. A
	// machine that lies about a serial must not hide what another says of it.
	keys := map[string]bool{}
	if err := t.query(sessions, words, func(scan func(...any) error) error {
		var body string
		if err := scan(&body); err != nil {
			return err
		}
		var n protocol.Session
		err := fromJSON(body, &n)
		keys[n.KeyID] = true
		return err
	}); err != nil {
		return audit.Record{}, false, err
	}
	for key := range keys {
		if records, err = with("correlation =", key); err != nil || len(records) > 0 {
			return first(records), len(records) > 0, err
		}
	}
	return audit.Record{}, false, nil
}

func first(records []audit.Record) audit.Record {
	if len(records) == 0 {
		return audit.Record{}
	}
	return records[0]
}

// OpenedWith returns the certificates that opened a principal's open sessions.
func (t *Tx) OpenedWith(principal string) (list []oauth.Opened, err error) {
	sessions, err := t.Sessions(machine.SessionQuery{ObjectID: principal})
	for _, n := range sessions {
		if n.Serial != "" {
			list = append(list, oauth.Opened{Serial: n.Serial, Since: n.Since})
		}
	}
	return list, err
}
