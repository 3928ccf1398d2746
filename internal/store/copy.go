package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"slices"
	"strings"

	"sallyport/internal/fault"
)

// migrationTable records which schema files a database has seen.
const migrationTable = "schema_migration"

// copied: a copy gets its schema from the files, and the servers that run on
// one database do not run on its copy.
func copied(table string) bool {
	return table != migrationTable && table != "replica" && table != "machine_presence"
}

// Row takes one row of a table. Values are int64, string, []byte or nil, in the
// order of the columns; neither slice may be kept.
type Row func(table string, columns []string, values []any) error

// Contents is what Restore fills a new store with.
type Contents struct {
	// Migrations are the schema files that Rows were written under, as
	// Migrations returned them. One that this build does not know is refused.
	Migrations []string
	// Rows calls put with every row; Dump of another store has this shape.
	Rows func(put Row) error
	// Finish, where set, writes into the filled store; it becomes visible with
	// the rows or not at all.
	Finish func(*Tx) error
}

// Sum is the number of rows of a table and the hash of its contents.
type Sum struct {
	Table  string
	Rows   int64
	SHA256 [sha256.Size]byte
}

// Dump calls row with every row of every table, from one consistent read while
// others write. Tables come by name, rows by primary key.
func (s *Store) Dump(ctx context.Context, row Row) error {
	return s.Read(ctx, func(t *Tx) error {
		tables, err := t.tables()
		if err != nil {
			return err
		}
		for _, x := range tables {
			if err := t.dump(ctx, x, row); err != nil {
				return fmt.Errorf("table %s: %w", x.name, err)
			}
		}
		return nil
	})
}

// Sums returns count and hash of every table. Equal contents have equal sums
// whatever database holds them.
func (s *Store) Sums(ctx context.Context) ([]Sum, error) {
	var sums []Sum
	err := s.Read(ctx, func(t *Tx) error {
		tables, err := t.tables()
		if err != nil {
			return err
		}
		for _, x := range tables {
			sum := Sum{Table: x.name}
			h := sha256.New()
			if err := t.dump(ctx, x, func(_ string, columns []string, values []any) error {
				sum.Rows++
				return hashRow(h, columns, values)
			}); err != nil {
				return fmt.Errorf("table %s: %w", x.name, err)
			}
			h.Sum(sum.SHA256[:0])
			sums = append(sums, sum)
		}
		return nil
	})
	return sums, err
}

// hashRow adds a row without ambiguity: a type and a length before each value.
func hashRow(h hash.Hash, columns []string, values []any) error {
	item := func(kind byte, text []byte) {
		_, _ = h.Write(binary.BigEndian.AppendUint64([]byte{kind}, uint64(len(text))))
		_, _ = h.Write(text)
	}
	for i, v := range values {
		item('c', []byte(columns[i]))
		switch v := v.(type) {
		case nil:
			item('n', nil)
		case int64:
			item('i', binary.BigEndian.AppendUint64(nil, uint64(v))) //nolint:gosec // bits, not a number
		case string:
			item('s', []byte(v))
		case []byte:
			item('b', v)
		default:
			return fmt.Errorf("column %s holds a %T", columns[i], v)
		}
	}
	return nil
}

// Migrations returns the names of the schema files that the database has seen.
func (s *Store) Migrations(ctx context.Context) (names []string, err error) {
	err = s.Read(ctx, func(t *Tx) error { names, err = t.migrations(); return err })
	return names, err
}

func (t *Tx) migrations() (names []string, err error) {
	err = t.query(`SELECT name FROM `+migrationTable+` ORDER BY name`, nil, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		names = append(names, name)
		return err
	})
	return names, err
}

