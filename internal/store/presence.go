package store

import (
	"sallyport/internal/machine"
)

// PutPresences stores what this server has heard from machines. It adds no feed
// row: nothing is decided by it. A machine that was removed meanwhile leaves none.
func (t *Tx) PutPresences(list []machine.Presence) error {
	var stamp int64
	if _, err := t.row(`SELECT COALESCE(MAX(stamp), 0) FROM machine_presence WHERE replica = $1`, []any{t.store.cfg.Writer}, &stamp); err != nil {
		return err
	}
	for _, p := range list {
		if _, err := t.exec(`INSERT INTO machine_presence (machine_id, replica, seen_at, version, acknowledged, stamp, current)
SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS BIGINT), CAST($4 AS BIGINT), CAST($5 AS BIGINT), CAST($6 AS BIGINT), CAST($7 AS BIGINT) WHERE EXISTS (SELECT 1 FROM machines WHERE id = $1)
ON CONFLICT (machine_id, replica) DO UPDATE SET seen_at = excluded.seen_at, version = excluded.version, acknowledged = excluded.acknowledged, stamp = excluded.stamp, current = excluded.current`,
			p.MachineID, t.store.cfg.Writer, micros(p.SeenAt), p.Version, p.Acknowledged, stamp+1, p.Current); err != nil {
			return err
		}
	}
	return nil
}

// PresencesOfOthers returns what other servers have told since the last call
// with the same map, which remembers how far that was.
func (t *Tx) PresencesOfOthers(heard map[string]int64) (list []machine.Presence, err error) {
	others, err := t.Replicas()
	if err != nil {
		return nil, err
	}
	for _, r := range others {
		if r.Name == t.store.cfg.Writer {
			continue
		}
		if err := t.query(`SELECT machine_id, seen_at, version, acknowledged, stamp, current FROM machine_presence WHERE replica = $1 AND stamp > $2`, []any{r.Name, heard[r.Name]}, func(scan func(...any) error) error {
			var p machine.Presence
			var seen, stamp int64
			err := scan(&p.MachineID, &seen, &p.Version, &p.Acknowledged, &stamp, &p.Current)
			p.SeenAt = fromMicros(seen)
			heard[r.Name] = max(heard[r.Name], stamp)
			list = append(list, p)
			return err
		}); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Presences returns what any server was last told by each machine, of this
// server's own last run too.
func (t *Tx) Presences() (list []machine.Presence, err error) {
	err = t.query(`SELECT machine_id, seen_at, version, acknowledged, current FROM machine_presence`, nil, func(scan func(...any) error) error {
		var p machine.Presence
		var seen int64
		err := scan(&p.MachineID, &seen, &p.Version, &p.Acknowledged, &p.Current)
		p.SeenAt = fromMicros(seen)
		list = append(list, p)
		return err
	})
	return list, err
}
