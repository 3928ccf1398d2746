//go:build e2e

package az

import (
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// session is an az that stays: what azure/cli/__main__.py does, again and again. A
// start of az costs most of a command.
type session struct {
	mu  sync.Mutex
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// inOne is somebody whose commands run in one az, until the test is over.
func (s *somebody) inOne(t *testing.T) *somebody {
	t.Helper()
	program, err := filepath.Abs("many.py")
	if err != nil {
		t.Fatal(err)
	}
	one := *s
	x := &session{cmd: s.command("python3", program)}
	if x.in, err = x.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	answers, err := x.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	x.out = json.NewDecoder(answers)
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.in.Close(); _ = x.cmd.Wait() })
	one.one = x
	return &one
}

// run has its turn as a start of az has.
func (x *session) run(w *world, words []string) result {
	w.turns <- struct{}{}
	defer func() { <-w.turns }()
	x.mu.Lock()
	defer x.mu.Unlock()
	line, err := json.Marshal(words)
	if err == nil {
		_, err = fmt.Fprintf(x.in, "%s\n", line)
	}
	var answer struct {
		Code     int
		Out, Err string
	}
	if err == nil {
		err = x.out.Decode(&answer)
	}
	if err != nil {
		return result{err: "az of many commands: " + err.Error(), code: 127}
	}
	return result{out: answer.Out, err: answer.Err, code: answer.Code}
}
