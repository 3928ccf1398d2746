package store

import (
	"encoding/base64"
	"time"

	"sallyport/internal/oauth"
	"sallyport/internal/oauth/token"
	"sallyport/internal/signin"
)

// keyText is how keyed hashes are stored.
func keyText(hash []byte) string { return base64.RawStdEncoding.EncodeToString(hash) }

func fromKeyText(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	return base64.RawStdEncoding.DecodeString(text)
}

// factorText stores factors with microseconds.
func factorText(factors map[string]time.Time) (string, error) {
	us := make(map[string]int64, len(factors))
	for name, at := range factors {
		us[name] = micros(at)
	}
	return jsonText(us)
}

func fromFactorText(text string) (map[string]time.Time, error) {
	var us map[string]int64
	if err := fromJSON(text, &us); err != nil {
		return nil, err
	}
	factors := make(map[string]time.Time, len(us))
	for name, at := range us {
		factors[name] = fromMicros(at)
	}
	return factors, nil
}

// PutSignInSession stores a new sign-in session.
func (t *Tx) PutSignInSession(s signin.Session) error {
	factors, err := factorText(s.Factors)
	if err != nil {
		return err
	}
	if _, err = t.exec(`INSERT INTO signin_session (id, key_hash, user_id, address, factors, signed_in_at, seen_at, ends, tries) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		s.ID, keyText(s.KeyHash), s.UserID, s.Address, factors, micros(s.SignedInAt), micros(s.SeenAt), micros(s.Ends), s.Tries); err != nil {
		return err
	}
	return t.keepNewest(`SELECT seen_at FROM signin_session WHERE user_id = $1 ORDER BY seen_at DESC LIMIT 1 OFFSET $2`,
		`DELETE FROM signin_session WHERE user_id = $1 AND seen_at <= $2`, userSessions, s.UserID)
}

// SignInSession finds a session by the keyed hash of its cookie.
func (t *Tx) SignInSession(keyHash []byte) (signin.Session, bool, error) {
	s := signin.Session{KeyHash: keyHash}
	var factors string
	var signedIn, seen, ends int64
	found, err := t.row(`SELECT id, user_id, factors, signed_in_at, seen_at, ends, tries FROM signin_session WHERE key_hash = $1`, []any{keyText(keyHash)},
		&s.ID, &s.UserID, &factors, &signedIn, &seen, &ends, &s.Tries)
	if err != nil || !found {
		return s, false, err
	}
	s.SignedInAt, s.SeenAt, s.Ends = fromMicros(signedIn), fromMicros(seen), fromMicros(ends)
	s.Factors, err = fromFactorText(factors)
	return s, true, err
}

// TouchSignInSession notes use of a session and its wrong device codes.
func (t *Tx) TouchSignInSession(id string, seenAt time.Time, tries int) error {
	_, err := t.exec(`UPDATE signin_session SET seen_at = $1, tries = $2 WHERE id = $3`, micros(seenAt), tries, id)
	return err
}

// EndSignInSession forgets a session.
func (t *Tx) EndSignInSession(id string) error {
	_, err := t.exec(`DELETE FROM signin_session WHERE id = $1`, id)
	return err
}

// PutAuthorizationCode stores a new code.
func (t *Tx) PutAuthorizationCode(c oauth.Code) error {
	factors, err := factorText(c.Factors)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO oauth_code (hash, client, redirect_uri, challenge, scope, nonce, user_id, session, factors, signed_in_at, ends, family, used)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0)`,
		keyText(c.Hash), c.Client, c.RedirectURI, c.Challenge, c.Scope, c.Nonce, c.UserID, c.Session, factors, micros(c.SignedInAt), micros(c.Ends), c.Family)
	return err
}

