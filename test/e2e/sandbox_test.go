//go:build e2e

package e2e

import (
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSandbox_OnAMachine: the agent that serves real logins is confined: the
// network part is no root, has no capability and no way to one, and runs behind
// a filter; the root part has the capabilities of its work.
func TestSandbox_OnAMachine(t *testing.T) {
	m := machine(t, "myVM")
	p := newUser(t, "sandbox")
	grant(t, roleUser, p.name, m.id)
	allowedSoon(t, p, m)
	status := func(part string) string {
		return m.mustRoot(t, `for p in $(pgrep -f "^/usr/bin/sally agent `+part+`$"); do cat /proc/$p/status; echo "Oom: $(cat /proc/$p/oom_score_adj)"; grep -E "Max (core|data)" /proc/$p/limits; done`)
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
	m.mustRoot(t, "test -z \"$(grep -h 'not permitted' /var/log/agent-run.log)\"")
}
