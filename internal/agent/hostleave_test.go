package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/upgrade"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
)

// host is a folder with everything that a machine has of ours.
type leavingHost struct {
	root string
	done []string
	told error
}

func newLeavingHost(t *testing.T) *leavingHost {
	t.Helper()
	h := &leavingHost{root: t.TempDir()}
	m := pin.Machine{URL: "https://server.example", ManifestPin: "pin", Tenant: "0aaaaaaa-0000-4000-8000-000000000001", MachineID: "0aaaaaaa-0000-4000-8000-000000000002", ResourceID: "/x", KeyThumbprint: "key"}
	if err := m.Save(h.root); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pin.ManifestPath, pin.KeyPath, "/var/lib/sallyport/nss.db", "/var/lib/sallyport/root/held.json", "/var/lib/sallyport/root/events.jsonl", "/var/lib/sallyport/root/names.json", "/run/sallyport/pam.sock"} {
		full := filepath.Join(h.root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *leavingHost) leaver(step func(string) error) Leaver {
	note := func(what string) func(context.Context) error {
		return func(context.Context) error { h.done = append(h.done, what); return nil }
	}
	return Leaver{Root: h.root, Owner: uint32(os.Geteuid()), Step: step, Log: func(string, ...any) {}, //nolint:gosec // a uid
		Tell: func(context.Context) error { h.done = append(h.done, "tell"); return h.told },
		Stop: note("stop"), End: note("end"), Unwire: note("unwire"), Hush: note("hush")}
}

// left lists the files that are there.
func (h *leavingHost) left() (list []string) {
	_ = filepath.WalkDir(h.root, func(path string, d os.DirEntry, _ error) error {
		if !d.IsDir() {
			list = append(list, strings.TrimPrefix(path, h.root))
		}
		return nil
	})
	return list
}

// A disconnect that is killed at any step is finished by the next try; what is left
// is who owns which name, and nothing else.
func TestLeave_KilledAtEachStep(t *testing.T) {
	steps := []string{"tell the server", "stop the agent", "end sessions", "put the configuration back", "take the identity service's address off", "remove files", "unmark"}
	for _, at := range append(steps, "none") {
		t.Run(at, func(t *testing.T) {
			h := newLeavingHost(t)
			killed := errors.New("killed")
			_, err := h.leaver(func(s string) error {
				if s == at {
					return killed
				}
				return nil
			}).Run(t.Context(), false)
			if at != "none" {
				if !errors.Is(err, killed) {
					t.Fatal(err)
				}
				if at != "tell the server" {
					if err := joinable(h.root, false); fault.As(err).Code != "DisconnectUnfinished" {
						t.Errorf("a host that is half disconnected joins: %v", err)
					} else {
						handbooktest.Said(t, fault.As(err).Public(), "DisconnectUnfinished")
					}
				}
				m, err := h.leaver(nil).Run(t.Context(), false)
				if err != nil || m.ResourceID != "/x" {
					t.Fatalf("the next try: %+v %v", m, err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if got := h.left(); !slices.Equal(got, []string{"/var/lib/sallyport/root/names.json"}) {
				t.Errorf("left: %v", got)
			}
			if n := strings.Count(strings.Join(h.done, " "), "tell"); n != 1 {
				t.Errorf("the server was told %d times: %v", n, h.done)
			}
			if err := joinable(h.root, false); err != nil {
				t.Errorf("it cannot join again: %v", err)
			}
			if _, err := h.leaver(nil).Run(t.Context(), false); fault.As(err).Code != "NotJoined" {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

// A server that cannot be told stops it before anything is changed, unless forced;
// one that knows no such machine does not.
func TestLeave_ServerAway(t *testing.T) {
	h := newLeavingHost(t)
	before := h.left()
	h.told = fault.New(fault.Unavailable, "ServerUnreachable", "the server cannot be reached")
	if _, err := h.leaver(nil).Run(t.Context(), false); fault.As(err).Code != "ServerNotTold" || !slices.Equal(h.left(), before) || !slices.Equal(h.done, []string{"tell"}) {
		t.Fatalf("%v %v", err, h.done)
	} else {
		handbooktest.Said(t, fault.As(err).Public(), "ServerNotTold", "SCOPE", "/x")
	}
	if _, err := h.leaver(nil).Run(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	h = newLeavingHost(t)
	h.told = fault.New(fault.Unauthenticated, "MachineUnknown", "no machine")
	if _, err := h.leaver(nil).Run(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	h = newLeavingHost(t)
	h.told = fault.New(fault.Unauthenticated, "ServerNotTrusted", "not ours")
	if _, err := h.leaver(nil).Run(t.Context(), false); fault.As(err).Code != "ServerNotTold" {
		t.Fatalf("somebody else's word counted: %v", err)
	}
}

// TestEndUpgrade: an upgrade that is under way ends with the machine that it was of:
// its supervisor would start the agent again, and an agent the supervisor.
func TestEndUpgrade(t *testing.T) {
	root := t.TempDir()
	var calls []string
	control := func(_ context.Context, argv ...string) error {
		calls = append(calls, strings.Join(argv, " "))
		return nil
	}
	if err := endUpgrade(t.Context(), root, control); err != nil || len(calls) != 0 {
		t.Fatalf("without an upgrade: %v %v", calls, err)
	}
	for _, path := range []string{upgrade.Folder + "/journal.json", upgrade.Folder + "/packages/x.deb", "/etc/systemd/system/" + upgrade.Unit, "/etc/systemd/system/multi-user.target.wants/" + upgrade.Unit, "/etc/systemd/system/other.service"} {
		full := filepath.Join(root, path)
		for _, err := range []error{os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, nil, 0o600)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	agent := "stop " + networkUnit + " " + rootUnit
	if err := endUpgrade(t.Context(), root, control); err != nil || !slices.Equal(calls, []string{agent, "stop " + upgrade.Unit, agent}) {
		t.Errorf("%q %v", calls, err)
	}
	if left := (&leavingHost{root: root}).left(); !slices.Equal(left, []string{"/etc/systemd/system/other.service"}) {
		t.Errorf("left: %v", left)
	}
}

// TestStopUnits_AsksAgain: a stop whose place a start took is no reason to give up,
// and one that never succeeds says why.
func TestStopUnits_AsksAgain(t *testing.T) {
	calls := 0
	canceled := errors.New("job canceled")
	if err := stopUnits(t.Context(), func(context.Context, ...string) error {
		if calls++; calls < 3 {
			return canceled
		}
		return nil
	}, rootUnit); err != nil || calls != 3 {
		t.Errorf("%d calls: %v", calls, err)
	}
	if err := stopUnits(t.Context(), func(context.Context, ...string) error { return canceled }, rootUnit); !errors.Is(err, canceled) {
		t.Error(err)
	}
}

// TestAtRest_EndsAnUpgrade: what is taken out would be put in again by an agent that
// the supervisor starts.
func TestAtRest_EndsAnUpgrade(t *testing.T) {
	root := t.TempDir()
	unit := filepath.Join(root, "/etc/systemd/system", upgrade.Unit)
	for _, dir := range []string{"/run/systemd/system", "/etc/systemd/system", upgrade.Folder} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(unit, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var calls []string
	if err := atRest(t.Context(), root, func(_ context.Context, argv ...string) error {
		calls = append(calls, strings.Join(argv, " "))
		return nil
	}); err != nil || !slices.Contains(calls, "stop "+upgrade.Unit) {
		t.Errorf("%q %v", calls, err)
	}
	for _, path := range []string{unit, root + upgrade.Folder} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
}

func TestJoinable(t *testing.T) {
	h := newLeavingHost(t)
	if os.Geteuid() == 0 {
		handbooktest.Said(t, fault.As(joinable(h.root, false)).Public(), "AlreadyJoined", "SCOPE", "/x", "ADDRESS", "https://server.example")
	}
	if err := joinable(h.root, true); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := joinable(t.TempDir(), false); err != nil {
		t.Error(err)
	}
	server := t.TempDir()
	if err := os.MkdirAll(filepath.Join(server, deploymentPath), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, again := range []bool{false, true} {
		err := joinable(server, again)
		if fault.As(err).Code != "ComputerIsServer" {
			t.Fatalf("a server's computer joined: %v", err)
		}
		handbooktest.Said(t, fault.As(err).Public(), "ComputerIsServer")
	}
}

// statusPart answers with a status, as the agent's root part does.
type statusPart struct{ status control.Status }

func (p statusPart) Control(context.Context, bool, control.Request) (control.Answer, error) {
	return control.Answer{Status: &p.status}, nil
}

// A host that has joined, and where nobody can log in yet: its agent hears nothing,
// does not say what becomes of sign-in, says that it cannot be, or is not there.
func TestBegin_SaysWhatBecameOfIt(t *testing.T) {
	for name, c := range map[string]struct {
		status   *control.Status // nil: nobody answers
		sentence string
	}{
		"no root part":            {nil, "AgentSilent.server"},
		"no snapshot":             {&control.Status{}, "AgentSilent.server"},
		"sign-in hangs":           {&control.Status{Version: 1}, "AgentSilent"},
		"sign-in is not possible": {&control.Status{Version: 1, Provisioned: "Failed", ExitCode: 23, Message: "the machine has a local user or group named x."}, "SignInFailed"},
		"sign-in is on":           {&control.Status{Version: 1, Extension: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Geteuid() != 0 {
				return // the client believes root alone
			}
			b := beginning{root: t.TempDir(), socket: filepath.Join(t.TempDir(), "s"), systemctl: func(context.Context, ...string) error { return nil }, snapshot: 300 * time.Millisecond, wiring: 300 * time.Millisecond}
			if c.status != nil && c.status.Version > 0 {
				b.snapshot = 30 * time.Second // it is there: nothing waits so long
			}
			if c.sentence != "AgentSilent" {
				b.wiring = 30 * time.Second
			}
			for _, dir := range []string{"/run/systemd/system", filepath.Dir(unitsPath)} {
				if err := os.MkdirAll(filepath.Join(b.root, dir), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if c.status != nil {
				l, err := net.ListenUnix("unix", &net.UnixAddr{Name: b.socket})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				served := make(chan error, 1)
				go func() { served <- control.Serve(ctx, l, control.ServerConfig{Handler: statusPart{*c.status}}) }()
				defer func() { cancel(); <-served }()
			}
			err := Host{Out: io.Discard}.begin(t.Context(), HostJoin{EnableLogin: true}, b)
			if c.sentence == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			handbooktest.Said(t, fault.As(err).Public(), c.sentence)
		})
	}
	host := t.TempDir() // without the package
	if err := errors.Join(os.Mkdir(filepath.Join(host, "etc"), 0o755), os.WriteFile(filepath.Join(host, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err := installed(host)
	handbooktest.Said(t, fault.As(err).Public(), "AgentNotInstalled")
}

// Only what joining enabled is disabled again.
func TestUnits_OnlyOursAreDisabled(t *testing.T) {
	for name, enabled := range map[string][]string{"none": nil, "one": {rootUnit}, "both": {rootUnit, networkUnit}} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "/var/lib/sallyport"), 0o755); err != nil {
			t.Fatal(err)
		}
		on := map[string]bool{}
		for _, u := range enabled {
			on[u] = true
		}
		control := func(_ context.Context, argv ...string) error {
			switch argv[0] {
			case "is-enabled":
				if !on[argv[2]] {
					return errors.New("disabled")
				}
			default:
				for _, u := range argv[1:] {
					on[u] = argv[0] == "enable"
				}
			}
			return nil
		}
		if err := enableUnits(t.Context(), root, control); err != nil || !on[rootUnit] || !on[networkUnit] {
			t.Fatalf("%s: %v %v", name, on, err)
		}
		if err := disableUnits(t.Context(), root, control); err != nil || on[rootUnit] != slices.Contains(enabled, rootUnit) || on[networkUnit] != slices.Contains(enabled, networkUnit) {
			t.Errorf("%s: %v %v", name, on, err)
		}
	}
}

func TestOfAgent(t *testing.T) {
	for title, want := range map[string]bool{"/usr/bin/sally agent root": true, "sally agent run": true, "sally agent status": false, "vi sally agent root": false, "sally machine disconnect": false, "": false} {
		if ofAgent(proc.Process{Title: title}, 990) != want {
			t.Errorf("%q", title)
		}
	}
	title := "sally agent run"
	if !ofAgent(proc.Process{Title: title, UIDs: [4]uint32{990, 990, 990, 990}}, 990) || ofAgent(proc.Process{Title: title, UIDs: [4]uint32{1000, 1000, 1000, 1000}}, 990) {
		t.Error("somebody who calls himself the agent keeps the host from leaving")
	}
	dir := t.TempDir()
	for pid, space := range map[string]string{"self": "pid:[1]", "7": "pid:[1]", "8": "pid:[2]"} {
		if err := os.MkdirAll(filepath.Join(dir, pid, "ns"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(space, filepath.Join(dir, pid, "ns/pid")); err != nil {
			t.Fatal(err)
		}
	}
	if elsewhere(dir, 7) || !elsewhere(dir, 8) || elsewhere(dir, 9) {
		t.Error("the agent of a container is ended, or ours is not")
	}
}
