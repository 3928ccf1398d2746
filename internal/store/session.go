package store

import (
	"fmt"
	"time"

	"sallyport/internal/machine"
)

// SessionDigest returns the digest of a machine's stored list of sessions.
func (t *Tx) SessionDigest(machineID string) (digest string, err error) {
	_, err = t.row(`SELECT digest FROM machine_session_list WHERE machine_id = $1`, []any{machineID}, &digest)
	return digest, err
}

// PutSessions replaces what is known of a machine's sessions. It adds no feed
// row: nothing is decided by it. Only what differs is written.
func (t *Tx) PutSessions(machineID string, l machine.SessionList, at time.Time) error {
	was := map[string]string{}
	if err := t.query(`SELECT id, body FROM machine_session WHERE machine_id = $1`, []any{machineID}, func(scan func(...any) error) error {
		var id, body string
		err := scan(&id, &body)
		was[id] = body
		return err
	}); err != nil {
		return err
	}
	for _, n := range l.Sessions {
		body, err := jsonText(n)
		if err != nil {
			return err
		}
		old, known := was[n.ID]
		delete(was, n.ID)
		if known && old == body {
			continue
		}
		if _, err := t.exec(`INSERT INTO machine_session (machine_id, id, object_id, body) VALUES ($1, $2, $3, $4)
ON CONFLICT (machine_id, id) DO UPDATE SET object_id = excluded.object_id, body = excluded.body`, machineID, n.ID, n.ObjectID, body); err != nil {
			return err
		}
	}
	for id := range was {
		if _, err := t.exec(`DELETE FROM machine_session WHERE machine_id = $1 AND id = $2`, machineID, id); err != nil {
			return err
		}
	}
	_, err := t.exec(`INSERT INTO machine_session_list (machine_id, digest, more, at) VALUES ($1, $2, $3, $4)
ON CONFLICT (machine_id) DO UPDATE SET digest = excluded.digest, more = excluded.more, at = excluded.at`, machineID, l.Digest, l.More, micros(at))
	return err
}

// Sessions lists open sessions, each with its end where somebody has ended it.
func (t *Tx) Sessions(q machine.SessionQuery) (list []machine.Session, err error) {
	where, args := `WHERE (s.machine_id > $1 OR s.machine_id = $1 AND s.id > $2)`, []any{q.AfterMachine, q.AfterID}
	for _, c := range [][2]string{{" AND s.machine_id = ", q.MachineID}, {" AND s.id = ", q.SessionID}, {" AND s.object_id = ", q.ObjectID}} {
		if c[1] != "" {
			args = append(args, c[1])
			where += fmt.Sprintf("%s$%d", c[0], len(args))
		}
	}
	query := `SELECT s.machine_id, s.body, COALESCE(e.ended_by, ''), COALESCE(e.correlation, ''), COALESCE(e.at, 0) FROM machine_session s
LEFT JOIN ended_session e ON e.machine_id = s.machine_id AND e.id = s.id ` + where + ` ORDER BY s.machine_id, s.id`
	if q.Limit > 0 {
		args = append(args, q.Limit)
		query += fmt.Sprintf(" LIMIT $%d", len(args))
	}
	err = t.query(query, args, func(scan func(...any) error) error {
		var n machine.Session
		var body, by, correlation string
		var at int64
		if err := scan(&n.MachineID, &body, &by, &correlation, &at); err != nil {
			return err
		}
		if err := fromJSON(body, &n.Session); err != nil {
			return err
		}
		if at != 0 {
			n.Ending = &machine.Ending{Session: n.Session, MachineID: n.MachineID, By: by, CorrelationID: correlation, At: fromMicros(at)}
		}
		list = append(list, n)
		return nil
	})
	return list, err
}

// PutEnding stores that somebody ended a session. One that was ended so long ago
// that its machine is not told of it any more is ended anew.
func (t *Tx) PutEnding(e machine.Ending) error {
	body, err := jsonText(e.Session)
	if err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO ended_session (machine_id, id, object_id, ended_by, correlation, at, gone_at, processes, remaining, body) VALUES ($1, $2, $3, $4, $5, $6, 0, '', '', $7)
ON CONFLICT (machine_id, id) DO UPDATE SET ended_by = excluded.ended_by, correlation = excluded.correlation, at = excluded.at, gone_at = 0`,
		e.MachineID, e.Session.ID, e.Session.ObjectID, e.By, e.CorrelationID, micros(e.At), body); err != nil {
		return err
	}
	return t.changed("machineSession", e.MachineID)
}

// EndingGone notes that the machine has carried an end out.
func (t *Tx) EndingGone(machineID, sessionID string, at time.Time, processes, left string) error {
	_, err := t.exec(`UPDATE ended_session SET gone_at = CASE WHEN gone_at = 0 THEN $1 ELSE gone_at END, processes = CASE WHEN processes = '' THEN $2 ELSE processes END,
remaining = CASE WHEN remaining = '' THEN $3 ELSE remaining END WHERE machine_id = $4 AND id = $5`, micros(at), processes, left, machineID, sessionID)
	return err
}

const endingColumns = `SELECT machine_id, ended_by, correlation, at, gone_at, processes, remaining, body FROM ended_session`

func (t *Tx) endings(query string, args ...any) (list []machine.Ending, err error) {
	err = t.query(query, args, func(scan func(...any) error) error {
		var e machine.Ending
		var at, gone int64
		var body string
		if err := scan(&e.MachineID, &e.By, &e.CorrelationID, &at, &gone, &e.Processes, &e.Left, &body); err != nil {
			return err
		}
		e.At, e.GoneAt = fromMicros(at), fromMicros(gone)
		if err := fromJSON(body, &e.Session); err != nil {
			return err
		}
		list = append(list, e)
		return nil
	})
	return list, err
}

// EndingsOf lists the ended sessions of a machine.
func (t *Tx) EndingsOf(machineID string) ([]machine.Ending, error) {
	return t.endings(endingColumns+` WHERE machine_id = $1 ORDER BY at, id`, machineID)
}

// EndingsByID lists the ended sessions of one id.
func (t *Tx) EndingsByID(sessionID string) ([]machine.Ending, error) {
	return t.endings(endingColumns+` WHERE id = $1 ORDER BY machine_id`, sessionID)
}

// EachEnding calls f with every ended session, those of one machine together.
func (t *Tx) EachEnding(f func(machine.Ending) error) error {
	list, err := t.endings(endingColumns + ` ORDER BY machine_id, at, id`)
	for _, e := range list {
		if err == nil {
			err = f(e)
		}
	}
	return err
}

// SweepEndings forgets sessions that were ended before a time. No feed rows: no
// machine is told of them any more.
func (t *Tx) SweepEndings(before time.Time) error {
	_, err := t.exec(`DELETE FROM ended_session WHERE at < $1`, micros(before))
	return err
}