// TakeAuthorizationCode spends a code; fresh is true for exactly one taker. That
// another came is remembered, for who has not finished with what it gave.
func (t *Tx) TakeAuthorizationCode(hash []byte) (c oauth.Code, found, fresh bool, err error) {
	n, err := t.exec(`UPDATE oauth_code SET used = 1 WHERE hash = $1 AND used = 0`, keyText(hash))
	if err != nil {
		return c, false, false, err
	}
	if n == 0 {
		if _, err := t.exec(`UPDATE oauth_code SET used = 2 WHERE hash = $1`, keyText(hash)); err != nil {
			return c, false, false, err
		}
	}
	c.Hash = hash
	var factors string
	var signedIn, ends int64
	found, err = t.row(`SELECT client, redirect_uri, challenge, scope, nonce, user_id, session, factors, signed_in_at, ends, family FROM oauth_code WHERE hash = $1`, []any{keyText(hash)},
		&c.Client, &c.RedirectURI, &c.Challenge, &c.Scope, &c.Nonce, &c.UserID, &c.Session, &factors, &signedIn, &ends, &c.Family)
	if err != nil || !found {
		return c, false, false, err
	}
	c.SignedInAt, c.Ends = fromMicros(signedIn), fromMicros(ends)
	c.Factors, err = fromFactorText(factors)
	return c, true, n == 1, err
}

