package store

import (
	"fmt"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/machine"
	"sallyport/internal/scope"
)

// eventMemory is how long the id of a machine event is remembered. A machine
// forgets an event when the server has taken it.
const eventMemory = 30 * 24 * time.Hour

// PutJoinToken stores a new token and removes those that expired a day ago.
func (t *Tx) PutJoinToken(k machine.Token) error {
	if _, err := t.exec(`DELETE FROM join_tokens WHERE expires_at < $1`, micros(t.now.Add(-24*time.Hour))); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO join_tokens (hash, machine_id, resource_id, expires_at, used_at, used_by, minted_by) VALUES ($1, $2, $3, $4, 0, '', $5)`,
		k.Hash, k.MachineID, k.ResourceID.String(), micros(k.ExpiresAt), k.MintedBy)
	return err
}

// BindJoinToken notes which machine a token for a new one has made.
func (t *Tx) BindJoinToken(hash, machineID string) error {
	_, err := t.exec(`UPDATE join_tokens SET machine_id = $1 WHERE hash = $2`, machineID, hash)
	return err
}

// UseJoinToken consumes a token by compare-and-swap. ok is false when it is
// unknown (zero Token), used before or expired (the stored Token).
func (t *Tx) UseJoinToken(hash, thumbprint string, at time.Time) (machine.Token, bool, error) {
	n, err := t.exec(`UPDATE join_tokens SET used_at = $1, used_by = $2 WHERE hash = $3 AND used_at = 0 AND expires_at > $1`, micros(at), thumbprint, hash)
	if err != nil {
		return machine.Token{}, false, err
	}
	k := machine.Token{Hash: hash}
	var resource string
	var expires, used int64
	found, err := t.row(`SELECT machine_id, resource_id, expires_at, used_at, used_by, minted_by FROM join_tokens WHERE hash = $1`, []any{hash},
		&k.MachineID, &resource, &expires, &used, &k.UsedBy, &k.MintedBy)
	if err != nil || !found {
		return machine.Token{}, false, err
	}
	k.ExpiresAt, k.UsedAt = fromMicros(expires), fromMicros(used)
	k.ResourceID, err = scope.Parse(resource)
	return k, n == 1 && err == nil, err
}

// PutMachine stores a machine record whole.
func (t *Tx) PutMachine(m machine.Machine) error {
	keys, err := jsonText(m.HostKeys)
	if err != nil {
		return err
	}
	report, err := jsonText(m.Report)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO machines (id, resource_id, thumbprint, joined_at, hostname, os, openssh, agent, host_keys, report, proven_key, replaced, replaced_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (id) DO UPDATE SET resource_id = excluded.resource_id, thumbprint = excluded.thumbprint, joined_at = excluded.joined_at,
		hostname = excluded.hostname, os = excluded.os, openssh = excluded.openssh, agent = excluded.agent, host_keys = excluded.host_keys, report = excluded.report, proven_key = excluded.proven_key,
		replaced = excluded.replaced, replaced_at = excluded.replaced_at`,
		m.ID, m.ResourceID.String(), m.Thumbprint, micros(m.JoinedAt), m.Hostname, m.OS, m.OpenSSH, m.Agent, keys, report, m.ProvenKey, m.Replaced, micros(m.ReplacedAt))
	if unique(err) {
		return fault.Wrap(err, fault.Conflict, "MachineKeyInUse", "this machine's key belongs to another machine")
	}
	if err != nil {
		return err
	}
	return t.changed("machine", m.ID)
}

// DropMachine removes a machine and everything that is kept under its id, but for
// the heads of audit chains that it has seen: they are evidence about this
// server, which must not go with the machine that gives it.
func (t *Tx) DropMachine(id string) error {
	for _, q := range []string{`DELETE FROM machines WHERE id = $1`, `DELETE FROM join_tokens WHERE machine_id = $1`, `DELETE FROM machine_events WHERE machine_id = $1`,
		`DELETE FROM machine_inventory WHERE machine_id = $1`, `DELETE FROM machine_manifest WHERE machine_id = $1`, `DELETE FROM machine_stream WHERE machine_id = $1`,
		`DELETE FROM machine_session WHERE machine_id = $1`, `DELETE FROM machine_session_list WHERE machine_id = $1`,
		`DELETE FROM ended_session WHERE machine_id = $1`, `DELETE FROM machine_presence WHERE machine_id = $1`} {
		if _, err := t.exec(q, id); err != nil {
			return err
		}
	}
	return t.changed("machine", id)
}

