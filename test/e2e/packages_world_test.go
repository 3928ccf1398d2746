//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The versions of the packages that the server of these tests hands out: one
// build under two names, so that an upgrade is one.
const (
	olderPackages = "0.0.9"
	newerPackages = "0.1.0"
)

// packagesWorld is a server that hands out packages, and a lab whose machines
// have nothing of Sallyport but what they install from it.
func packagesWorld(t *testing.T) *world {
	t.Helper()
	w, err := newWorldWith(func(w *world) error {
		folder := w.path("packages")
		if err := makePackages(w, folder); err != nil {
			return err
		}
		w.runExtra = []string{"--packages", folder}
		w.rootfs = w.bareFilesystems
		return nil
	})
	if w != nil {
		t.Cleanup(w.close)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func makePackages(w *world, folder string) error {
	build := w.path("build")
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	if _, err := output("../../packaging/packages.sh", "stage", build); err != nil {
		return fmt.Errorf("stage packages: %w", err)
	}
	for _, version := range []string{olderPackages, newerPackages} {
		if _, err := output("../../packaging/packages.sh", "pack", build, folder, version, "amd64"); err != nil {
			return fmt.Errorf("make packages: %w", err)
		}
	}
	return nil
}

// bareFilesystems are the prepared root filesystems under a layer that makes them
// computers which nobody has prepared for Sallyport: no system users, no program.
// root of this computer may log in, and the server's name leads to it as on a
// network that has it.
func (w *world) bareFilesystems(cache string) ([]string, error) {
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", w.path("root")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
	}
	script := `set -eu
rootfs=$(../../packaging/rootfs/prepare.sh "$1" "$2")
layer=$3
here=../../packaging/rootfs
units=$layer/etc/systemd/system
umask 022
mkdir -p "$units/multi-user.target.wants" "$units/sockets.target.wants" "$layer/etc/apt"
install -d -m 0700 "$layer/root" "$layer/root/.ssh"
install -m 0600 "$4.pub" "$layer/root/.ssh/authorized_keys"
for f in passwd group shadow gshadow; do
	cp -p "$rootfs/etc/$f" "$layer/etc/$f"
	sed -i '/^sallyport-/d' "$layer/etc/$f"
done
: >"$layer/etc/apt/sources.list"
: >"$layer/etc/sallyport-own-program"
install -m 0644 $here/sallyport-lab-hostkeys.service "$units/"
ln -s ../sallyport-lab-hostkeys.service "$units/multi-user.target.wants/"
printf '[Socket]\nListenStream=127.0.0.1:%s\n' "$5" >"$units/server.socket"
printf '[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd 10.77.0.1:443\n' >"$units/server.service"
ln -s ../server.socket "$units/sockets.target.wants/"
for unit in console-getty.service getty.target apt-daily.timer apt-daily-upgrade.timer systemd-networkd-wait-online.service; do ln -s /dev/null "$units/$unit"; done
echo "$layer:$rootfs"`
	var args []string
	for system, suite := range suites {
		layers, err := output("sh", "-c", script, "-", cache, suite, w.path("layer-"+system), w.path("root"), fmt.Sprint(w.port))
		if err != nil {
			return nil, fmt.Errorf("prepare %s: %w", system, err)
		}
		args = append(args, "--rootfs", system+"="+layers)
	}
	return args, nil
}

// barely makes a machine whose agent comes later.
func (w *world) barely(t *testing.T, name, system string, more ...string) *vm {
	t.Helper()
	a := w.person(adminUPN, "")
	key := w.path("azureuser")
	if err := w.administratorKey(key); err != nil {
		t.Fatal(err)
	}
	on := platform{system, nspawn}
	a.must(t, append([]string{"vm", "create", "--no-wait", "--resource-group", group, "--name", name, "--image", on.image(), "--size", on.size(), "--assign-identity", "--admin-username", "azureuser", "--ssh-key-values", key + ".pub"}, more...)...)
	m := &vm{name: name, key: w.path("root"), admin: a}
	m.id = a.must(t, "vm", "show", "-g", group, "-n", name, "--query", "id", "-o", "tsv")
	m.machineID = a.must(t, "vm", "show", "-g", group, "-n", name, "--query", "vmId", "-o", "tsv")
	if err := until(4*limitGrant, func() error {
		m.host = a.must(t, "vm", "show", "-d", "-g", group, "-n", name, "--query", "publicIps", "-o", "tsv")
		m.port = a.must(t, "machine", "show", "-g", group, "-n", name, "--query", "properties.sshPort", "-o", "tsv")
		if m.host == "" || m.port == "" || m.port == "0" {
			return fmt.Errorf("no address yet")
		}
		r := m.super("true")
		if r.code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return m
}

// super runs a script as root of the machine, who was there before Sallyport.
func (m *vm) super(script string) result {
	return m.ssh("root", []string{"-i", m.key}, "sh", "-c", "'"+strings.ReplaceAll(script, "'", `'\''`)+"'")
}

// must is super for a script that has to succeed.
func (m *vm) mustSuper(t *testing.T, script string) string {
	t.Helper()
	r := m.super(script)
	if r.code != 0 {
		t.Fatalf("as root on %s: %s: %s", m.name, script, r)
	}
	return strings.TrimSpace(r.out)
}

// give writes a file on the machine.
func (m *vm) give(t *testing.T, path string, content io.Reader) {
	t.Helper()
	cmd := exec.Command("ssh", "-F", "none", "-p", m.port, "-l", "root", "-i", m.key, "-o", quickKex, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", m.host,
		"mkdir -p "+filepath.Dir(path)+" && cat >"+path)
	cmd.Stdin = content
	if r := capture(cmd); r.code != 0 {
		t.Fatalf("write %s: %s", path, r)
	}
}
