package store

import (
	"time"

	"sallyport/internal/keyring"
	"sallyport/internal/machine/protocol"
)

const (
	factManifest = "manifest"
	factKeys     = "keys"
	// ManifestChange is the kind of the feed's rows about manifest and keys.
	ManifestChange = "manifest"
)

// Manifest reads the signed manifest; found is false before the first.
func (t *Tx) Manifest() (m protocol.SignedManifest, found bool, err error) {
	found, err = t.Fact(factManifest, &m)
	return m, found, err
}

// PutManifest stores the signed manifest and adds a change.
func (t *Tx) PutManifest(m protocol.SignedManifest) error {
	if err := t.SetFact(factManifest, m); err != nil {
		return err
	}
	return t.changed(ManifestChange, factManifest)
}

// Keyring reads the keys with their states; found is false for a store that was
// made before keys rotated.
func (t *Tx) Keyring() (r keyring.Ring, found bool, err error) {
	found, err = t.Fact(factKeys, &r)
	return r, found, err
}

// PutKeyring stores the keys and adds a change.
func (t *Tx) PutKeyring(r keyring.Ring) error {
	if err := t.SetFact(factKeys, r); err != nil {
		return err
	}
	return t.changed(ManifestChange, factKeys)
}

// MachineManifest is the manifest that a machine last said is in force there.
type MachineManifest struct {
	MachineID, ResourceID string
	Epoch, Version        int64     // 0 when it never said
	At                    time.Time // when it said so; zero when never
}

// AcknowledgedManifest reads what a machine last said; zero when it never did.
func (t *Tx) AcknowledgedManifest(machineID string) (epoch, version int64, err error) {
	_, err = t.row(`SELECT epoch, version FROM machine_manifest WHERE machine_id = $1`, []any{machineID}, &epoch, &version)
	return epoch, version, err
}

// AcknowledgeManifest stores what a machine has in force. It adds no change: ten
// thousand acknowledgements must not wake ten thousand polls.
func (t *Tx) AcknowledgeManifest(machineID string, epoch, version int64) error {
	_, err := t.exec(`INSERT INTO machine_manifest (machine_id, epoch, version, at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (machine_id) DO UPDATE SET epoch = excluded.epoch, version = excluded.version, at = excluded.at`, machineID, epoch, version, micros(t.now))
	return err
}

const behind = ` FROM machines LEFT JOIN machine_manifest ON machine_manifest.machine_id = machines.id
	WHERE machine_manifest.machine_id IS NULL OR machine_manifest.epoch < $1 OR (machine_manifest.epoch = $1 AND machine_manifest.version < $2)`

// CountBehind counts the joined machines that have not taken over a manifest.
func (t *Tx) CountBehind(epoch, version int64) (n int, err error) {
	_, err = t.row(`SELECT COUNT(*)`+behind, []any{epoch, version}, &n)
	return n, err
}

// ManifestBehind lists them, at most limit.
func (t *Tx) ManifestBehind(epoch, version int64, limit int) (list []MachineManifest, err error) {
	err = t.query(`SELECT machines.id, machines.resource_id, COALESCE(machine_manifest.epoch, 0), COALESCE(machine_manifest.version, 0), COALESCE(machine_manifest.at, 0)`+behind+` ORDER BY machines.id LIMIT $3`,
		[]any{epoch, version, limit}, func(scan func(...any) error) error {
			var m MachineManifest
			var at int64
			if err := scan(&m.MachineID, &m.ResourceID, &m.Epoch, &m.Version, &at); err != nil {
				return err
			}
			m.At = fromMicros(at)
			list = append(list, m)
			return nil
		})
	return list, err
}