// Restore makes a new store, refusing an existing one as Create does, and fills
// it in one transaction: the schema that the rows were written under, the rows,
// the schema files since then, Finish. It leaves nothing when it fails.
func Restore(ctx context.Context, cfg Config, c Contents) error {
	if err := knownMigrations(c.Migrations); err != nil {
		return err
	}
	return create(ctx, cfg, func(ctx context.Context, s *Store, w *conn) error {
		if err := w.migrate(ctx, c.Migrations); err != nil {
			return err
		}
		t := &Tx{ctx: ctx, conn: w, store: s, now: s.Now(), writing: true}
		if err := t.load(c.Rows); err != nil {
			return err
		}
		if err := w.migrate(ctx, nil); err != nil {
			return err
		}
		var err error
		if t.chain, err = t.tail(cfg.Writer); err != nil || c.Finish == nil {
			return err
		}
		return c.Finish(t)
	})
}

// knownMigrations refuses the schema of a newer build, and a list that is not
// the beginning of ours.
func knownMigrations(names []string) error {
	known, err := schemaFiles()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fault.New(fault.Invalid, "SchemaMissing", "these contents name no schema")
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return fault.New(fault.Conflict, "SchemaNewer", "the data was written by a newer build: its schema has %s, which this one does not know", name).
				WithRemedy("Use the newer `sally`, or contents that an older one wrote.")
		}
	}
	return nil
}

// load replaces what the schema files put into the tables with the rows.
func (t *Tx) load(rows func(put Row) error) error {
	tables, err := t.tables()
	if err != nil {
		return err
	}
	inserts := map[string]string{}
	byName := map[string]table{}
	for _, x := range tables {
		if _, err := t.exec(`DELETE FROM ` + quoted(x.name)); err != nil {
			return err
		}
		byName[x.name] = x
	}
	return rows(func(name string, columns []string, values []any) error {
		// Names become SQL text, so only those that the database itself listed do.
		x, known := byName[name]
		if !known || !slices.Equal(columns, x.columns) || len(values) != len(columns) {
			return fault.New(fault.Invalid, "SchemaMismatch", "the data holds a table %q that does not agree with the schema it names", name)
		}
		if inserts[name] == "" {
			inserts[name] = x.insert()
		}
		if _, err := t.exec(inserts[name], values...); err != nil {
			return fmt.Errorf("table %s: %w", name, err)
		}
		return nil
	})
}

// table is a table as the database describes it.
type table struct {
	name          string
	columns, keys []string
}

func (x table) insert() string {
	holders := make([]string, len(x.columns))
	for i := range holders {
		holders[i] = fmt.Sprintf("$%d", i+1)
	}
	return `INSERT INTO ` + quoted(x.name) + ` (` + list(x.columns) + `) VALUES (` + strings.Join(holders, ", ") + `)`
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func list(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = quoted(n)
	}
	return strings.Join(out, ", ")
}

// tables lists the tables that are copied, by name.
func (t *Tx) tables() (tables []table, err error) {
	err = t.query(t.conn.dialect.tables, nil, func(scan func(...any) error) error {
		var name, column string
		var key int
		if err := scan(&name, &column, &key); err != nil || !copied(name) {
			return err
		}
		if len(tables) == 0 || tables[len(tables)-1].name != name {
			tables = append(tables, table{name: name})
		}
		x := &tables[len(tables)-1]
		x.columns = append(x.columns, column)
		if key > 0 {
			x.keys = append(x.keys, column)
		}
		return nil
	})
	for _, x := range tables {
		if err == nil && len(x.keys) == 0 {
			err = fmt.Errorf("table %s has no primary key", x.name)
		}
	}
	return tables, err
}

// dump walks over one table.
func (t *Tx) dump(ctx context.Context, x table, row Row) error {
	values, into := make([]any, len(x.columns)), make([]any, len(x.columns))
	for i := range values {
		into[i] = &values[i]
	}
	return t.query(`SELECT `+list(x.columns)+` FROM `+quoted(x.name)+` ORDER BY `+list(x.keys), nil, func(scan func(...any) error) error {
		if err := errors.Join(ctx.Err(), scan(into...)); err != nil {
			return err
		}
		return row(x.name, x.columns, values)
	})
}

// schemaFiles lists this build's schema files in the order that they run.
func schemaFiles() ([]string, error) {
	names, err := fs.Glob(schema, "schema/*.sql")
	slices.Sort(names)
	return names, err
}
