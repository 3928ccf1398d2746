//go:build e2e

package e2e

import (
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// vm is one lab machine.
type vm struct {
	name, id, machineID, host string
	port                      string
	key                       string // azureuser's private key
	admin                     *person
}

// vms holds the machines of the world, by name; each is made under a lock of its
// own, so that tests which run side by side make theirs side by side.
var (
	vmsMu sync.Mutex
	vms   = map[string]*sharedVM{}
)

type sharedVM struct {
	mu sync.Mutex
	vm *vm
}

// machine returns a machine with the extension, made on first use: Debian 12
// under netns.
func machine(t *testing.T, name string) *vm {
	t.Helper()
	return machineOn(t, name, platform{})
}

// machineOn is machine on a platform. One name is one machine: give each platform
// names of its own.
func machineOn(t *testing.T, name string, on platform) *vm {
	t.Helper()
	vmsMu.Lock()
	s := vms[name]
	if s == nil {
		s = &sharedVM{}
		vms[name] = s
	}
	vmsMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.vm == nil {
		m := bareMachineOn(t, name, on)
		m.extend(t)
		if on.system == debian13 {
			m.forgiving(t)
		}
		s.vm = m
	}
	return s.vm
}

// extend installs the extension.
func (m *vm) extend(t *testing.T) {
	t.Helper()
	m.admin.must(t, "vm", "extension", "set", "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux", "--resource-group", group, "--vm-name", m.name)
}

// bareMachine makes a machine with an identity and an administrator account and
// without the extension: Debian 12 under netns.
func bareMachine(t *testing.T, name string) *vm {
	t.Helper()
	return admin(t).bareMachine(t, name)
}

// bareMachineOn is bareMachine on a platform.
func bareMachineOn(t *testing.T, name string, on platform) *vm {
	t.Helper()
	return admin(t).bareMachineOn(t, name, on)
}

func (a *person) bareMachine(t *testing.T, name string) *vm {
	t.Helper()
	return a.bareMachineOn(t, name, platform{})
}

func (a *person) bareMachineOn(t *testing.T, name string, on platform) *vm {
	t.Helper()
	key := a.w.path("azureuser")
	if err := a.w.administratorKey(key); err != nil {
		t.Fatal(err)
	}
	a.must(t, "vm", "create", "--resource-group", group, "--name", name, "--image", on.image(), "--size", on.size(), "--assign-identity", "--admin-username", "azureuser", "--ssh-key-values", key+".pub")
	m := &vm{name: name, key: key, admin: a}
	m.id = a.must(t, "vm", "show", "-g", group, "-n", name, "--query", "id", "-o", "tsv")
	m.machineID = a.must(t, "vm", "show", "-g", group, "-n", name, "--query", "vmId", "-o", "tsv")
	m.host = a.must(t, "vm", "show", "-d", "-g", group, "-n", name, "--query", "publicIps", "-o", "tsv")
	m.port = a.must(t, "machine", "show", "-g", group, "-n", name, "--query", "properties.sshPort", "-o", "tsv")
	return m
}

// quickKex is the key exchange of logins whose key exchange does not matter: the
// usual one takes most of a login's processor time. Clients and "sally ssh" have
// the usual one.
const quickKex = "KexAlgorithms=curve25519-sha256"

// ssh runs plain OpenSSH against the machine with extra options. It comes again
// where sshd hung up before a word: who is in its queue when it is told to read
// its configuration anew is lost. Nothing has run then.
func (m *vm) ssh(login string, options []string, command ...string) result {
	args := append([]string{"-F", "none", "-p", m.port, "-l", login, "-o", quickKex, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=10"}, options...)
	args = append(append(args, m.host), command...)
	var r result
	_ = until(limitEnd, func() error {
		if r = capture(exec.Command("ssh", args...)); r.code == 255 && strings.Contains(r.err, "kex_exchange_identification: ") {
			return r.failure()
		}
		return nil
	})
	return r
}

// root runs a script as root on the machine, through the local administrator.
func (m *vm) root(t *testing.T, script string) result {
	t.Helper()
	return m.ssh("azureuser", []string{"-i", m.key}, "sudo", "sh", "-c", "'"+strings.ReplaceAll(script, "'", `'\''`)+"'")
}

// mustRoot is root for a script that has to succeed.
func (m *vm) mustRoot(t *testing.T, script string) string {
	t.Helper()
	r := m.root(t, script)
	if r.code != 0 {
		t.Fatalf("as root on %s: %s: %s", m.name, script, r)
	}
	return strings.TrimSpace(r.out)
}
