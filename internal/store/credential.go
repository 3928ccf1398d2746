package store

import (
	"encoding/base64"
	"time"

	"sallyport/internal/credential"
)

// PasswordOf reads a user's password.
func (t *Tx) PasswordOf(userID string) (credential.Password, bool, error) {
	p := credential.Password{UserID: userID}
	var must, expires, changed int64
	found, err := t.row(`SELECT hash, must_change, expires_at, changed_at FROM password WHERE user_id = $1`, []any{userID}, &p.Hash, &must, &expires, &changed)
	if err != nil || !found {
		return credential.Password{}, false, err
	}
	p.MustChange, p.ExpiresAt, p.ChangedAt = must != 0, fromMicros(expires), fromMicros(changed)
	return p, true, nil
}

// PutPassword writes a user's password. Nothing is cached, so no feed row.
func (t *Tx) PutPassword(p credential.Password) error {
	_, err := t.exec(`INSERT INTO password (user_id, hash, must_change, expires_at, changed_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (user_id) DO UPDATE SET hash = excluded.hash, must_change = excluded.must_change, expires_at = excluded.expires_at, changed_at = excluded.changed_at`,
		p.UserID, p.Hash, flag(p.MustChange), micros(p.ExpiresAt), micros(p.ChangedAt))
	return err
}

// AttemptsOf reads the counted failures at a name from a place.
func (t *Tx) AttemptsOf(name, place string) (credential.Attempts, bool, error) {
	a := credential.Attempts{Name: name, Place: place}
	var locked, last int64
	found, err := t.row(`SELECT failures, locked_until, last_at FROM signin_attempt WHERE name = $1 AND place = $2`, []any{name, place}, &a.Failures, &locked, &last)
	if err != nil || !found {
		return credential.Attempts{}, false, err
	}
	a.LockedUntil, a.LastAt = fromMicros(locked), fromMicros(last)
	return a, true, nil
}

// PutAttempts writes the counted failures; none removes the row.
func (t *Tx) PutAttempts(a credential.Attempts) error {
	if a.Failures == 0 {
		_, err := t.exec(`DELETE FROM signin_attempt WHERE name = $1 AND place = $2`, a.Name, a.Place)
		return err
	}
	_, err := t.exec(`INSERT INTO signin_attempt (name, place, failures, locked_until, last_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (name, place) DO UPDATE SET failures = excluded.failures, locked_until = excluded.locked_until, last_at = excluded.last_at`,
		a.Name, a.Place, a.Failures, micros(a.LockedUntil), micros(a.LastAt))
	return err
}

// ForgetAttemptsAt removes what was counted at a name, and the places where it
// signed in.
func (t *Tx) ForgetAttemptsAt(name string) error {
	if _, err := t.exec(`DELETE FROM signin_attempt WHERE name = $1`, name); err != nil {
		return err
	}
	_, err := t.exec(`DELETE FROM familiar_place WHERE user_id = $1`, name)
	return err
}

// FamiliarPlace reports when a user signed in from a place last.
func (t *Tx) FamiliarPlace(userID, place string) (time.Time, bool, error) {
	var last int64
	found, err := t.row(`SELECT last_at FROM familiar_place WHERE user_id = $1 AND place = $2`, []any{userID, place}, &last)
	return fromMicros(last), found, err
}

// familiarPlaces is how many places of a user are remembered.
const familiarPlaces = 50

// PutFamiliarPlace remembers a place of a user, the newest ones only.
func (t *Tx) PutFamiliarPlace(userID, place string, at time.Time) error {
	if _, err := t.exec(`INSERT INTO familiar_place (user_id, place, last_at) VALUES ($1, $2, $3) ON CONFLICT (user_id, place) DO UPDATE SET last_at = excluded.last_at`,
		userID, place, micros(at)); err != nil {
		return err
	}
	return t.keepNewest(`SELECT last_at FROM familiar_place WHERE user_id = $1 ORDER BY last_at DESC LIMIT 1 OFFSET $2`,
		`DELETE FROM familiar_place WHERE user_id = $1 AND last_at <= $2`, familiarPlaces, userID)
}

// keepNewest deletes what is older than the newest n rows: find selects the time
// of the row after them, remove deletes up to that time.
func (t *Tx) keepNewest(find, remove string, n int, args ...any) error {
	var last int64
	found, err := t.row(find, append(args[:len(args):len(args)], n), &last)
	if err != nil || !found {
		return err
	}
	_, err = t.exec(remove, append(args[:len(args):len(args)], last)...)
	return err
}