// PutRefreshFamily stores a new family.
func (t *Tx) PutRefreshFamily(f token.Family) error {
	factors, err := factorText(f.Factors)
	if err != nil {
		return err
	}
	if _, err = t.exec(`INSERT INTO refresh_family (id, principal, client, session, address, scope, factors, signed_in_at, created_at, rotated_at, slides, ends, current_hash, previous_hash, ended_for)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
		f.ID, f.Principal, f.Client, f.Session, f.Address, f.Scope, factors, micros(f.SignedInAt), micros(f.CreatedAt), micros(f.RotatedAt), micros(f.Slides), micros(f.Ends),
		keyText(f.Current), keyText(f.Previous), f.EndedFor); err != nil {
		return err
	}
	return t.keepNewest(`SELECT rotated_at FROM refresh_family WHERE principal = $1 ORDER BY rotated_at DESC LIMIT 1 OFFSET $2`,
		`DELETE FROM refresh_family WHERE principal = $1 AND rotated_at <= $2`, userFamilies, f.Principal)
}

// RefreshFamily finds a family by its id.
func (t *Tx) RefreshFamily(id string) (token.Family, bool, error) {
	f := token.Family{ID: id}
	var factors, current, previous string
	var signedIn, created, rotated, slides, ends int64
	found, err := t.row(`SELECT principal, client, session, scope, factors, signed_in_at, created_at, rotated_at, slides, ends, current_hash, previous_hash, ended_for
FROM refresh_family WHERE id = $1`, []any{id}, &f.Principal, &f.Client, &f.Session, &f.Scope, &factors, &signedIn, &created, &rotated, &slides, &ends, &current, &previous, &f.EndedFor)
	if err != nil || !found {
		return f, false, err
	}
	f.SignedInAt, f.CreatedAt, f.RotatedAt, f.Slides, f.Ends = fromMicros(signedIn), fromMicros(created), fromMicros(rotated), fromMicros(slides), fromMicros(ends)
	if f.Current, err = fromKeyText(current); err != nil {
		return f, false, err
	}
	if f.Previous, err = fromKeyText(previous); err != nil {
		return f, false, err
	}
	f.Factors, err = fromFactorText(factors)
	return f, true, err
}

// RotateRefreshFamily replaces the current token if it still is presented.
func (t *Tx) RotateRefreshFamily(next token.Family, presented []byte) (bool, error) {
	n, err := t.exec(`UPDATE refresh_family SET current_hash = $1, previous_hash = $2, rotated_at = $3, slides = $4 WHERE id = $5 AND current_hash = $6 AND ended_for = ''`,
		keyText(next.Current), keyText(next.Previous), micros(next.RotatedAt), micros(next.Slides), next.ID, keyText(presented))
	return n == 1, err
}

// EndRefreshFamily ends a family; the first reason stays.
func (t *Tx) EndRefreshFamily(id, reason string) error {
	_, err := t.exec(`UPDATE refresh_family SET ended_for = $1 WHERE id = $2 AND ended_for = ''`, reason, id)
	return err
}

// PutDeviceRequest stores a request; false when its user code is in use.
func (t *Tx) PutDeviceRequest(d oauth.Device) (bool, error) {
	network, wide := d.Place()
	m := d.Machine
	n, err := t.exec(`INSERT INTO device_request (hash, user_code, client, scope, address, network, wide, state, created_at, ends, polled_at, user_id, session, factors, signed_in_at,
 machine_id, machine_name, login_name, wanted_user, confirmation, correlation)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, '', '', '{}', 0, $11, $12, $13, $14, $15, $16) ON CONFLICT (user_code) DO NOTHING`,
		keyText(d.Hash), d.UserCode, d.Client, d.Scope, d.Address, network, wide, string(d.State), micros(d.CreatedAt), micros(d.Ends),
		m.ID, m.Name, m.LoginName, m.UserID, m.Confirmation, m.CorrelationID)
	return n == 1, err
}

// DeviceRequest finds a request by the keyed hash of its device code.
func (t *Tx) DeviceRequest(hash []byte) (oauth.Device, bool, error) {
	return t.device(`hash = $1`, keyText(hash))
}

// DeviceRequestByUserCode finds a request by what a person types.
func (t *Tx) DeviceRequestByUserCode(code string) (oauth.Device, bool, error) {
	return t.device(`user_code = $1`, code)
}

func (t *Tx) device(where string, key string) (oauth.Device, bool, error) {
	var d oauth.Device
	var hash, state, factors string
	var created, ends, polled, signedIn int64
	found, err := t.row(`SELECT hash, user_code, client, scope, address, state, created_at, ends, polled_at, user_id, session, factors, signed_in_at,
 machine_id, machine_name, login_name, wanted_user, confirmation, correlation, reason FROM device_request WHERE `+where, []any{key},
		&hash, &d.UserCode, &d.Client, &d.Scope, &d.Address, &state, &created, &ends, &polled, &d.UserID, &d.Session, &factors, &signedIn,
		&d.Machine.ID, &d.Machine.Name, &d.Machine.LoginName, &d.Machine.UserID, &d.Machine.Confirmation, &d.Machine.CorrelationID, &d.Machine.Reason)
	if err != nil || !found {
		return d, false, err
	}
	if d.Hash, err = fromKeyText(hash); err != nil {
		return d, false, err
	}
	d.State = oauth.DeviceState(state)
	d.CreatedAt, d.Ends, d.PolledAt, d.SignedInAt = fromMicros(created), fromMicros(ends), fromMicros(polled), fromMicros(signedIn)
	d.Factors, err = fromFactorText(factors)
	return d, true, err
}

// PutDeviceState stores a decision if the request still is in state from.
func (t *Tx) PutDeviceState(d oauth.Device, from oauth.DeviceState) (bool, error) {
	factors, err := factorText(d.Factors)
	if err != nil {
		return false, err
	}
	n, err := t.exec(`UPDATE device_request SET state = $1, user_id = $2, session = $3, factors = $4, signed_in_at = $5, reason = $6 WHERE hash = $7 AND state = $8`,
		string(d.State), d.UserID, d.Session, factors, micros(d.SignedInAt), d.Machine.Reason, keyText(d.Hash), string(from))
	return n == 1, err
}

// PollDeviceRequest notes when a device asked last.
func (t *Tx) PollDeviceRequest(hash []byte, at time.Time) error {
	_, err := t.exec(`UPDATE device_request SET polled_at = $1 WHERE hash = $2`, micros(at), keyText(hash))
	return err
}

// UseClientAssertion remembers an assertion's id; fresh is true for the first use.
func (t *Tx) UseClientAssertion(client string, id []byte, ends time.Time) (bool, error) {
	n, err := t.exec(`INSERT INTO client_assertion (client, id, ends) VALUES ($1, $2, $3) ON CONFLICT (client, id) DO NOTHING`, client, keyText(id), micros(ends))
	return n == 1, err
}

// SweepOAuth deletes what ended before a time and returns how many rows went.
func (t *Tx) SweepOAuth(before time.Time) (int64, error) {
	var total int64
	for _, statement := range []string{
		`DELETE FROM signin_session WHERE ends < $1`, `DELETE FROM oauth_code WHERE ends < $1`, `DELETE FROM refresh_family WHERE slides < $1`,
		`DELETE FROM device_request WHERE ends < $1`, `DELETE FROM client_assertion WHERE ends < $1`,
	} {
		n, err := t.exec(statement, micros(before))
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}
