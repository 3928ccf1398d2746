//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestHostile_Garbage throws bytes at every socket and then logs in.
func TestHostile_Garbage(t *testing.T) {
	m := machine(t, "myVM")
	p := newUser(t, "garbage")
	grant(t, roleUser, p.name, m.id)
	allowedSoon(t, p, m)
	noise := make([]byte, 70<<10)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	// All at once: who is not answered waits for as long as it may, and takes
	// nobody's turn.
	var all sync.WaitGroup
	for _, b := range [][]byte{nil, []byte("\n"), []byte("{}"), []byte("SP01"), []byte("SP01\xff\xff\xff\xff\xff"), []byte(strings.Repeat("[", 50_000)), noise} {
		all.Go(func() { throw(t, "unix", theWorld.path("lab.sock"), b) })
		all.Go(func() { throw(t, "tcp", fmt.Sprintf("127.0.0.1:%d", theWorld.port), b) })
		all.Go(func() {
			throwTLS(t, append([]byte("POST /machine/v1/poll HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"), b...))
		})
		all.Go(func() { throwTLS(t, b) })
	}
	all.Wait()
	// The agent's sockets are reached as root on the machine.
	m.mustRoot(t, `head -c 70000 /dev/urandom > /root/noise; printf 'SP01\377\377\377\377' > /root/frame; : > /root/empty
for s in /run/sallyport/*.sock; do for f in /root/noise /root/frame /root/empty; do timeout 5 nc -N -U $s < $f >/dev/null 2>&1 || true; done; done`)
	if r := p.sshIP(m, "whoami"); wants(r, p.name) != nil {
		t.Fatalf("after the garbage: %s", r)
	}
	admin(t).must(t, "machine", "list")
	admin(t).must(t, "vm", "show", "-d", "-g", group, "-n", m.name)
}

func throw(t *testing.T, network, address string, b []byte) {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Errorf("%s %s no longer listens: %v", network, address, err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	_, _ = c.Write(b)
	_, _ = io.Copy(io.Discard, io.LimitReader(c, 1<<16))
}

func throwTLS(t *testing.T, b []byte) {
	t.Helper()
	d := &net.Dialer{Timeout: crowded(10 * time.Second)}
	c, err := tls.DialWithDialer(d, "tcp", fmt.Sprintf("127.0.0.1:%d", theWorld.port), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // garbage is sent, nothing is believed
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	_, _ = c.Write(b)
	_, _ = io.Copy(io.Discard, io.LimitReader(c, 1<<16))
}

// TestHostile_MachineRootStaysInside: root on a machine does not read this
// computer's secrets, make device nodes, or reach its other ports.
func TestHostile_MachineRootStaysInside(t *testing.T) {
	m := machine(t, "myVM")
	canary := theWorld.path("canary")
	if err := os.WriteFile(canary, []byte("the-computers-secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	out := m.root(t, fmt.Sprintf(`cat %s /proc/1/root%s /root/../%s 2>/dev/null
mknod /dev/sdx b 8 0 2>/dev/null && echo OPEN mknod
mount -t tmpfs t /mnt 2>/dev/null && echo OPEN mount
mount -t proc p /mnt 2>/dev/null && echo OPEN proc
dd if=/dev/vda of=/dev/null count=1 2>/dev/null && echo OPEN disk
echo 1 > /proc/sysrq-trigger 2>/dev/null && echo OPEN sysrq
cat /proc/kcore >/dev/null 2>&1 && echo OPEN kcore
echo x > /proc/sys/kernel/core_pattern 2>/dev/null && echo OPEN core_pattern
for a in 127.0.0.1 10.77.0.1 ; do timeout 2 nc -z $a %d 2>/dev/null && echo OPEN port $a; done
ps -e | grep -c sshd >/dev/null; ps -ef | grep -F 'sally server' | grep -v grep && echo OPEN processes
unshare -U true 2>/dev/null && unshare -Urm mount -t tmpfs t /mnt 2>/dev/null && echo OPEN userns-mount
echo end`, canary, canary, canary, port))
	if strings.Contains(out.out, "OPEN") && !strings.Contains(out.out, "OPEN userns-mount") || strings.Contains(out.out, "the-computers-secret") || !strings.Contains(out.out, "end") {
		t.Fatalf("the machine got out: %s", out)
	}
	if strings.Contains(out.out, "OPEN userns-mount") {
		t.Error("the machine can make user namespaces with mounts")
	}
}

// TestHostile_ServerRestart: machines keep letting people in while the server
// is away, and follow it again when it is back.
func TestHostile_ServerAway(t *testing.T) {
	m := machine(t, "myVM")
	p := newUser(t, "away")
	grant(t, roleUser, p.name, m.id)
	allowedSoon(t, p, m)
	key := certificate(t, p)
	_ = theWorld.server.Process.Kill()
	_ = theWorld.server.Wait()
	if r := m.ssh(p.name, key.options(), "whoami"); wants(r, p.name) != nil {
		t.Errorf("with the server away: %s", r)
	}
	p.fails(t, []string{"localhost"}, "group", "list")
	if err := theWorld.runServer(); err != nil {
		t.Fatal(err)
	}
	q := newUser(t, "back")
	grant(t, roleUser, q.name, m.id)
	if err := until(4*limitGrant, func() error { return wants(q.sshIP(m, "whoami"), q.name) }); err != nil {
		t.Fatal(err)
	}
}

// TestSecrets_AreNotWritten: passwords and tokens appear in no log and no
// world-readable file.
func TestSecrets_AreNotWritten(t *testing.T) {
	p := newUser(t, "secretive")
	for _, log := range []string{"server.log", "lab.log"} {
		b, err := os.ReadFile(theWorld.path(log))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{p.password, "Quartz-Lantern", "refresh_token", "eyJ"} {
			if bytes.Contains(b, []byte(secret)) {
				t.Errorf("%s holds %q", log, secret)
			}
		}
	}
}
