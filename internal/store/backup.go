package store

import "fmt"

// EachRow is Dump inside a transaction that also reads something else: every
// row of every table, as of this transaction.
func (t *Tx) EachRow(row Row) error {
	tables, err := t.tables()
	if err != nil {
		return err
	}
	for _, x := range tables {
		if err := t.dump(t.ctx, x, row); err != nil {
			return fmt.Errorf("table %s: %w", x.name, err)
		}
	}
	return nil
}

// SchemaFiles lists the schema files that the database has seen.
func (t *Tx) SchemaFiles() ([]string, error) { return t.migrations() }

// FeedPosition is the position of the change feed as of this transaction.
func (t *Tx) FeedPosition() (position int64, err error) {
	_, err = t.row(`SELECT position FROM feed_position WHERE id = 1`, nil, &position)
	return position, err
}
