package agent

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/preflight"
	"sallyport/internal/agent/proc"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/nobodytest"
)

// told requires what a person reads.
func told(t *testing.T, err error, kind fault.Kind, words string) {
	t.Helper()
	if err == nil || !fault.Is(err, kind) || !strings.Contains(fault.As(err).Public(), words) {
		t.Errorf("got %v (%v), want %v: %s", err, fault.KindOf(err), kind, words)
	}
}

// TestCommand_WhoMayNot: the commands of root are root's, and the network part is
// started by its user or by root, who becomes it.
func TestCommand_WhoMayNot(t *testing.T) {
	told(t, nobodytest.Do(func() error {
		c := Command("v")
		c.SetArgs([]string{"doctor"})
		c.SilenceErrors = true
		return c.ExecuteContext(t.Context())
	}), fault.Forbidden, "this command must run as root")
	told(t, nobodytest.Do(func() error { return ownUser(12345) }), fault.Forbidden, "Start it as that user, or as root")
	told(t, confine(0, 0), fault.Precondition, "the network part cannot be confined on this machine: the network part's user must not be root")
}

func TestCommand_Files(t *testing.T) {
	_, err := readToken(nil, filepath.Join(t.TempDir(), "none"))
	told(t, err, fault.Invalid, "the token file cannot be read")
	told(t, systemctl(t.Context(), "is-enabled", "--quiet", "sallyport-no-such.service"), fault.Unavailable, "systemctl is-enabled --quiet sallyport-no-such.service")
	h := newLeavingHost(t)
	if err := os.WriteFile(h.root+pin.MachinePath, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	told(t, joinable(h.root, false), fault.Conflict, "its files cannot be read")
}

// TestPoll_WhatDoesNotAnswer: a root part without manifest, and servers that are
// away or no server.
func TestPoll_WhatDoesNotAnswer(t *testing.T) {
	s, r := newServer(t), &rootPart{}
	a := newAgent(t, s, r)
	manifest := r.status.Manifest
	r.status.Manifest = nil
	told(t, a.poll(t.Context()), fault.Unavailable, "the root part holds no manifest")
	r.status.Manifest = manifest
	s.poll = func(protocol.PollRequest) (protocol.PollAnswer, int) {
		return protocol.PollAnswer{}, http.StatusNoContent
	}
	told(t, a.poll(t.Context()), fault.Unavailable, "the server's answer cannot be read")
	told(t, a.fetch(t.Context(), control.Fetch{Path: "deb/pool/none.deb"}), fault.NotFound, "the server has nothing at /repository/deb/pool/none.deb")
	if len(r.delivered) != 1 || r.delivered[0] != control.OpMissing {
		t.Errorf("the root part was told %v", r.delivered)
	}
	s.Close()
	told(t, a.poll(t.Context()), fault.Unavailable, "the server cannot be reached")
}

// TestJoin_ServerWithoutTime: a host compares its clock before it joins.
func TestJoin_ServerWithoutTime(t *testing.T) {
	s := newServer(t)
	timeless := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		s.serve(w, r)
	}))
	timeless.StartTLS()
	t.Cleanup(timeless.Close)
	s.manifest.URL, s.manifest.TLSRoots = timeless.URL, [][]byte{timeless.Certificate().Raw}
	c := joinConfig(t, s)
	token := s.token()
	token.URL = timeless.URL
	c.Token, c.Now = token.String(), time.Now
	c.Check = func(context.Context, preflight.Question) error { t.Error("it was checked against no time"); return nil }
	_, err := Join(t.Context(), c)
	told(t, err, fault.Unavailable, "the server does not say what time it is")
	if len(s.joins) > 0 || pin.Joined(c.Root) {
		t.Error("it joined")
	}
}

// TestDoctor_SaysWhatIsMissing: a machine that has joined, whose root part does not run.
func TestDoctor_SaysWhatIsMissing(t *testing.T) {
	h := newLeavingHost(t)
	var out bytes.Buffer
	told(t, examine(t.Context(), h.root, &out), fault.Precondition, "checks failed")
	if !strings.Contains(out.String(), "ok    this machine has joined") || !strings.Contains(out.String(), "it is not there. Start the root part: sally agent root") {
		t.Errorf("%s", out.String())
	}
	for words, st := range map[string]control.Status{
		"none has come yet. Look at the log of: sally agent run":                         {},
		"it is 1h0m0s old. Is the server reachable? Look at the log of: sally agent run": {Version: 1, AgeSeconds: 3600},
	} {
		list := judge(t.Context(), &st, protocol.Manifest{})
		if list[0].err == nil || fault.As(list[0].err).Public() != words {
			t.Errorf("%+v, want %s", list[0], words)
		}
	}
}

// TestEndParts_WhatDoesNotEnd: whoever disconnects is told that parts of the agent
// are still there when its patience ends.
func TestEndParts_WhatDoesNotEnd(t *testing.T) {
	const pid = "4194304" // the kernel gives it to nobody: pid_max is the most
	table := proc.Table{Dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(table.Dir, pid), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"stat", "status"} {
		b, err := os.ReadFile("/proc/self/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(table.Dir, pid, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(table.Dir, pid, "cmdline"), []byte("sally\x00agent\x00run\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	told(t, endParts(ctx, table, uint32(os.Geteuid()), t.Logf), fault.Unavailable, "1 processes of the agent do not end. Stop whatever starts them.")
}

// TestStopped_NotWhileTheAgentRuns: what is taken out would be put in again.
func TestStopped_NotWhileTheAgentRuns(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	if err := stopped(t.Context(), socket); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- control.Serve(ctx, l, control.ServerConfig{Handler: statusPart{}}) }()
	defer func() { cancel(); <-served }()
	handbooktest.Said(t, fault.As(stopped(t.Context(), socket)).Public(), "AgentRuns")
}