// maxAttempts is how many counters are kept. Whoever makes up more names than
// that pushes the oldest out, which costs more tries than it gives.
const maxAttempts = 100_000

// SweepAttempts removes counters and places that nobody touched since the given
// times, and the oldest counters beyond what is kept.
func (t *Tx) SweepAttempts(attempts, places time.Time) error {
	if _, err := t.exec(`DELETE FROM signin_attempt WHERE last_at < $1`, micros(attempts)); err != nil {
		return err
	}
	if _, err := t.exec(`DELETE FROM familiar_place WHERE last_at < $1`, micros(places)); err != nil {
		return err
	}
	return t.keepNewest(`SELECT last_at FROM signin_attempt ORDER BY last_at DESC LIMIT 1 OFFSET $1`, `DELETE FROM signin_attempt WHERE last_at <= $1`, maxAttempts)
}

// ClientSecretsOf lists an owner's secrets, oldest first.
func (t *Tx) ClientSecretsOf(ownerID string) ([]credential.Secret, error) {
	var list []credential.Secret
	err := t.query(`SELECT id, display_name, hint, keyed, start_at, end_at FROM client_secret WHERE owner_id = $1 ORDER BY start_at, id`, []any{ownerID}, func(scan func(...any) error) error {
		s := credential.Secret{OwnerID: ownerID}
		var start, end int64
		if err := scan(&s.ID, &s.DisplayName, &s.Hint, &s.Keyed, &start, &end); err != nil {
			return err
		}
		s.Start, s.End = fromMicros(start), fromMicros(end)
		list = append(list, s)
		return nil
	})
	return list, err
}

// PutClientSecret adds a secret.
func (t *Tx) PutClientSecret(s credential.Secret) error {
	_, err := t.exec(`INSERT INTO client_secret (id, owner_id, display_name, hint, keyed, start_at, end_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		s.ID, s.OwnerID, s.DisplayName, s.Hint, s.Keyed, micros(s.Start), micros(s.End))
	return err
}

// ClientCertificatesOf lists an owner's certificates, oldest first.
func (t *Tx) ClientCertificatesOf(ownerID string) ([]credential.Certificate, error) {
	var list []credential.Certificate
	err := t.query(`SELECT id, display_name, sha1, sha256, der, start_at, end_at FROM client_certificate WHERE owner_id = $1 ORDER BY start_at, id`, []any{ownerID}, func(scan func(...any) error) error {
		c := credential.Certificate{OwnerID: ownerID}
		var der string
		var start, end int64
		err := scan(&c.ID, &c.DisplayName, &c.SHA1, &c.SHA256, &der, &start, &end)
		if err != nil {
			return err
		}
		if c.DER, err = base64.StdEncoding.DecodeString(der); err != nil {
			return err
		}
		c.Start, c.End = fromMicros(start), fromMicros(end)
		list = append(list, c)
		return nil
	})
	return list, err
}

// PutClientCertificate adds a certificate.
func (t *Tx) PutClientCertificate(c credential.Certificate) error {
	_, err := t.exec(`INSERT INTO client_certificate (id, owner_id, display_name, sha1, sha256, der, start_at, end_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		c.ID, c.OwnerID, c.DisplayName, c.SHA1, c.SHA256, base64.StdEncoding.EncodeToString(c.DER), micros(c.Start), micros(c.End))
	return err
}

// DeleteClientCredential removes a secret or certificate of the owner; false
// where there is none.
func (t *Tx) DeleteClientCredential(ownerID, keyID string) (bool, error) {
	secrets, err := t.exec(`DELETE FROM client_secret WHERE owner_id = $1 AND id = $2`, ownerID, keyID)
	if err != nil {
		return false, err
	}
	certificates, err := t.exec(`DELETE FROM client_certificate WHERE owner_id = $1 AND id = $2`, ownerID, keyID)
	return secrets+certificates > 0, err
}

// forgetCredentials removes whatever proves the object.
func (t *Tx) forgetCredentials(id string) error {
	for _, q := range []string{
		`DELETE FROM password WHERE user_id = $1`, `DELETE FROM signin_attempt WHERE name = $1`, `DELETE FROM familiar_place WHERE user_id = $1`,
		`DELETE FROM client_secret WHERE owner_id = $1`, `DELETE FROM client_certificate WHERE owner_id = $1`,
	} {
		if _, err := t.exec(q, id); err != nil {
			return err
		}
	}
	return nil
}
