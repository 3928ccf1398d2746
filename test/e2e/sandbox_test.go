//go:build e2e

package e2e

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSandbox_OnAMachine: the agent that serves real logins is confined, with
// systemd and without: the network part is no root, has no capability and no way
// to one, and runs behind a filter; the root part could get the capabilities of
// its work and no others.
func TestSandbox_OnAMachine(t *testing.T) {
	t.Run("no systemd", func(t *testing.T) {
		m := machine(t, "myVM")
		confinedParts(t, m, "sandbox")
		m.mustRoot(t, "test -z \"$(grep -h 'not permitted' /var/log/agent-run.log)\"")
	})
	eachSystem(t, func(t *testing.T, system string) {
		m := machineOn(t, "sd-"+system, platform{system, nspawn})
		confinedParts(t, m, "sandbox-"+system)
		log := m.mustRoot(t, "journalctl -b -o cat -u sallyport-agent -u sallyport-agent-root")
		if strings.Contains(log, "not permitted") || strings.Contains(log, "privileges are kept") {
			t.Errorf("something was refused that is needed:\n%s", log)
		}
		for _, unit := range []string{"sallyport-agent", "sallyport-agent-root"} {
			began := time.Now()
			if m.mustRoot(t, "systemctl stop "+unit+"; systemctl show -P Result "+unit+"; systemctl start "+unit); time.Since(began) > crowded(20*time.Second) {
				t.Errorf("%s took %s to stop and start", unit, time.Since(began))
			}
		}
		for unit, most := range map[string]float64{"sallyport-agent": 2.0, "sallyport-agent-root": 7.0} {
			out := m.mustRoot(t, "systemd-analyze security --no-pager "+unit+" | tail -n 1")
			_, level, _ := strings.Cut(out, ": ")
			if got, err := strconv.ParseFloat(strings.Fields(level + " x")[0], 64); err != nil || got > most {
				t.Errorf("%s: %s, at most %.1f", unit, out, most)
			}
			t.Log(out)
		}
		limits := m.mustRoot(t, "systemctl show -p MemoryMax -p TasksMax -p OOMScoreAdjust sallyport-agent-root; systemctl show -p MemoryMax -p TasksMax sallyport-agent")
		says(t, limits, "MemoryMax=1073741824", "TasksMax=512", "OOMScoreAdjust=-900", "MemoryMax=805306368", "TasksMax=64")
	})
}

func confinedParts(t *testing.T, m *vm, alias string) {
	t.Helper()
	p := newUser(t, alias)
	grant(t, roleUser, p.name, m.id)
	allowedSoon(t, p, m)
	status := func(part string) string {
		return m.mustRoot(t, `for p in $(pgrep -f "^/usr/bin/sally agent `+part+`$"); do cat /proc/$p/status; grep -E "Max (core|data)" /proc/$p/limits; done`)
	}
	run := status("run")
	says(t, run, "NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000000", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapInh:\t0000000000000000", "CapAmb:\t0000000000000000", "Max core file size        0")
	if strings.Contains(run, "Uid:\t0") || strings.Contains(run, "Max data size             unlimited") {
		t.Errorf("the network part:\n%s", run)
	}
	root := status("root")
	says(t, root, "Uid:\t0", "CapInh:\t0000000000000000", "Max core file size        0")
	for line := range strings.Lines(root) {
		mask, ok := strings.CutPrefix(line, "CapBnd:\t")
		if !ok {
			continue
		}
		bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []int{unix.CAP_SYS_ADMIN, unix.CAP_SYS_MODULE, unix.CAP_SYS_RAWIO, unix.CAP_SYS_TIME, unix.CAP_SYS_BOOT, unix.CAP_NET_RAW, unix.CAP_MKNOD, unix.CAP_SETFCAP, unix.CAP_BPF} {
			if bits&(1<<c) != 0 {
				t.Errorf("the root part could get capability %d", c)
			}
		}
	}
}
