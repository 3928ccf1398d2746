//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// host is a machine of a system that the tests of this file share, with a user
// and an administrator who may log in there.
type host struct {
	*vm
	user, administrator *person
	own, his            identity // their certificates
}

var (
	hostsMu sync.Mutex
	hosts   = map[string]*sync.Mutex{}
	made    = map[string]*host{}
)

func hostOf(t *testing.T, system string) *host {
	t.Helper()
	hostsMu.Lock()
	if hosts[system] == nil {
		hosts[system] = &sync.Mutex{}
	}
	mine := hosts[system]
	hostsMu.Unlock()
	mine.Lock()
	defer mine.Unlock()
	hostsMu.Lock()
	h := made[system]
	hostsMu.Unlock()
	if h != nil {
		return h
	}
	h = &host{vm: machineOn(t, "host-"+system, platform{system, netns}), user: newUser(t, "host-user-"+system), administrator: newUser(t, "host-admin-"+system)}
	grant(t, roleUser, h.user.name, h.id)
	grant(t, roleAdmin, h.administrator.name, h.id)
	h.own, h.his = certificate(t, h.user), certificate(t, h.administrator)
	// The machine hears of both before anybody logs in.
	if err := until(limitGrant, func() error {
		if r := h.root(t, "id -Gn "+h.administrator.name+"; id -Gn "+h.user.name); !strings.Contains(r.out, "sallyport-admins") || !strings.Contains(r.out, h.user.name) {
			return fmt.Errorf("%s", r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	hostsMu.Lock()
	made[system] = h
	hostsMu.Unlock()
	return h
}

const parallelLogins = 200

// TestHost_ParallelLogins: 200 people at the door at once, while the name service
// file is replaced all the time: everybody gets in, as himself, and the agent has
// as many open files afterwards as before. The systems take turns: the logins are
// to meet each other, not the other machines.
func TestHost_ParallelLogins(t *testing.T) {
	var turn sync.Mutex
	eachSystem(t, func(t *testing.T, system string) {
		m := hostOf(t, system)
		turn.Lock()
		defer turn.Unlock()
		m.openDoors(t)
		open := `for p in $(pgrep -f '[s]ally agent'); do ls /proc/$p/fd; done | wc -l`
		before := m.mustRoot(t, open)
		uid := m.mustRoot(t, "id -u "+m.user.name)
		m.mustRoot(t, "touch /run/replacing")
		replaced := make(chan string, 1)
		go func() {
			r := m.root(t, `n=0; while [ -e /run/replacing ]; do cp -p /var/lib/sallyport/nss.db /var/lib/sallyport/nss.db.test && mv -f /var/lib/sallyport/nss.db.test /var/lib/sallyport/nss.db && n=$((n+1)); sleep 0.02; done; echo $n`)
			replaced <- strings.TrimSpace(r.out)
		}()
		began := time.Now()
		r := m.manyLogins(t)
		took := time.Since(began)
		m.mustRoot(t, "rm /run/replacing")
		n, err := strconv.Atoi(<-replaced)
		if want := fmt.Sprintf("%d %s %s", parallelLogins, uid, m.user.name); strings.Join(strings.Fields(r.out), " ") != want {
			t.Errorf("want %s, got: %s", want, r)
		}
		if err != nil || n < 20 {
			t.Errorf("the file was replaced %d times, %v", n, err)
		}
		if err := until(limitGrant, func() error {
			// A connection to the server comes and goes; a leak would be one of each login.
			was, _ := strconv.Atoi(before)
			if is, err := strconv.Atoi(m.mustRoot(t, open)); err != nil || is > was+parallelLogins/10 {
				return fmt.Errorf("the agent has %d open files, before %s", is, before)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		t.Logf("%d logins in %s while the file was replaced %d times", parallelLogins, took.Round(time.Millisecond), n)
	})
}

// openDoors lets sshd have that many connections under way, also from one place.
func (h *host) openDoors(t *testing.T) {
	t.Helper()
	h.mustRoot(t, `f=/etc/ssh/sshd_config.d/00-many.conf; printf 'MaxStartups 500\nLoginGraceTime 300\n' > $f
echo 'PerSourcePenalties no' >> $f; sshd -t 2>/dev/null || sed -i /PerSource/d $f; sshd -t && kill -HUP "$(pgrep -o -x sshd)"`)
	if err := until(limitGrant, func() error { return wants(h.ssh(h.user.name, h.own.options(), "id -un"), h.user.name) }); err != nil {
		t.Fatal(err)
	}
}

// manyLogins starts parallelLogins clients at once, on the machine itself, and
// returns how many said what: a refused one the day's message of its system, too,
// and then the reason. A key exchange that costs little leaves the
// processors to the logins.
func (h *host) manyLogins(t *testing.T) result {
	t.Helper()
	script := "set -e; rm -rf /tmp/many; mkdir -m 0700 /tmp/many; cd /tmp/many; umask 077\n"
	for name, path := range map[string]string{"id": h.own.key, "cert.pub": h.own.cert} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		script += fmt.Sprintf("cat > %s <<'EOF'\n%sEOF\n", name, text)
	}
	script += fmt.Sprintf(`for i in $(seq %d); do
ssh -F none -l %s -i id -o CertificateFile=cert.pub -o KexAlgorithms=curve25519-sha256 -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes -o LogLevel=ERROR \
 -o ConnectTimeout=200 -o KexAlgorithms=curve25519-sha256 127.0.0.1 'echo $(id -u; id -un)' > out.$i 2>&1 </dev/null &
done; wait; cat out.* | sort | uniq -c | sort -rn | head -40; cd /; rm -rf /tmp/many
`, parallelLogins, h.user.name)
	cmd := exec.Command("ssh", "-F", "none", "-p", h.port, "-l", "azureuser", "-i", h.key, "-o", quickKex, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", h.host, "bash -s")
	cmd.Stdin = strings.NewReader(script)
	return captureFor(cmd, 5*time.Minute)
}

// TestHost_CVE_2024_9313_CVE_2026_45108_AnothersAccount: whoever has proved to be
// himself gets no other account of the same directory, by no door.
func TestHost_CVE_2024_9313_CVE_2026_45108_AnothersAccount(t *testing.T) {
	eachSystem(t, func(t *testing.T, system string) {
		m := hostOf(t, system)
		user, administrator, own, his := m.user, m.administrator, m.own, m.his
		if r := m.ssh(user.name, own.options(), "id -un"); wants(r, user.name) != nil {
			t.Fatalf("%s", r)
		}
		refused(t, m.ssh(administrator.name, own.options(), "true"), "Permission denied (publickey")
		refused(t, m.ssh(user.name, his.options(), "true"), "Permission denied (publickey")
		refused(t, m.ssh("azureuser", his.options(), "true"), "Permission denied (publickey")
		refused(t, m.ssh("root", his.options(), "true"), "Permission denied (publickey")
		// In a session of his own, with the other's password of the directory.
		var all sync.WaitGroup // a refused su takes its time
		for _, command := range []string{
			"su -c 'id -un' " + administrator.name, "su -l -c 'id -un' " + administrator.name,
			"sudo -S -u " + administrator.name + " id -un", "sudo -n -u " + administrator.name + " id -un", "sudo -n id -un", "sudo -n -u azureuser id -un",
		} {
			all.Go(func() {
				r := m.ssh(user.name, own.options(), "echo "+administrator.password+" | LC_ALL=C "+command)
				if r.code == 0 || strings.Contains(r.out, administrator.name) || strings.Contains(r.out, "root") {
					t.Errorf("%s: %s", command, r)
				}
			})
		}
		all.Wait()
		// A local user with the right password of the directory.
		if r := m.ssh("azureuser", []string{"-i", m.key}, "echo "+administrator.password+" | su -c 'id -un' "+administrator.name); r.code == 0 || strings.Contains(r.out, administrator.name) {
			t.Errorf("a local user with a password of the directory: %s", r)
		}
	})
}

// TestHost_CVE_2025_5689_FirstLoginsGroups: the very first login on a machine has
// no group but its own and ours, and a home of its own.
func TestHost_CVE_2025_5689_FirstLoginsGroups(t *testing.T) {
	eachSystem(t, func(t *testing.T, system string) {
		m, p := hostOf(t, system), newUser(t, "host-first-"+system)
		grant(t, roleUser, p.name, m.id)
		key := certificate(t, p)
		if err := until(limitGrant, func() error { return wants(m.root(t, "id -Gn "+p.name), p.name+" sallyport-users") }); err != nil {
			t.Fatal(err)
		}
		if r := m.root(t, "ls -d /home/"+p.name); r.code == 0 {
			t.Fatalf("it is not the first login: %s", r)
		}
		r := m.ssh(p.name, key.options(), "id -un; id -gn; id -Gn; stat -c '%U:%G:%a' .; pwd; cat /etc/shadow /root/.profile")
		want := fmt.Sprintf("%s\n%s\n%s sallyport-users\n%s:%s:700\n/home/%s\n", p.name, p.name, p.name, p.name, p.name, p.name)
		if r.out != want {
			t.Errorf("got %q, want %q; %s", r.out, want, r.err)
		}
		again := m.ssh(p.name, key.options(), "id -Gn")
		if wants(again, p.name+" sallyport-users") != nil {
			t.Errorf("the second login: %s", again)
		}
	})
}

// TestHost_CVE_2026_26148_SetuidCallers: programs that run as root for a user take
// nothing of ours from his environment: not the file, not the sockets, not the
// libraries.
func TestHost_CVE_2026_26148_SetuidCallers(t *testing.T) {
	eachSystem(t, func(t *testing.T, system string) {
		m := hostOf(t, system)
		p, administrator := m.user, m.administrator
		right := m.mustRoot(t, "getent passwd "+p.name)
		m.mustRoot(t, `install -d -m 0755 /opt/setuid && for f in getent id; do cp $(command -v $f) /opt/setuid/$f && chmod 4755 /opt/setuid/$f; done`)
		hostile := `d=/tmp/evil-$$; mkdir $d; for f in nss.db pam.sock principals.sock libnss_sallyport.so.2 pam_sallyport.so evil.so; do echo evil > $d/$f; done; cd $d
export SALLYPORT_NSS_PATH=$d/nss.db SALLYPORT_PAM_SOCKET=$d/pam.sock SALLYPORT_PRINCIPALS_SOCKET=$d/principals.sock SALLYPORT_TRUSTED_UID=$(id -u) SALLYPORT_TIMEOUT_MS=1
export LD_LIBRARY_PATH=$d LD_PRELOAD=$d/evil.so TMPDIR=$d HOME=$d XDG_RUNTIME_DIR=$d NSS_WRAPPER_PASSWD=$d/nss.db GETCONF_DIR=$d LOCALDOMAIN=evil HOSTALIASES=$d/nss.db
`
		for _, c := range []struct{ command, want string }{
			{"/opt/setuid/getent passwd " + p.name, right},
			{"/opt/setuid/id -Gn " + p.name, p.name + " sallyport-users"},
			{"/opt/setuid/id -Gn " + administrator.name, administrator.name + " sallyport-users sallyport-admins"},
			{"sudo -n -u " + p.name + " /usr/bin/id -un", p.name},
			{"sudo -n getent passwd " + p.name, right},
		} {
			r := m.ssh("azureuser", []string{"-i", m.key}, hostile+c.command+" 2>/dev/null")
			if got := strings.TrimSpace(r.out); got != c.want {
				t.Errorf("%s: got %q, want %q: %s", c.command, got, c.want, r)
			}
		}
		r := m.ssh("azureuser", []string{"-i", m.key}, hostile+"/opt/setuid/getent passwd absent@"+domain)
		if r.code != 2 {
			t.Errorf("somebody who does not exist: %s", r)
		}
	})
}

// TestHost_CVE_2026_31979_CVE_2025_54882_RootWritesWhereItOwns: links in all the
// folders where users can put them lead root nowhere, and after logins and sudo
// nothing of root's is new there.
func TestHost_CVE_2026_31979_CVE_2025_54882_RootWritesWhereItOwns(t *testing.T) {
	eachSystem(t, func(t *testing.T, system string) {
		m := hostOf(t, system)
		user, administrator, own, his := m.user, m.administrator, m.own, m.his
		uid := m.mustRoot(t, "id -u "+user.name)
		m.mustRoot(t, "mkdir -p /root/canary && for f in a b c; do echo safe > /root/canary/$f; done; chmod 0600 /root/canary/*")
		plant := fmt.Sprintf(`for d in /tmp /var/tmp /dev/shm; do ln -sfn /root/canary/a $d/krb5cc_%[1]s; ln -sfn /root/canary/a $d/sallyport; ln -sfn /root/canary $d/sallyport.d; ln -sfn /root/canary/a $d/nss.db.new; done
rm -rf ~/.ssh ~/.cache; ln -s /root/canary ~/.ssh; ln -s /root/canary ~/.cache; ln -sfn /root/canary/b ~/.bash_history; ln -sfn /root/canary/c ~/.authorized_keys.new; echo planted`, uid)
		if r := m.ssh(user.name, own.options(), plant); wants(r, "planted") != nil {
			t.Fatalf("%s", r)
		}
		mark := m.mustRoot(t, "date +%s; sleep 1")
		for range 2 {
			if r := m.ssh(user.name, own.options(), "id -un"); wants(r, user.name) != nil {
				t.Errorf("%s", r)
			}
			if err := until(limitGrant, func() error { return wants(m.ssh(administrator.name, his.options(), "sudo -n id -un"), "root") }); err != nil {
				t.Error(err)
			}
			refused(t, m.ssh(user.name, own.options(), "sudo -n id -un"))
		}
		if got := m.mustRoot(t, "cat /root/canary/*; ls /root/canary; stat -c '%a %U' /root/canary/*"); got != "safe\nsafe\nsafe\na\nb\nc\n600 root\n600 root\n600 root" {
			t.Errorf("root followed a link: %q", got)
		}
		// sudo's time stamps and PAM's home folders are root's work, not ours; they
		// are in none of these folders but a fresh home, which is its owner's.
		found := m.mustRoot(t, `find /tmp /var/tmp /dev/shm /home -xdev -mindepth 1 -user root -newermt "@`+strings.Fields(mark)[0]+`" 2>/dev/null`)
		if found != "" {
			t.Errorf("root wrote where users can write: %s", found)
		}
		// What others may read of our folders, nothing of it secret, and write: nothing.
		if r := m.ssh("azureuser", []string{"-i", m.key}, `(find /var/lib/sallyport /run/sallyport /etc/sallyport -type f -readable 2>/dev/null; find /var/lib/sallyport /run/sallyport /etc/sallyport \( -type f -o -type d \) -writable 2>/dev/null) | sort`); strings.Join(strings.Fields(r.out), " ") != "/etc/sallyport/machine.json /etc/sallyport/manifest.json /var/lib/sallyport/nss.db" {
			t.Errorf("a local user reads or writes %q", r.out)
		}
	})
}

// TestHost_CVE_2023_28436_GroupsOfEverySession: the processes of a command, of a
// terminal and of sftp have the ids and groups of the one list, none of root's.
func TestHost_CVE_2023_28436_GroupsOfEverySession(t *testing.T) {
	eachSystem(t, func(t *testing.T, system string) {
		m := hostOf(t, system)
		uid := m.mustRoot(t, "id -u "+m.user.name)
		want := fmt.Sprintf("Uid: %[1]s %[1]s %[1]s %[1]s Gid: %[1]s %[1]s %[1]s %[1]s Groups: %[1]s 2147483640", uid)
		status := "grep -E '^(Uid|Gid|Groups):' /proc/%s/status"
		for name, options := range map[string][]string{"command": nil, "terminal": {"-tt"}} {
			r := m.ssh(m.user.name, append(m.own.options(), options...), fmt.Sprintf(status, "self"))
			if got := strings.Join(strings.Fields(r.out), " "); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		args := append([]string{"-F", "none", "-q", "-P", m.port, "-o", "User=" + m.user.name, "-o", quickKex, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes"}, m.own.options()...)
		sftp := exec.Command("sftp", append(args, m.host)...)
		stdin, err := sftp.StdinPipe()
		if err == nil {
			err = sftp.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := until(limitGrant, func() error {
			r := m.root(t, fmt.Sprintf(status, `$(pgrep -n -f "[s]ftp-server" -u `+uid+`)`))
			if got := strings.Join(strings.Fields(r.out), " "); got != want {
				return fmt.Errorf("%q, want %q", got, want)
			}
			return nil
		}); err != nil {
			t.Errorf("sftp: %v", err)
		}
		if err := errors.Join(stdin.Close(), sftp.Wait()); err != nil {
			t.Errorf("sftp: %v", err)
		}
	})
}
