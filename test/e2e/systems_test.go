//go:build e2e

package e2e

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// The systems that machines can be, and what runs them.
const (
	debian11 = "debian11"
	debian12 = "debian12"
	debian13 = "debian13"

	netns  = "netns"
	nspawn = "nspawn"
)

// suites are the systems' names at Debian.
var suites = map[string]string{debian11: "bullseye", debian12: "bookworm", debian13: "trixie"}

// platform is what a machine is and what runs it; Debian 12 under netns where
// nothing is said.
type platform struct{ system, backend string }

func (p platform) image() string {
	if p.system == "" {
		return "UbuntuLTS"
	}
	return "Debian" + strings.TrimPrefix(p.system, "debian")
}

func (p platform) size() string { return "Sallyport_" + cmp.Or(p.backend, netns) }

// eachSystem runs a test on every system, side by side, and returns when all
// have ended. Machines and people of the subtests need names of their own: the
// system's name is a part of a name that is allowed in both.
func eachSystem(t *testing.T, test func(t *testing.T, system string)) {
	t.Run("systems", func(t *testing.T) {
		for _, system := range []string{debian11, debian12, debian13} {
			t.Run(system, func(t *testing.T) {
				t.Parallel()
				test(t, system)
			})
		}
	})
}

// eachPlatform is eachSystem for both back ends of each.
func eachPlatform(t *testing.T, test func(t *testing.T, on platform)) {
	t.Run("platforms", func(t *testing.T) {
		for _, system := range []string{debian11, debian12, debian13} {
			for _, backend := range []string{netns, nspawn} {
				t.Run(system+"-"+backend, func(t *testing.T) {
					t.Parallel()
					test(t, platform{system, backend})
				})
			}
		}
	})
}

// rootFilesystems prepares what machines of every system stand on, and returns
// the lab's words for them.
func rootFilesystems(cache string) ([]string, error) {
	var all sync.WaitGroup
	var mu sync.Mutex
	var args []string
	var failed error
	for system, suite := range suites {
		all.Go(func() {
			rootfs, err := output("../../packaging/rootfs/prepare.sh", cache, suite)
			layer := ""
			if err == nil {
				layer, err = output("../../packaging/rootfs/layer.sh", rootfs, "../../shim/out", cache)
			}
			mu.Lock()
			defer mu.Unlock()
			args = append(args, "--rootfs", system+"="+layer+":"+rootfs)
			if err != nil {
				failed = fmt.Errorf("prepare %s: %w", system, err)
			}
		})
	}
	all.Wait()
	return args, failed
}

// administratorKey makes azureuser's key, once.
func (w *world) administratorKey(key string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := os.Stat(key); err == nil {
		return nil
	}
	out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ssh-keygen: %w: %s", err, out)
	}
	return nil
}

// TestSystems_AreWhatTheyAreCalled: a machine of each image is that Debian with
// its OpenSSH, a login with sudo works and one without a role reads why.
func TestSystems_AreWhatTheyAreCalled(t *testing.T) {
	openssh := map[string]string{debian11: "OpenSSH_8.4", debian12: "OpenSSH_9.2", debian13: "OpenSSH_10.0"}
	eachSystem(t, func(t *testing.T, system string) {
		m := machineOn(t, "net-"+system, platform{system, netns})
		version := m.mustRoot(t, `. /etc/os-release; echo "debian$VERSION_ID"; ssh -V 2>&1`)
		says(t, version, system, openssh[system])
		p := newUser(t, "net-"+system)
		refusedSoon(t, func() result { return p.sshIP(m, "true") }, "Azure role not assigned")
		grant(t, roleAdmin, p.name, m.id)
		allowedSoon(t, p, m)
		if err := until(limitGrant, func() error { return wants(p.sshIP(m, "sudo", "-n", "whoami"), "root") }); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSystems_UnknownImageAndSize are refused with what there is.
func TestSystems_UnknownImageAndSize(t *testing.T) {
	a := admin(t)
	a.fails(t, []string{"Debian10", "Debian11", "Debian12", "Debian13", "UbuntuLTS"}, "vm", "create", "-g", group, "-n", "nosuch", "--image", "Debian10", "--admin-username", "azureuser", "--generate-ssh-keys")
	a.fails(t, []string{"VMImage was not found", "sally vm image list"}, "vm", "create", "-g", group, "-n", "nosuch", "--image", "Debian:debian-10:10:latest", "--admin-username", "azureuser", "--generate-ssh-keys")
	a.fails(t, []string{"Sallyport_qemu", "Sallyport_netns", "Sallyport_nspawn"}, "vm", "create", "-g", group, "-n", "nosuch", "--image", "Debian12", "--size", "Sallyport_qemu", "--admin-username", "azureuser", "--generate-ssh-keys")
}

// forgiving lets a machine's sshd forget who was refused: that of Debian 13 shuts
// out an address which was refused as often as a test asks.
func (m *vm) forgiving(t *testing.T) {
	t.Helper()
	for _, script := range []string{
		`f=/etc/ssh/sshd_config.d/00-penalties.conf; echo "PerSourcePenalties no" >$f; if sshd -t 2>/dev/null; then kill -HUP "$(pgrep -o -x sshd)"; else rm $f; fi`,
		"true", // who is served again is served by an sshd that has read it
	} {
		if err := until(limitGrant, func() error { return m.root(t, script).failure() }); err != nil {
			t.Fatalf("as root on %s: %s: %v", m.name, script, err)
		}
	}
}
