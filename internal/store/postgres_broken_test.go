package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/store/postgrestest"
)

// brokenConnection: the database ends every connection; the next write and read
// go on, and a chain continues where it was.
func brokenConnection(t *testing.T, server *postgrestest.Server, url string) {
	a, _ := twoServers(t, url)
	for i := range 5 {
		if err := a.Write(t.Context(), func(tx *Tx) error {
			if err := tx.SetFact(fmt.Sprint(i), i); err != nil {
				return err
			}
			return tx.Audit(audit.By{}, audit.Event{Type: "t", Outcome: audit.Success})
		}); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		server.SQL(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		if err := a.Read(t.Context(), func(tx *Tx) error {
			n, _, err := tx.VerifyAudit()
			if n != int64(i+1) {
				t.Errorf("round %d: %d records", i, n)
			}
			return err
		}); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if _, err := a.Confirm(t.Context()); err != nil {
			if _, err := a.Confirm(t.Context()); err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
		}
	}
	// In mid-transaction: run again, applied once.
	ran := 0
	if err := a.Write(t.Context(), func(tx *Tx) error {
		if ran++; ran == 1 {
			server.SQL(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		}
		return tx.Audit(audit.By{}, audit.Event{Type: "t", Outcome: audit.Success})
	}); err != nil || ran != 2 {
		t.Fatalf("ran %d times: %v", ran, err)
	}
	server.Stop(t)
	err := a.Write(t.Context(), func(tx *Tx) error { return tx.SetFact("away", 1) })
	if !fault.Is(err, fault.Unavailable) {
		t.Fatalf("without the database: %v", err)
	}
	handbooktest.Said(t, fault.As(err).Public(), "trouble.Write")
	if err = a.Read(t.Context(), func(*Tx) error { return nil }); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("a read without the database: %v", err)
	}
	handbooktest.Said(t, fault.As(err).Public(), "trouble.Read")
	if _, err = Open(t.Context(), Config{URL: url, Now: clock, Writer: "server-c"}); !Away(err) {
		t.Fatalf("opened without the database: %v", err)
	}
	handbooktest.Said(t, fault.As(err).Public(), "start.StoreNotOpened")
	server.Start(t)
	if err := a.Write(t.Context(), func(tx *Tx) error { return tx.SetFact("back", 1) }); err != nil {
		t.Error(err)
	}
}

// lostAnswer: the connection breaks while COMMIT is answered. Whether it took
// place is found out, never guessed: the write is there once.
func lostAnswer(t *testing.T, server *postgrestest.Server, url string) {
	a, _ := twoServers(t, url)
	for _, committed := range []bool{true, false} {
		name := fmt.Sprintf("committed-%v", committed)
		honest, lied := a.dialect.commit, false
		ran := 0
		err := a.Write(t.Context(), func(tx *Tx) error {
			ran++
			tx.conn.dialect.commit = func(ctx context.Context, c *conn) error {
				c.dialect.commit = honest
				if !lied {
					lied = true
					if committed {
						if err := honest(ctx, c); err != nil {
							return err
						}
					}
					server.SQL(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
					return c.do(ctx, "SELECT 1")
				}
				return honest(ctx, c)
			}
			if err := tx.Audit(audit.By{}, audit.Event{Type: "t", Outcome: audit.Success, Target: name}); err != nil {
				return err
			}
			return tx.SetFact(name, ran)
		})
		if err != nil || !lied {
			t.Fatalf("%s: %v", name, err)
		}
		if want := map[bool]int{true: 1, false: 2}[committed]; ran != want {
			t.Errorf("%s: ran %d times", name, ran)
		}
	}
	if err := a.Read(t.Context(), func(tx *Tx) error {
		n, _, err := tx.VerifyAudit()
		if n != 2 {
			t.Errorf("%d records", n)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	// The database goes with the answer: nobody can say.
	honest := a.dialect.commit
	err := a.Write(t.Context(), func(tx *Tx) error {
		tx.conn.dialect.commit = func(ctx context.Context, c *conn) error {
			c.dialect.commit = honest
			server.Stop(t)
			return c.do(ctx, "SELECT 1")
		}
		return tx.SetFact("who knows", 1)
	})
	server.Start(t)
	if err == nil {
		t.Fatal("a write without an answer was a success")
	}
	handbooktest.Said(t, fault.As(err).Public(), "trouble.Unknown")
}

func conflictRepeated(t *testing.T, server *postgrestest.Server, url string) {
	a, _ := twoServers(t, url)
	server.SQL(t, url, `CREATE FUNCTION meet() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'met' USING ERRCODE = '40001'; END $$`)
	ran := 0
	if err := a.Write(t.Context(), func(tx *Tx) error {
		if ran++; ran < 3 {
			_, err := tx.exec(`SELECT meet()`)
			return err
		}
		return tx.SetFact("done", 1)
	}); err != nil || ran != 3 {
		t.Errorf("ran %d times: %v", ran, err)
	}
	if err := a.Write(t.Context(), func(tx *Tx) error { _, err := tx.exec(`SELECT meet()`); return err }); err == nil {
		t.Error("a conflict without end was a success")
	}
}

// frozenWriter: a server that stops in the middle of a transaction holds the
// others up for idleLimit and not for ever.
func frozenWriter(t *testing.T, _ *postgrestest.Server, url string) {
	a, b := twoServers(t, url)
	held, goOn := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		first := true
		ended <- a.Write(context.Background(), func(tx *Tx) error {
			if first {
				first = false
				close(held)
				<-goOn
			}
			return tx.SetFact("frozen", 1)
		})
	}()
	<-held
	start := time.Now()
	if err := b.Write(t.Context(), func(tx *Tx) error { return tx.SetFact("other", 1) }); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > idleLimit+3*time.Second {
		t.Errorf("the other server waited %s", took)
	}
	close(goOn)
	if err := <-ended; err != nil {
		t.Errorf("the frozen one did not recover: %v", err)
	}
}
