package store

import (
	"fmt"
	"strings"
	"time"

	"sallyport/internal/rollout"
)

const agentUpgradeColumns = `name, id, version, rings, soak, wait, timeout, max_failures, state, reason, ring, ring_at, done_at, created_at, created_by`

// PutAgentUpgrade stores an upgrade whole.
func (t *Tx) PutAgentUpgrade(u rollout.Upgrade) error {
	rings := make([]string, len(u.Rings))
	for i, r := range u.Rings {
		rings[i] = string(r)
	}
	_, err := t.exec(`INSERT INTO agent_upgrade (`+agentUpgradeColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (name) DO UPDATE SET id = excluded.id, version = excluded.version, rings = excluded.rings, soak = excluded.soak, wait = excluded.wait, timeout = excluded.timeout, max_failures = excluded.max_failures,
state = excluded.state, reason = excluded.reason, ring = excluded.ring, ring_at = excluded.ring_at, done_at = excluded.done_at, created_at = excluded.created_at, created_by = excluded.created_by`,
		u.Name, u.ID, u.Version, strings.Join(rings, "\n"), u.Soak.Microseconds(), u.Wait.Microseconds(), u.Timeout.Microseconds(), int64(u.MaxFailures), string(u.State), u.Reason, int64(u.Ring),
		micros(u.RingAt), micros(u.DoneAt), micros(u.CreatedAt), u.CreatedBy)
	if err != nil {
		return fmt.Errorf("agent upgrade %s: %w", u.Name, err)
	}
	return t.changed(rollout.ChangeKind, u.Name)
}

// DropAgentUpgrade removes an upgrade.
func (t *Tx) DropAgentUpgrade(name string) error {
	if _, err := t.exec(`DELETE FROM agent_upgrade WHERE name = $1`, name); err != nil {
		return fmt.Errorf("agent upgrade %s: %w", name, err)
	}
	return t.changed(rollout.ChangeKind, name)
}

// AgentUpgrade finds an upgrade.
func (t *Tx) AgentUpgrade(name string) (u rollout.Upgrade, found bool, err error) {
	err = t.query(`SELECT `+agentUpgradeColumns+` FROM agent_upgrade WHERE name = $1`, []any{name}, func(scan func(...any) error) (err error) {
		u, err = scanAgentUpgrade(scan)
		found = true
		return err
	})
	return u, found, err
}

// AgentUpgrades lists all upgrades.
func (t *Tx) AgentUpgrades() (list []rollout.Upgrade, err error) {
	err = t.query(`SELECT `+agentUpgradeColumns+` FROM agent_upgrade ORDER BY name`, nil, func(scan func(...any) error) error {
		u, err := scanAgentUpgrade(scan)
		list = append(list, u)
		return err
	})
	return list, err
}

func scanAgentUpgrade(scan func(...any) error) (u rollout.Upgrade, err error) {
	var rings, state string
	var soak, wait, timeout, failures, ring, ringAt, doneAt, createdAt int64
	err = scan(&u.Name, &u.ID, &u.Version, &rings, &soak, &wait, &timeout, &failures, &state, &u.Reason, &ring, &ringAt, &doneAt, &createdAt, &u.CreatedBy)
	for r := range strings.SplitSeq(rings, "\n") {
		u.Rings = append(u.Rings, rollout.Ring(r))
	}
	u.Soak, u.Wait, u.Timeout = time.Duration(soak)*time.Microsecond, time.Duration(wait)*time.Microsecond, time.Duration(timeout)*time.Microsecond
	u.MaxFailures, u.State, u.Ring = int(failures), rollout.State(state), int(ring)
	u.RingAt, u.DoneAt, u.CreatedAt = fromMicros(ringAt), fromMicros(doneAt), fromMicros(createdAt)
	return u, err
}
