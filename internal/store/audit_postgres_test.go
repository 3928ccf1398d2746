package store

import (
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/store/postgrestest"
)

// Everything about the audit log that has SQL of its own runs on PostgreSQL as
// it does on SQLite, with two writers.
func TestPostgres_AuditLog(t *testing.T) {
	server := postgrestest.New(t)
	a, b := twoServers(t, server.Database(t))
	logged(t, a, 60)
	logged(t, b, 40)
	read(t, a, func(tx *Tx) error {
		v := audit.NewVerifier(nil, nil)
		if err := tx.WalkAudit(v); err != nil {
			return err
		}
		if verdict, err := v.Finish(); err != nil || verdict.Records != 100 || len(verdict.Heads) != 2 {
			t.Errorf("%+v %v", verdict, err)
		}
		got, f := 0, audit.Filter{Outcome: audit.Denied, Principal: "p1", Type: "machine.login.deny", Target: "/SUB/VM3", Since: clock(), Limit: 3}
		for {
			page, err := tx.AuditRecords(f)
			if err != nil {
				return err
			}
			if got += len(page); len(page) < 3 {
				break
			}
			f.Before = page[2].Place()
		}
		if got != 10 {
			t.Errorf("%d refusals", got)
		}
		c, n := audit.Cursor{}, 0
		for {
			page, err := tx.AuditAfter(c, 7)
			if err != nil {
				return err
			}
			if n += len(page); len(page) == 0 {
				break
			}
		}
		if n != 100 || c["server-a"] != 60 || c["server-b"] != 40 {
			t.Errorf("%d %v", n, c)
		}
		return nil
	})
	collected(t, a, b)
}

// collected: witnesses, collectors and retention.
func collected(t *testing.T, a, b *Store) {
	t.Helper()
	w := protocol.Witnessed{SignedHead: protocol.SignedHead{Head: audit.Head{Writer: "server-a", Sequence: 5, Hash: []byte("h")}, KeyID: "k", Signature: []byte("s")}, Epoch: 1}
	err := b.Write(t.Context(), func(tx *Tx) error {
		for range 2 {
			if err := tx.PutWitness("m", w); err != nil {
				return err
			}
		}
		for i, holder := range []string{"x", "y", "x"} {
			if ok, err := tx.HoldAuditOutput("syslog", holder, clock().Add(time.Minute)); err != nil || ok != (i != 1) {
				t.Errorf("%s holds: %v %v", holder, ok, err)
			}
		}
		if err := tx.SaveAuditCursor("syslog", audit.Cursor{"server-a": 9}); err != nil {
			return err
		}
		if err := tx.SaveAuditCursor("syslog", audit.Cursor{"server-a": 3, "server-b": 1}); err != nil {
			return err
		}
		if c, err := tx.AuditCursor("syslog"); err != nil || c["server-a"] != 9 || c["server-b"] != 1 {
			t.Errorf("%v %v", c, err)
		}
		cut, ok, err := tx.AuditCut("server-a", clock().Add(30*time.Second), 1000)
		if err != nil || !ok || cut.Sequence != 30 {
			t.Errorf("%+v %v %v", cut, ok, err)
		}
		if err := tx.PutAuditCheckpoint(cut, protocol.Envelope{KeyID: "k"}); err != nil {
			return err
		}
		for _, want := range []int64{20, 10, 0} {
			if n, err := tx.DropAudit(20); err != nil || n != want {
				t.Errorf("%d records dropped, %v", n, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	read(t, a, func(tx *Tx) error {
		n := 0
		if err := tx.EachWitness(func(string, protocol.Witnessed) error { n++; return nil }); err != nil || n != 1 {
			t.Errorf("%d witnesses, %v", n, err)
		}
		if list, err := tx.AuditCheckpoints(); err != nil || len(list) != 1 {
			t.Errorf("%v %v", list, err)
		}
		if records, _, err := tx.VerifyAudit(); err == nil {
			t.Errorf("%d records, and what is gone is not missed", records)
		}
		return nil
	})
}
