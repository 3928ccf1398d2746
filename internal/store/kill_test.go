package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/machine"
	"sallyport/internal/oauth"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// childPath tells the re-run test binary to be the victim.
const childPath = "SALLYPORT_STORE_VICTIM"

// TestMain turns the test binary into a writer that prints each acknowledged
// write, when asked to by the tests below.
func TestMain(m *testing.M) {
	if path := os.Getenv(childPath); path != "" {
		victim(path)
		return
	}
	os.Exit(m.Run())
}

func victim(path string) {
	s, err := Open(context.Background(), Config{Path: path, Now: clock, Writer: "w"})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	life := s.Position() // no other victim began here; process ids come again
	for kind, write := range busy() {
		wg.Go(func() {
			for i := range 5000 {
				name := fmt.Sprintf("%d-%d-%d", life, kind, i)
				err := s.Write(context.Background(), func(tx *Tx) error {
					if err := write(tx, name); err != nil {
						return err
					}
					if err := tx.changed("test", name); err != nil {
						return err
					}
					return tx.Audit(audit.By{}, audit.Event{Type: "t", Outcome: audit.Success, Target: name})
				})
				if err != nil {
					fmt.Println("error", err)
					return
				}
				mu.Lock()
				fmt.Println("ack", name)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// busy are the kinds of writers that a server has, each with one thing of its
// own to find again by name.
func busy() []func(tx *Tx, name string) error {
	return []func(tx *Tx, name string) error{
		func(tx *Tx, name string) error { return tx.SetFact(name, 1) },
		func(tx *Tx, name string) error {
			uid, err := tx.NextPOSIXID()
			if err != nil {
				return err
			}
			return errors.Join(tx.PutUser(directory.User{ID: name, UPN: name, UID: uid}), tx.SetFact(name, 1))
		},
		func(tx *Tx, name string) error {
			return errors.Join(tx.PutRoleAssignment(rbac.Assignment{ID: name, Scope: scope.Subscription(name), RoleID: "r", PrincipalID: "p"}), tx.SetFact(name, 1))
		},
		func(tx *Tx, name string) error { // a code, redeemed at once
			if err := tx.PutAuthorizationCode(oauth.Code{Hash: []byte(name), Ends: tx.Now()}); err != nil {
				return err
			}
			if _, _, fresh, err := tx.TakeAuthorizationCode([]byte(name)); err != nil || !fresh {
				return fmt.Errorf("a fresh code is used: %w", err)
			}
			return tx.SetFact(name, 1)
		},
		func(tx *Tx, name string) error {
			return errors.Join(tx.PutMachine(machine.Machine{ID: name, ResourceID: scope.Root(), Thumbprint: name}), tx.SetFact(name, 1))
		},
		func(tx *Tx, name string) error {
			at := scope.ResourceGroup("s", name)
			return errors.Join(tx.PutResource(resource.Resource{ID: at, State: resource.Succeeded, ETag: "1"}), tx.PutOperation(resource.Operation{ID: name, Resource: at, StartedAt: tx.Now()}), tx.SetFact(name, 1))
		},
	}
}

// TestKill9_LosesNothingAcknowledged kills a busy server a thousand times: every
// acknowledged write must be there with its feed row and its audit record, and
// the chain must hold.
func TestKill9_LosesNothingAcknowledged(t *testing.T) {
	const stores, rounds = 4, 250
	each := rounds
	if racing {
		each = 5 // what the race detector looks at is the same in every round
	}
	for n := range stores {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "s.db")
			s, err := Create(t.Context(), Config{Path: path, Now: clock, Writer: "w"})
			if err != nil {
				t.Fatal(err)
			}
			_ = s.Close()
			for round := range each {
				acked := killVictim(t, path, 1+round%29)
				survived(t, path, round, acked, round%50 == 49 || round == each-1)
			}
		})
	}
}

// survived looks at a store whose server was killed; all of it where whole.
func survived(t *testing.T, path string, round int, acked []string, whole bool) {
	t.Helper()
	s, err := Open(t.Context(), Config{Path: path, Now: clock, Writer: "w"})
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Read(t.Context(), func(tx *Tx) error {
		var records, last, feed, mine int64
		if _, err := tx.row(`SELECT count(*), MAX(sequence), (SELECT count(*) FROM feed), (SELECT count(*) FROM feed WHERE kind = 'test') FROM audit`, nil, &records, &last, &feed, &mine); err != nil {
			return err
		}
		if records != mine || last != records || s.Position() != feed {
			t.Errorf("round %d: %d records up to %d, %d changes of %d, position %d", round, records, last, mine, feed, s.Position())
		}
		for _, name := range acked {
			var v int
			if found, err := tx.Fact(name, &v); err != nil || !found {
				t.Errorf("round %d: acknowledged write %s is lost (%v)", round, name, err)
			}
		}
		if !whole {
			return nil
		}
		_, _, err := tx.VerifyAudit()
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func killVictim(t *testing.T, path string, after int) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childPath+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acked []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		name, ok := strings.CutPrefix(lines.Text(), "ack ")
		if !ok {
			t.Fatalf("victim: %s", lines.Text())
		}
		acked = append(acked, name)
		if len(acked) == after {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
	if len(acked) < after {
		t.Fatalf("the victim acknowledged only %d writes", len(acked))
	}
	return acked
}

// TestFsync_ComesBeforeEveryAnswer watches the system calls of a writer: no
// acknowledgement is printed without an fsync of the log after the one before.
func TestFsync_ComesBeforeEveryAnswer(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("strace is needed for this proof; 'make deps' installs it")
	}
	path := filepath.Join(t.TempDir(), "s.db")
	s, err := Create(t.Context(), Config{Path: path, Now: clock, Writer: "w"})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	log := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command(strace, "-f", "-y", "-o", log, "-e", "trace=fsync,fdatasync,pwrite64,write", "-s", "4096", os.Args[0])
	cmd.Env = append(os.Environ(), childPath+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 0; n < 50 && lines.Scan(); n++ {
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	checkTrace(t, log)
}

// checkTrace: a goroutine of the victim has one write under way at a time, so
// between two of its acknowledgements the log must have been synced.
func checkTrace(t *testing.T, log string) {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	synced := regexp.MustCompile(`(fsync|fdatasync)\(\d+<[^>]*-wal>\)\s+= 0|<\.\.\. (fsync|fdatasync) resumed>\)\s+= 0`)
	ack := regexp.MustCompile(`write\(1<[^>]*>, "ack \d+-(\d)-(\d+)`)
	answers, syncs := 0, 0
	pending := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		switch {
		case synced.MatchString(line):
			syncs++
			pending = map[string]bool{}
		case ack.MatchString(line):
			m := ack.FindStringSubmatch(line)
			answers++
			// One writer acknowledges once per commit: the same goroutine twice
			// without a sync between would be an answer before the disk.
			if pending[m[1]] {
				t.Errorf("writer %s was answered twice within one sync: %s", m[1], line)
			}
			pending[m[1]] = true
		}
	}
	if answers == 0 || syncs == 0 {
		t.Fatalf("saw %d answers and %d syncs", answers, syncs)
	}
}
