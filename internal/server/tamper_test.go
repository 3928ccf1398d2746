package server

import (
	"database/sql"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite" // the attacker's tool
)

// tamper changes a closed store past the server.
func tamper(t *testing.T, d *deployment, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(d.cfg.State, storeFile))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}
