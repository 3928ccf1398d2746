//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The people of the matrix. All but ours are there before Sallyport comes, as on
// a machine in production; x@other.example is of another directory, whose names
// look like ours (libnss-extrausers stands for it).
const (
	rootByKey   = "root"
	localByKey  = "keyed"
	localByWord = "worded"
	foreignName = "x@other.example"
	aWord       = "Slate-Orchard-57-Tunnel" // the password of those who have one
)

// matrixVM is one machine of the matrix with all that its cells need.
type matrixVM struct {
	*box
	ours  *person
	uid   string // ours
	askpw string // prints the password, for ssh
	dir   string // traces and logs

	privileges string // what keepPrivileges made
}

// settle makes the local people, then Sallyport comes, then ours log in once.
func settle(t *testing.T, system string) *matrixVM {
	t.Helper()
	m := &matrixVM{box: matrixBare(t, system).enter(t), ours: newUser(t, "matrix-"+system), dir: t.TempDir()}
	pub, err := os.ReadFile(m.key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	m.sh(t, fmt.Sprintf(`
		useradd --create-home --uid 2001 --shell /bin/bash %[1]s
		useradd --create-home --uid 2002 --shell /bin/bash %[2]s
		echo '%[2]s:%[4]s' | chpasswd
		rm /etc/ssh/sshd_config.d/50-lab.conf # this machine takes passwords, as Debian's does
		systemctl reload ssh
		mkdir -p /var/lib/extrausers
		echo '%[3]s:x:3001:3001::/home/%[3]s:/bin/bash' >/var/lib/extrausers/passwd
		echo 'other:x:3001:' >/var/lib/extrausers/group
		echo "%[3]s:$(getent shadow %[2]s | cut -d: -f2):19000:0:99999:7:::" >/var/lib/extrausers/shadow
		chmod 640 /var/lib/extrausers/shadow
		sed -i -E 's/^(passwd|group|shadow):( *)files/&  extrausers/' /etc/nsswitch.conf
		mkdir -m 755 '/home/%[3]s' && cp -r /etc/skel/. '/home/%[3]s'
		for home in /root /home/%[1]s '/home/%[3]s'; do
			mkdir -p -m 700 "$home/.ssh"
			echo '%[5]s' >"$home/.ssh/authorized_keys"
		done
		chown -R 2001:2001 /home/%[1]s/.ssh
		chown -R 3001:3001 '/home/%[3]s'
		printf '#2001 ALL=(ALL:ALL) NOPASSWD: ALL\n#2002 ALL=(ALL:ALL) ALL\n#3001 ALL=(ALL:ALL) ALL\nDefaults lecture=never\n' >/etc/sudoers.d/people
		chmod 440 /etc/sudoers.d/people
		mkdir -p -m 755 /usr/local/matrix
	`, localByKey, localByWord, foreignName, aWord, strings.TrimSpace(string(pub))))
	m.privileges = keepPrivileges(t)
	m.askpw = filepath.Join(m.dir, "askpass")
	if err := os.WriteFile(m.askpw, []byte("#!/bin/sh\necho "+aWord+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	m.admin.must(t, "vm", "extension", "set", "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux", "--resource-group", group, "--vm-name", m.name)
	grant(t, roleAdmin, m.ours.name, m.id)
	allowedSoon(t, m.ours, m.vm)
	m.uid = m.sh(t, "id -u "+m.ours.name)
	m.crontabs(t)
	m.sh(t, "if [ -d /run/systemd/system ]; then systemctl stop cron; fi") // the cells start it themselves
	return m
}

// matrixBare makes the machine, with a systemd of its own; the extension comes
// later.
func matrixBare(t *testing.T, system string) *vm {
	t.Helper()
	return bareMachineOn(t, "matrix-"+system, platform{system, nspawn})
}

// crontabs gives everybody a job that runs when cron starts.
func (m *matrixVM) crontabs(t *testing.T) {
	t.Helper()
	var script strings.Builder
	script.WriteString("mkdir -p -m 1730 /var/spool/cron/crontabs\nchgrp crontab /var/spool/cron/crontabs\n")
	for _, name := range []string{rootByKey, localByKey, localByWord, foreignName, m.ours.name} {
		fmt.Fprintf(&script, "f='/var/spool/cron/crontabs/%[1]s'; echo '@reboot : cell=%[1]s/cron; date +cell=%%N >/run/matrix/%[1]s' | sed 's/%%/\\\\%%/' >\"$f\"; chown \"$(id -u '%[1]s'):crontab\" \"$f\"; chmod 600 \"$f\"\n", name)
	}
	m.sh(t, script.String())
}

// way runs one cell: person name comes in by way. It returns what the person saw.
type way func(m *matrixVM, state, name string) seen

// saw is what a cell's command prints when somebody is in. It is computed there,
// so that an echo of what was typed is not taken for it.
const saw = "in=42"

const proof = "echo in=$((6*7))"

// sshWay is the person's own way: a key, a password, or sally ssh.
func sshWay(m *matrixVM, _, name string) seen {
	r := m.bySSH(name)
	return seen{r, time.Now()}
}

func (m *matrixVM) bySSH(name string) result {
	marked := fmt.Sprintf(": cell=%s/ssh; %s", name, proof)
	if name == m.ours.name {
		return m.ours.sshIP(m.vm, marked)
	}
	if name != localByWord {
		return m.ssh(name, []string{"-i", m.key}, marked)
	}
	cmd := exec.Command("ssh", "-F", "none", "-p", m.port, "-l", name, "-o", quickKex, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10",
		"-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1", m.host, marked)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + m.dir, "SSH_ASKPASS=" + m.askpw, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none"}
	return capture(cmd)
}

// local runs a program of the machine under strace, answering its first prompt
// for a password.
func (m *matrixVM) local(state, name, way string, command ...string) seen {
	return converse(m.strace(m.traceFile(state, name, way), m.argv(command...)...))
}

func (m *matrixVM) traceFile(state, name, way string) string {
	return filepath.Join(m.dir, strings.ReplaceAll(fmt.Sprintf("%s-%s-%s.strace", state, name, way), " ", "_"))
}

// as is the numeric identity of a person, without a look-up.
func (m *matrixVM) as(name string) []string {
	uid := map[string]string{rootByKey: "0", localByKey: "2001", localByWord: "2002", foreignName: "3001", m.ours.name: m.uid}[name]
	return []string{"setpriv", "--reuid", uid, "--regid", uid, "--clear-groups"}
}

// sudoWay: the person becomes root from a process of their own.
func sudoWay(m *matrixVM, state, name string) seen {
	return m.local(state, name, "sudo", append(m.as(name), "sudo", "-S", "-p", "Password: ", "/bin/sh", "-c", proof)...)
}

// suWay: somebody becomes the person. Whoever has a password is asked for it by
// a local user's su; the others are become by root's.
func suWay(m *matrixVM, state, name string) seen {
	caller := rootByKey
	if name == localByWord || name == foreignName {
		caller = localByKey
	}
	return m.local(state, name, "su", append(m.as(caller), "su", name, "-c", proof)...)
}

// loginWay: the person logs in on a terminal. Who has no password is logged in
// as a getty with --autologin does it.
func loginWay(m *matrixVM, state, name string) seen {
	login := "login -f '" + name + "'"
	if name == localByWord || name == foreignName {
		login = "login '" + name + "'"
	}
	return m.local(state, name, "login", "script", "-qec", "exec "+login, "/dev/null")
}
