//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// trace is a file of `strace -f -o`: who called what, and who is whose child.
type trace struct {
	parent map[string]string
	calls  map[string][]string // by pid, in order
	pids   []string
}

var (
	traceLine  = regexp.MustCompile(`^(\d+) +(.*)$`)
	traceChild = regexp.MustCompile(`(?:clone3?|v?fork)(?:\(| resumed).* = (?:\d+ /\* )?(\d+)(?: in strace's PID NS \*/)?$`)
)

func readTrace(t *testing.T, path string) trace {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tr := trace{parent: map[string]string{}, calls: map[string][]string{}}
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		m := traceLine.FindStringSubmatch(s.Text())
		if m == nil {
			continue
		}
		if !slices.Contains(tr.pids, m[1]) {
			tr.pids = append(tr.pids, m[1])
		}
		tr.calls[m[1]] = append(tr.calls[m[1]], m[2])
		if c := traceChild.FindStringSubmatch(m[2]); c != nil {
			tr.parent[c[1]] = m[1]
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return tr
}

// tree returns every call of the family of a process: of the child of top that
// it descends from, and all of that one's descendants. top itself, which serves
// everybody, is not in it.
func (tr trace) tree(pid, top string) []string {
	for tr.parent[pid] != "" && tr.parent[pid] != top {
		pid = tr.parent[pid]
	}
	var calls []string
	for _, p := range tr.pids {
		for up := p; up != ""; up = tr.parent[up] {
			if up == pid {
				calls = append(calls, tr.calls[p]...)
				break
			}
		}
	}
	return calls
}

// who returns a process that a word was an argument of, "" for none.
func (tr trace) who(word string) string {
	for _, p := range tr.pids {
		for _, c := range tr.calls[p] {
			if strings.HasPrefix(c, "execve(") && strings.Contains(c, word) {
				return p
			}
		}
	}
	return ""
}

func (tr trace) all() []string {
	var calls []string
	for _, p := range tr.pids {
		calls = append(calls, tr.calls[p]...)
	}
	return calls
}

// contacts returns the calls that reach for the agent, the server, or our state.
// allowed names a file that may be read.
func contacts(calls []string, allowed string) []string {
	var bad []string
	for _, c := range calls {
		ours := strings.Contains(c, "/run/sallyport") || strings.Contains(c, "/var/lib/sallyport") || strings.Contains(c, "/etc/sallyport/") ||
			strings.Contains(c, "10.77.0.1\"") || strings.Contains(c, "htons(443)") || strings.HasPrefix(c, "execve(") && strings.Contains(c, "sallyport-principals")
		if ours && (allowed == "" || !strings.Contains(c, fmt.Sprintf("%q, O_RDONLY", allowed))) {
			bad = append(bad, c)
		}
	}
	return bad
}
