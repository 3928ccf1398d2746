package store

import (
	"time"

	"sallyport/internal/machine"
)

// InventoryParts returns what a machine has said of itself.
func (t *Tx) InventoryParts(machineID string) (parts map[string]machine.InventoryPart, err error) {
	parts = map[string]machine.InventoryPart{}
	err = t.query(`SELECT part, document, at FROM machine_inventory WHERE machine_id = $1`, []any{machineID}, func(scan func(...any) error) error {
		var name, document string
		var at int64
		err := scan(&name, &document, &at)
		parts[name] = machine.InventoryPart{Document: []byte(document), At: fromMicros(at)}
		return err
	})
	return parts, err
}

// PutInventoryPart replaces one part. It adds no feed row: nothing is decided by
// it. A machine that was removed meanwhile leaves none.
func (t *Tx) PutInventoryPart(machineID, part string, document []byte, at time.Time) error {
	_, err := t.exec(`INSERT INTO machine_inventory (machine_id, part, document, at)
SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS BIGINT) WHERE EXISTS (SELECT 1 FROM machines WHERE id = $1)
ON CONFLICT (machine_id, part) DO UPDATE SET document = excluded.document, at = excluded.at`, machineID, part, string(document), micros(at))
	return err
}
