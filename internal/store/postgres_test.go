package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/crowdtest"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/oauth"
	"sallyport/internal/store/postgrestest"
)

// twoServers are two stores on one database, as two servers open it.
func twoServers(t *testing.T, url string) (a, b *Store) {
	t.Helper()
	a, err := Create(t.Context(), Config{URL: url, Now: clock, Writer: "server-a"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	b, err = Open(t.Context(), Config{URL: url, Now: clock, Writer: "server-b"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return a, b
}

// TestPostgres holds what a shared database promises with several writers.
func TestPostgres(t *testing.T) {
	server := postgrestest.New(t)
	for name, f := range map[string]func(*testing.T, *postgrestest.Server, string){
		"one UPN from two servers":          oneUPN,
		"one code redeemed on two servers":  oneCode,
		"feed positions in order":           feedOrder,
		"a chain per writer":                chains,
		"errors undo themselves alone":      func(t *testing.T, _ *postgrestest.Server, url string) { a, _ := twoServers(t, url); undoAlone(t, a) },
		"confirm learns of the other":       confirmLearns,
		"one process per name":              oneProcess,
		"a name is taken over":              takeOver,
		"bytes order":                       bytesOrder,
		"text that cannot be stored":        unstorable,
		"a broken connection is replaced":   brokenConnection,
		"an answer lost in COMMIT":          lostAnswer,
		"a conflict is repeated":            conflictRepeated,
		"a frozen writer is thrown out":     frozenWriter,
		"an existing deployment is refused": refusesExisting,
		"copies to and from SQLite":         copies,
		"settings that lose data":           badSettings,
		"a database that went back":         wentBack,
		"servers upgraded together":         upgradedTogether,
		"a long read":                       longRead,
		"a panic in a read":                 func(t *testing.T, _ *postgrestest.Server, url string) { a, _ := twoServers(t, url); readPanics(t, a) },
	} {
		t.Run(name, func(t *testing.T) { f(t, server, server.Database(t)) })
	}
}

func both(t *testing.T, a, b *Store, f func(s *Store, i int) error) (failures int) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i, s := range []*Store{a, b} {
		wg.Go(func() {
			if err := f(s, i); err != nil {
				mu.Lock()
				failures++
				mu.Unlock()
				if !fault.Is(err, fault.Conflict) {
					t.Errorf("server %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	return failures
}

func oneUPN(t *testing.T, _ *postgrestest.Server, url string) {
	a, b := twoServers(t, url)
	for round := range 30 {
		upn := fmt.Sprintf("u%d@corp.example", round)
		failures := both(t, a, b, func(s *Store, i int) error {
			return s.Write(t.Context(), func(tx *Tx) error {
				// As the directory does it: look, then write.
				if _, taken, err := tx.UserByUPN(upn); err != nil || taken {
					return errors.Join(err, fault.New(fault.Conflict, "Taken", "taken"))
				}
				uid, err := tx.NextPOSIXID()
				if err != nil {
					return err
				}
				return tx.PutUser(directory.User{ID: fmt.Sprintf("%d-%d", round, i), UPN: upn, UID: uid})
			})
		})
		if failures != 1 {
			t.Fatalf("round %d: %d of 2 were refused", round, failures)
		}
	}
	if err := a.Read(t.Context(), func(tx *Tx) error {
		seen := map[uint32]bool{}
		return tx.EachUser(func(u directory.User) error {
			if seen[u.UID] {
				t.Errorf("POSIX id %d was given twice", u.UID)
			}
			seen[u.UID] = true
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
}

func oneCode(t *testing.T, _ *postgrestest.Server, url string) {
	a, b := twoServers(t, url)
	for round := range 30 {
		hash := []byte(fmt.Sprint("code", round))
		if err := a.Write(t.Context(), func(tx *Tx) error { return tx.PutAuthorizationCode(oauth.Code{Hash: hash, Ends: tx.Now()}) }); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		taken := 0
		both(t, a, b, func(s *Store, _ int) error {
			return s.Write(t.Context(), func(tx *Tx) error {
				_, found, fresh, err := tx.TakeAuthorizationCode(hash)
				mu.Lock()
				defer mu.Unlock()
				if !found {
					t.Error("the code is not there")
				}
				if fresh {
					taken++
				}
				return err
			})
		})
		if taken != 1 {
			t.Fatalf("round %d: the code was taken %d times", round, taken)
		}
	}
}

// feedOrder: whoever reads past a position never misses a change that appears
// below it later.
func feedOrder(t *testing.T, _ *postgrestest.Server, url string) {
	a, b := twoServers(t, url)
	const each = 200
	done := make(chan struct{})
	go func() {
		defer close(done)
		both(t, a, b, func(s *Store, i int) error {
			var wg sync.WaitGroup
			for g := range 4 {
				wg.Go(func() {
					for n := range each / 4 {
						err := s.Write(t.Context(), func(tx *Tx) error { return tx.changed("user", fmt.Sprintf("%d-%d-%d", i, g, n)) })
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			return nil
		})
	}()
	var at int64
	seen := map[string]bool{}
	for over := false; !over || len(seen) < 2*each; {
		select {
		case <-done:
			if over {
				t.Fatalf("saw %d of %d changes", len(seen), 2*each)
			}
			over = true
		default:
		}
		changes, err := b.Changes(t.Context(), at, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			if c.Position != at+1 {
				t.Fatalf("position %d follows %d", c.Position, at)
			}
			at = c.Position
			seen[c.Key] = true
		}
	}
}

func chains(t *testing.T, _ *postgrestest.Server, url string) {
	a, b := twoServers(t, url)
	both(t, a, b, func(s *Store, _ int) error {
		for range 50 {
			if err := s.Write(t.Context(), func(tx *Tx) error { return tx.Audit(audit.By{}, audit.Event{Type: "t", Outcome: audit.Success}) }); err != nil {
				return err
			}
		}
		return nil
	})
	if err := a.Read(t.Context(), func(tx *Tx) error {
		n, heads, err := tx.VerifyAudit()
		if n != 100 || len(heads) != 2 || heads[0].Sequence != 50 || heads[1].Sequence != 50 {
			t.Errorf("%d records, %v", n, heads)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func confirmLearns(t *testing.T, _ *postgrestest.Server, url string) {
	a, b := twoServers(t, url)
	moved := b.Moved()
	if err := a.Write(t.Context(), func(tx *Tx) error { return tx.changed("user", "x") }); err != nil {
		t.Fatal(err)
	}
	if at, err := b.Confirm(t.Context()); err != nil || at != 1 || b.Position() != 1 {
		t.Fatalf("position %d %v", at, err)
	}
	select {
	case <-moved:
	default:
		t.Fatal("nobody was woken")
	}
}

func oneProcess(t *testing.T, _ *postgrestest.Server, url string) {
	a, _ := twoServers(t, url)
	start := time.Now()
	if _, err := Open(t.Context(), Config{URL: url, Now: clock, Writer: "server-a"}); !nameTaken(err) {
		t.Fatalf("a second process of the name: %v", err)
	} else {
		handbooktest.Said(t, fault.As(err).Public(), "start.ReplicaNameTaken")
	}
	if took := time.Since(start); took > crowdtest.Limit(leaseTime) {
		t.Errorf("the refusal took %s", took)
	}
	// The name of a server that stops is free before its lease is over. On a busy
	// computer not every round shows that.
	for round := 1; ; round++ {
		_ = a.Close()
		start = time.Now()
		again, err := Open(t.Context(), Config{URL: url, Now: clock, Writer: "server-a"})
		took := time.Since(start)
		if err != nil || took >= leaseTime && round == 3 {
			t.Fatalf("the name of a server that stopped is not free after %s: %v", took, err)
		}
		if a = again; took < leaseTime {
			break
		}
	}
	_ = a.Close()
}

// takeOver: a process that vanished keeps its name for the lease; one that wakes
// up after it commits nothing and learns why.
func takeOver(t *testing.T, server *postgrestest.Server, url string) {
	a, _ := twoServers(t, url)
	// What a takeover is, as another process would write it.
	server.SQL(t, url, `UPDATE replica SET epoch = epoch + 1 WHERE name = 'server-a'`)
	err := a.Write(t.Context(), func(tx *Tx) error { return tx.SetFact("late", 1) })
	if !fault.Is(err, fault.Unavailable) {
		t.Fatalf("a server without its name wrote: %v", err)
	}
	handbooktest.Said(t, fault.As(err).Public(), "trouble.Replaced")
	select {
	case <-a.Lost():
	default:
		t.Error("it was not told")
	}
	if _, err := a.Confirm(t.Context()); !nameTaken(err) {
		t.Errorf("it confirmed: %v", err)
	}
	if got := server.SQL(t, url, `SELECT count(*) FROM deployment`); got != "0" {
		t.Errorf("%s facts", got)
	}
	// The row that nobody moves any more is free when the lease is over.
	start := time.Now()
	again, err := Open(t.Context(), Config{URL: url, Now: clock, Writer: "server-a"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	if took := time.Since(start); took < leaseTime {
		t.Errorf("the name was taken after %s", took)
	}
	if err := again.Write(t.Context(), func(tx *Tx) error { return tx.SetFact("now", 1) }); err != nil {
		t.Error(err)
	}
}

func bytesOrder(t *testing.T, server *postgrestest.Server, url string) {
	a, _ := twoServers(t, url)
	want := []string{"/a", "/a-b", "/a/b", "/aB", "/ab", "/é"}
	for _, name := range slices.Backward(want) {
		if err := a.Write(t.Context(), func(tx *Tx) error { return tx.SetFact(name, 1) }); err != nil {
			t.Fatal(err)
		}
	}
	if got := server.SQL(t, url, `SELECT string_agg(name, ' ' ORDER BY name) FROM deployment`); got != strings.Join(want, " ") {
		t.Errorf("order: %s", got)
	}
}

func unstorable(t *testing.T, _ *postgrestest.Server, url string) {
	a, _ := twoServers(t, url)
	for _, s := range []*Store{a, open4test(t)} {
		for _, text := range []string{"a\x00b", "a\xff"} {
			if err := s.Write(t.Context(), func(tx *Tx) error { return tx.SetFact(text, 1) }); !fault.Is(err, fault.Invalid) {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
}

func refusesExisting(t *testing.T, _ *postgrestest.Server, url string) {
	if _, err := Open(t.Context(), Config{URL: url, Now: clock, Writer: "w"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("an empty database was opened: %v", err)
	}
	a, _ := twoServers(t, url)
	if _, err := Create(t.Context(), Config{URL: url, Now: clock, Writer: "other"}); !fault.Is(err, fault.Conflict) {
		t.Errorf("a deployment was made over another: %v", err)
	}
	if err := a.Write(t.Context(), func(tx *Tx) error { return tx.SetFact("still", 1) }); err != nil {
		t.Error(err)
	}
}

func copies(t *testing.T, server *postgrestest.Server, url string) {
	from := filled(t)
	names, err := from.Migrations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	target := Config{URL: url, Now: clock, Writer: "w"}
	boom := errors.New("boom")
	if err := Restore(t.Context(), target, Contents{Migrations: names, Rows: func(put Row) error {
		return errors.Join(from.Dump(t.Context(), put), boom)
	}}); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if got := server.SQL(t, url, `SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'`); got != "0" {
		t.Fatalf("a failed copy left %s tables", got)
	}
	move := func(from *Store, to Config) *Store {
		t.Helper()
		if err := Restore(t.Context(), to, Contents{Migrations: names, Rows: func(put Row) error { return from.Dump(t.Context(), put) }}); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		want, err := from.Sums(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Sums(t.Context()); err != nil || !slices.Equal(got, want) {
			t.Fatalf("sums differ (%v)\n%v\n%v", err, got, want)
		}
		if err := s.Write(t.Context(), func(tx *Tx) error { return tx.Audit(audit.By{}, audit.Event{Type: "t", Outcome: audit.Success}) }); err != nil {
			t.Fatal(err)
		}
		return s
	}
	there := move(from, target)
	back := move(there, Config{Path: filepath.Join(t.TempDir(), "back.db"), Now: clock, Writer: "w"})
	if err := back.Read(t.Context(), func(tx *Tx) error {
		n, _, err := tx.VerifyAudit()
		if n != 6 {
			t.Errorf("%d records", n)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func badSettings(t *testing.T, server *postgrestest.Server, _ string) {
	server.SQL(t, server.URL("postgres"), `CREATE DATABASE latin ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0`)
	cfg := Config{URL: server.URL("latin"), Now: clock, Writer: "w"}
	if _, err := Create(t.Context(), cfg); err == nil {
		t.Error("a LATIN1 database was taken")
	} else {
		handbooktest.Said(t, fault.As(err).Public(), "start.DatabaseSetting")
	}
	if got := server.SQL(t, cfg.URL, `SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'`); got != "0" {
		t.Errorf("%s tables were made", got)
	}
}

func TestURL_RefusesAndProtects(t *testing.T) {
	t.Setenv("PGSSLMODE", "")
	_ = os.Unsetenv("PGSSLMODE")
	for _, bad := range []string{"", "mysql://x/y", "host=x", "postgres://x/y?sslmode=maybe", "postgres://h:port/x"} {
		if err := CheckURL(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := CheckURL("postgres://u:geheim@h/x?sslmode=maybe"); err == nil || strings.Contains(err.Error(), "geheim") {
		t.Errorf("the password is in: %v", err)
	}
	for text, want := range map[string]string{
		"postgres://u@db.example/x":                                "verified",
		"postgres://u@127.0.0.1/x?sslmode=disable":                 "open",
		"postgres://u@localhost/x?sslmode=require":                 "unverified",
		"postgres://u@/x?host=/run/postgresql":                     "open",
		"postgres://u@a.example,b.example/x":                       "verified",
		"postgres://u@127.0.0.1,b.example/x?connect_timeout=3":     "verified",
		"postgres://u@db.example/x?sslmode=verify-full":            "verified",
		"postgres://u@db.example/x?target_session_attrs=read-only": "verified",
	} {
		c, err := parsePostgres(Config{URL: text})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := "open"
		if c.TLSConfig != nil {
			got = "verified"
			if c.TLSConfig.InsecureSkipVerify {
				got = "unverified"
			}
		}
		for _, f := range c.Fallbacks {
			if got == "verified" && (f.TLSConfig == nil || f.TLSConfig.InsecureSkipVerify) {
				got = "may fall back"
			}
		}
		if got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
}
