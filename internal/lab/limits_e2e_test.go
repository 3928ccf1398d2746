//go:build e2e

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"sallyport/internal/labwire"
)

// TestMachine_LimitsHold: a machine under each back end starts no more processes
// and takes no more memory than the lab says, its root cannot say otherwise, and
// it works on afterwards.
func TestMachine_LimitsHold(t *testing.T) {
	b := newBench(t, "--machine-tasks", "300", "--machine-memory", "256")
	for id, backend := range map[string]labwire.Backend{machineA: labwire.BackendNetns, machineB: labwire.BackendNspawn} {
		b.backend = backend
		m := b.machine(id, "limits-"+string(backend))
		client := b.login(m)
		// The last word is the shell's own: nothing else would start.
		if out, _ := b.run(client, "(for i in $(seq 400); do sleep 1000 & done; echo more); kill -9 0"); strings.Contains(out, "more") {
			t.Errorf("%s: 400 processes began: %.300s", backend, out)
		}
		if out, code := b.run(client, "head -c 1000M /dev/zero | tail >/dev/null"); code == 0 {
			t.Errorf("%s: 1000 MiB were had: %s", backend, out)
		}
		if out, code := b.run(client, "echo works; find /sys/fs/cgroup -name pids.max -writable -o -name memory.max -writable 2>/dev/null"); code != 0 || out != "works\n" {
			t.Errorf("%s: %d %q", backend, code, out)
		}
		if err := b.client.Delete(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	b.stop()
	g, err := openGroups(b.state)
	if err != nil || len(g.limits) != controllers {
		t.Fatalf("%v %v", err, g)
	}
	for _, root := range g.roots() {
		if _, err := root.Stat(g.name); err == nil {
			t.Errorf("a group %s is left in %s", g.name, root.Name())
		}
	}
}

// TestLab_LimitsThatNothingFitsIn are refused at once.
func TestLab_LimitsThatNothingFitsIn(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	for _, words := range [][]string{{"--machine-tasks", "10"}, {"--machine-memory", "1"}, {"--machine-tasks", "-5"}} {
		args := append([]string{"lab", "serve", "--socket", dir + "/s", "--owner", fmt.Sprint(testOwner), "--state", dir + "/state", "--rootfs", os.TempDir()}, words...)
		if out, err := exec.Command("/proc/self/exe", args...).CombinedOutput(); err == nil {
			t.Errorf("%v: %s", words, out)
		}
	}
}
