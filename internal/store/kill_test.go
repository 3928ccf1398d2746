package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"sallyport/internal/audit"
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
	for g := range 4 {
		wg.Go(func() {
			for i := range 5000 {
				name := fmt.Sprintf("%d-%d-%d", os.Getpid(), g, i)
				err := s.Write(context.Background(), func(tx *Tx) error {
					if err := tx.SetFact(name, 1); err != nil {
						return err
					}
					if err := tx.changed("user", name); err != nil {
						return err
					}
					return tx.Audit(audit.By{}, audit.Event{Type: "t", Outcome: audit.Success, Target: name})
				})
				if err != nil {
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

// TestKill9_LosesNothingAcknowledged kills a busy writer again and again: every
// acknowledged write must be there with its feed row and its audit record, and
// the chain must hold.
func TestKill9_LosesNothingAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s, err := Create(t.Context(), Config{Path: path, Now: clock, Writer: "w"})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	for round := range 20 {
		acked := killVictim(t, path, 20+round*7)
		s, err := Open(t.Context(), Config{Path: path, Now: clock, Writer: "w"})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		err = s.Read(t.Context(), func(tx *Tx) error {
			n, _, err := tx.VerifyAudit()
			if err != nil {
				return err
			}
			var feed int64
			if _, err := tx.row(`SELECT count(*) FROM feed`, nil, &feed); err != nil {
				return err
			}
			if n != feed || s.Position() != feed {
				t.Errorf("round %d: %d records, %d feed rows, position %d", round, n, feed, s.Position())
			}
			for _, name := range acked {
				var v int
				if found, err := tx.Fact(name, &v); err != nil || !found {
					t.Errorf("round %d: acknowledged write %s is lost (%v)", round, name, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
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
