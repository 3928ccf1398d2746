package store

import (
	"time"

	"sallyport/internal/oauth"
	"sallyport/internal/oauth/token"
	"sallyport/internal/signin"
)

// How much of one user is kept at a time; the least recently used goes first.
const (
	userSessions = 50
	userFamilies = 500
)

// SignInSessionsOf lists a user's sign-in sessions, the last used first.
func (t *Tx) SignInSessionsOf(userID string) ([]signin.Session, error) {
	var list []signin.Session
	err := t.query(`SELECT id, address, factors, signed_in_at, seen_at, ends FROM signin_session WHERE user_id = $1 ORDER BY seen_at DESC, id`, []any{userID}, func(scan func(...any) error) error {
		s := signin.Session{UserID: userID}
		var factors string
		var signedIn, seen, ends int64
		if err := scan(&s.ID, &s.Address, &factors, &signedIn, &seen, &ends); err != nil {
			return err
		}
		s.SignedInAt, s.SeenAt, s.Ends = fromMicros(signedIn), fromMicros(seen), fromMicros(ends)
		var err error
		s.Factors, err = fromFactorText(factors)
		list = append(list, s)
		return err
	})
	return list, err
}

// RefreshFamiliesOf lists a principal's refresh families, the last used first,
// without their hashes.
func (t *Tx) RefreshFamiliesOf(principal string) ([]token.Family, error) {
	var list []token.Family
	err := t.query(`SELECT id, client, session, address, scope, factors, signed_in_at, created_at, rotated_at, slides, ends, ended_for FROM refresh_family WHERE principal = $1 ORDER BY rotated_at DESC, id`,
		[]any{principal}, func(scan func(...any) error) error {
			f := token.Family{Principal: principal}
			var factors string
			var signedIn, created, rotated, slides, ends int64
			if err := scan(&f.ID, &f.Client, &f.Session, &f.Address, &f.Scope, &factors, &signedIn, &created, &rotated, &slides, &ends, &f.EndedFor); err != nil {
				return err
			}
			f.SignedInAt, f.CreatedAt, f.RotatedAt, f.Slides, f.Ends = fromMicros(signedIn), fromMicros(created), fromMicros(rotated), fromMicros(slides), fromMicros(ends)
			var err error
			f.Factors, err = fromFactorText(factors)
			list = append(list, f)
			return err
		})
	return list, err
}

// RefreshFamilyAlive reports whether a family exists and has not ended.
func (t *Tx) RefreshFamilyAlive(id string) (bool, error) {
	var ended string
	found, err := t.row(`SELECT ended_for FROM refresh_family WHERE id = $1`, []any{id}, &ended)
	return found && ended == "", err
}

// EndRefreshFamiliesOf ends the families that a sign-in session began.
func (t *Tx) EndRefreshFamiliesOf(principal, session, reason string) error {
	_, err := t.exec(`UPDATE refresh_family SET ended_for = $1 WHERE principal = $2 AND session = $3 AND ended_for = ''`, reason, principal, session)
	return err
}

// EndGrantsOf makes the codes of a sign-in session look shown twice, and its
// device approvals denied: whoever is about to redeem one looks again.
func (t *Tx) EndGrantsOf(userID, session string) error {
	if _, err := t.exec(`UPDATE oauth_code SET used = 2 WHERE user_id = $1 AND session = $2`, userID, session); err != nil {
		return err
	}
	_, err := t.exec(`UPDATE device_request SET state = $1 WHERE user_id = $2 AND session = $3`, string(oauth.DeviceDenied), userID, session)
	return err
}

// CountAuthorizationCodes counts a user's codes that can be redeemed.
func (t *Tx) CountAuthorizationCodes(userID string, at time.Time) (n int, err error) {
	_, err = t.row(`SELECT COUNT(*) FROM oauth_code WHERE user_id = $1 AND used = 0 AND ends > $2`, []any{userID, micros(at)}, &n)
	return n, err
}

// AuthorizationCodeAgain reports whether a code was shown after it was spent.
func (t *Tx) AuthorizationCodeAgain(hash []byte) (bool, error) {
	var used int64
	_, err := t.row(`SELECT used FROM oauth_code WHERE hash = $1`, []any{keyText(hash)}, &used)
	return used > 1, err
}

// PendingDevices counts the requests that wait for a person: of a network, of
// its neighbourhood, and all.
func (t *Tx) PendingDevices(network, wide string, at time.Time) (mine, near, all int, err error) {
	const pending = ` FROM device_request WHERE state = 'pending' AND ends > $1`
	if _, err = t.row(`SELECT COUNT(*)`+pending+` AND wide = $2 AND network = $3`, []any{micros(at), wide, network}, &mine); err != nil {
		return 0, 0, 0, err
	}
	if _, err = t.row(`SELECT COUNT(*)`+pending+` AND wide = $2`, []any{micros(at), wide}, &near); err != nil {
		return 0, 0, 0, err
	}
	_, err = t.row(`SELECT COUNT(*)`+pending, []any{micros(at)}, &all)
	return mine, near, all, err
}

// DropPendingDevice removes the oldest waiting request of the neighbourhood that
// has most, when that is more than so many.
func (t *Tx) DropPendingDevice(moreThan int, at time.Time) (bool, error) {
	var wide string
	var n int
	found, err := t.row(`SELECT wide, COUNT(*) FROM device_request WHERE state = 'pending' AND ends > $1 GROUP BY wide ORDER BY COUNT(*) DESC, wide LIMIT 1`, []any{micros(at)}, &wide, &n)
	if err != nil || !found || n <= moreThan {
		return false, err
	}
	_, err = t.exec(`DELETE FROM device_request WHERE hash IN (SELECT hash FROM device_request WHERE state = 'pending' AND ends > $1 AND wide = $2 ORDER BY created_at LIMIT 1)`, micros(at), wide)
	return err == nil, err
}

// settingsFact is where the tenant's settings of sign-in are kept.
const settingsFact = "signInSettings"

// PutSettings stores how people may sign in.
func (t *Tx) PutSettings(s oauth.Settings) error {
	if err := t.SetFact(settingsFact, s); err != nil {
		return err
	}
	return t.changed("settings", settingsFact)
}

// Settings reads how people may sign in.
func (t *Tx) Settings() (oauth.Settings, bool, error) {
	var s oauth.Settings
	found, err := t.Fact(settingsFact, &s)
	return s, found, err
}