const machineColumns = `SELECT id, resource_id, thumbprint, joined_at, hostname, os, openssh, agent, host_keys, report, proven_key, replaced, replaced_at FROM machines`

// machineRow collects the columns of one record.
func machineRow() (dest []any, done func() (machine.Machine, error)) {
	var m machine.Machine
	var resource, keys, report string
	var joined, replaced int64
	dest = []any{&m.ID, &resource, &m.Thumbprint, &joined, &m.Hostname, &m.OS, &m.OpenSSH, &m.Agent, &keys, &report, &m.ProvenKey, &m.Replaced, &replaced}
	return dest, func() (machine.Machine, error) {
		var err error
		if m.ResourceID, err = scope.Parse(resource); err != nil {
			return m, fmt.Errorf("machine %s: %w", m.ID, err)
		}
		m.JoinedAt, m.ReplacedAt = fromMicros(joined), fromMicros(replaced)
		if err := fromJSON(keys, &m.HostKeys); err != nil {
			return m, fmt.Errorf("machine %s: %w", m.ID, err)
		}
		return m, fromJSON(report, &m.Report)
	}
}

// MachineByID reads one machine.
func (t *Tx) MachineByID(id string) (machine.Machine, bool, error) {
	return t.machineWhere(` WHERE id = $1`, id)
}

// MachineByKey reads the machine that joined with a key.
func (t *Tx) MachineByKey(thumbprint string) (machine.Machine, bool, error) {
	return t.machineWhere(` WHERE thumbprint = $1`, thumbprint)
}

func (t *Tx) machineWhere(where, arg string) (machine.Machine, bool, error) {
	dest, done := machineRow()
	found, err := t.row(machineColumns+where, []any{arg}, dest...)
	if err != nil || !found {
		return machine.Machine{}, false, err
	}
	m, err := done()
	return m, err == nil, err
}

// EachMachine calls f with every machine.
func (t *Tx) EachMachine(f func(machine.Machine) error) error {
	return t.query(machineColumns+` ORDER BY id`, nil, func(scan func(...any) error) error {
		dest, done := machineRow()
		if err := scan(dest...); err != nil {
			return err
		}
		m, err := done()
		if err != nil {
			return err
		}
		return f(m)
	})
}

// TakeMachineEvent reports whether the event is new, and remembers it.
func (t *Tx) TakeMachineEvent(machineID, eventID string, at time.Time) (bool, error) {
	n, err := t.exec(`INSERT INTO machine_events (machine_id, event_id, at) VALUES ($1, $2, $3) ON CONFLICT (machine_id, event_id) DO NOTHING`, machineID, eventID, micros(at))
	if err != nil || n == 0 {
		return false, err
	}
	_, err = t.exec(`DELETE FROM machine_events WHERE at < $1`, micros(at.Add(-eventMemory)))
	return true, err
}

// EventStream reads how far a machine's events have come.
func (t *Tx) EventStream(machineID string) (machine.Stream, error) {
	var x machine.Stream
	_, err := t.row(`SELECT thumbprint, sequence FROM machine_stream WHERE machine_id = $1`, []any{machineID}, &x.Thumbprint, &x.Sequence)
	return x, err
}

// PutEventStream stores it.
func (t *Tx) PutEventStream(machineID string, x machine.Stream) error {
	_, err := t.exec(`INSERT INTO machine_stream (machine_id, thumbprint, sequence) VALUES ($1, $2, $3)
		ON CONFLICT (machine_id) DO UPDATE SET thumbprint = excluded.thumbprint, sequence = excluded.sequence`, machineID, x.Thumbprint, x.Sequence)
	return err
}
