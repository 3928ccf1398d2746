//go:build e2e

package e2e

import (
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// screen is what a program has shown so far; watch is told of all of it at each
// change.
type screen struct {
	mu    sync.Mutex
	text  strings.Builder
	last  time.Time // when something was shown last
	watch func(all string)
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(b)
	s.last = time.Now()
	s.watch(s.text.String())
	return len(b), nil
}

// seen is what a person saw, and when the last of it was there: a login(1) that
// refuses holds the terminal for some seconds more. For a program that hung, at is
// when it was ended.
type seen struct {
	result
	at time.Time
}

// hangs is how long a program may take whose person waits for nothing else.
const hangs = 30 * time.Second

// converse runs a program, answers its first prompt for a password, and gives a
// shell that prompts the proof to run.
func converse(cmd *exec.Cmd) seen {
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return seen{result{err: err.Error(), code: 126}, time.Now()}
	}
	answered, proved := false, false
	out := &screen{watch: func(all string) {
		last := all[strings.LastIndexByte(strings.TrimRight(all, "\n"), '\n')+1:]
		switch {
		case !answered && strings.Contains(all, "assword: "):
			answered = true
			_, _ = io.WriteString(stdin, aWord+"\n")
		case !proved && (strings.HasSuffix(last, "$ ") || strings.HasSuffix(last, "# ")):
			proved = true
			_, _ = io.WriteString(stdin, proof+"; exit\n")
		}
	}}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, out, time.Second
	if err := cmd.Start(); err != nil {
		return seen{result{err: err.Error(), code: 127}, time.Now()}
	}
	timer := time.AfterFunc(crowded(hangs), func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	hung := !timer.Stop()
	_ = stdin.Close()
	out.mu.Lock()
	defer out.mu.Unlock()
	s := seen{result{out: out.text.String()}, out.last}
	if err != nil {
		s.code = 1
	}
	if hung {
		s.at, s.err = time.Now(), "it hung and was ended"
	}
	return s
}

func TestConverse(t *testing.T) {
	r := converse(exec.Command("sh", "-c", `printf 'Password: '; read x; echo "got $x"; printf '\033[mme$ '; read y; sh -c "$y"`))
	if r.code != 0 || !strings.Contains(r.out, "got "+aWord) || !strings.Contains(r.out, saw) {
		t.Fatal(r.result)
	}
}
