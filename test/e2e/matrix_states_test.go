//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/machine/protocol"
)

// matrixState is one thing that can be wrong with a machine. make brings it
// about and returns what takes it back.
type matrixState struct {
	name string
	make func(t *testing.T, m *matrixVM) (undo func())
}

func matrixStates() []matrixState {
	return []matrixState{
		{"agent up", func(*testing.T, *matrixVM) func() { return func() {} }},
		{"agent stopped", stopped},
		{"agent dead", dead},
		{"agent in a loop", looping},
		{"disk full", diskFull},
		{"nss corrupt", nssFile(`head -c 8192 /dev/urandom >/usr/local/matrix/nss.db`)},
		{"nss truncated", nssFile(`head -c 100 /var/lib/sallyport/nss.db >/usr/local/matrix/nss.db`)},
		{"nss missing", nssMissing},
		{"server away", serverAway},
		{"server garbage", serverGarbage},
		{"snapshot stale", stale},
	}
}

// working waits until the agent of the machine answers again and has people.
func (m *matrixVM) working(t *testing.T) {
	t.Helper()
	if err := until(30*time.Second, func() error {
		if r := m.try("sally agent status --json"); r.code != 0 || !strings.Contains(r.out, `"principals"`) {
			return errors.New(r.String())
		}
		if r := m.try("getent passwd " + m.ours.name); r.code != 0 {
			return errors.New("ours are not found: " + r.String())
		}
		return nil
	}); err != nil {
		t.Fatalf("%s does not recover: %v", m.name, err)
	}
}

func stopped(_ *testing.T, m *matrixVM) func() {
	m.signal(syscall.SIGSTOP, "sally agent ro", "root")
	m.signal(syscall.SIGSTOP, "sally agent run")
	return func() { m.signal(syscall.SIGCONT, "sally agent r") }
}

// instead puts another program in the agent's place and ends the agent. What
// starts the agent again, starts that. The agent's own file stays in sight under
// another name, by a mount that is private: where systemd shares the mounts, what
// is laid over the first name would lie over the second as well, and a script
// that calls the agent by it would call itself.
func (m *matrixVM) instead(t *testing.T, script string) func() {
	t.Helper()
	m.sh(t, `[ -e /usr/local/matrix/sally ] || { : >/usr/local/matrix/sally; mount --bind /usr/bin/sally /usr/local/matrix/sally; mount --make-private /usr/local/matrix/sally; }`)
	m.put(t, "/usr/local/matrix/instead", script, 0o755)
	m.sh(t, "mount --bind /usr/local/matrix/instead /usr/bin/sally; timeout 20 /usr/local/matrix/sally --version >/dev/null")
	m.kill(t, "sally agent r")
	return func() {
		m.sh(t, "umount -l /usr/bin/sally")
		// One that begins just now may still be the other.
		if err := until(20*time.Second, func() error {
			m.kill(t, "sally agent r")
			if left := m.running("/bin/sh /usr/bin/sally agent"); len(left) > 0 {
				return fmt.Errorf("processes %d are left", left)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		m.working(t)
	}
}

// dead: the sockets are there, and nobody behind them.
func dead(t *testing.T, m *matrixVM) func() {
	undo := m.instead(t, "#!/bin/sh\nwhile :; do sleep 1000; done\n")
	return func() { undo(); m.kill(t, "sleep 1000") }
}

// looping: the agent starts, opens its sockets, and is gone in the middle of the
// next question.
func looping(t *testing.T, m *matrixVM) func() {
	return m.instead(t, "#!/bin/sh\ncase $2 in root|run) ;; *) exec /usr/local/matrix/sally \"$@\" ;; esac\n"+
		"/usr/local/matrix/sally \"$@\" &\nsleep 0.2\nkill -9 $!\nexit 1\n")
}

// diskFull: not a byte is left below /var.
func diskFull(t *testing.T, m *matrixVM) func() {
	m.sh(t, `mkdir -p /run/var && mount -t tmpfs -o size=64m,mode=755 matrix /run/var
		cp -a /var/. /run/var/ && mount --bind /run/var /var && umount /run/var
		dd if=/dev/zero of=/var/fill bs=4k 2>/dev/null || :
		! (echo x >/var/lib/sallyport/x) 2>/dev/null`)
	return func() {
		m.sh(t, "umount -l /var")
		m.kill(t, "sally agent r")
		m.working(t)
	}
}

// nssFile lays another file over the agent's, which the agent cannot replace.
func nssFile(script string) func(*testing.T, *matrixVM) func() {
	return func(t *testing.T, m *matrixVM) func() {
		m.sh(t, script+"\nmount --bind /usr/local/matrix/nss.db /var/lib/sallyport/nss.db")
		return func() { m.sh(t, "umount -l /var/lib/sallyport/nss.db"); m.working(t) }
	}
}

// nssMissing: an empty folder stands over the agent's.
func nssMissing(t *testing.T, m *matrixVM) func() {
	m.sh(t, "mount -t tmpfs -o size=4k,mode=755,ro none /var/lib/sallyport")
	return func() { m.sh(t, "umount -l /var/lib/sallyport"); m.working(t) }
}

// elsewhere sends the agent to another address for its server.
func (m *matrixVM) elsewhere(t *testing.T, address string) func() {
	t.Helper()
	before := m.sh(t, "cat /etc/sallyport/machine.json")
	var pins map[string]any
	if err := json.Unmarshal([]byte(before), &pins); err != nil {
		t.Fatal(err)
	}
	pins["address"] = address
	after, err := json.Marshal(pins)
	if err != nil {
		t.Fatal(err)
	}
	m.put(t, "/etc/sallyport/machine.json", string(after), 0o644)
	m.kill(t, "sally agent r")
	m.working(t)
	return func() {
		m.put(t, "/etc/sallyport/machine.json", before+"\n", 0o644)
		m.kill(t, "sally agent r")
		m.working(t)
	}
}

// serverAway: nothing has the server's address.
func serverAway(t *testing.T, m *matrixVM) func() { return m.elsewhere(t, "10.77.0.250:443") }

// serverGarbage: what answers has the deployment's own TLS certificate and says
// everything but the protocol.
func serverGarbage(t *testing.T, m *matrixVM) func() {
	var signed protocol.SignedManifest
	if err := json.Unmarshal([]byte(m.sh(t, "cat /etc/sallyport/manifest.json")), &signed); err != nil {
		t.Fatal(err)
	}
	pin, err := signed.Pin()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := signed.Open(pin)
	if err != nil {
		t.Fatal(err)
	}
	l := m.listen(t, "127.0.0.1:4443")
	asked := make(chan struct{}, 1)
	srv := &http.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{leaf(t, manifest.TLSRoots[0])}, ClientAuth: tls.RequestClientCert}, Handler: garbage(asked), ErrorLog: nil}
	go func() { _ = srv.ServeTLS(l, "", "") }()
	undo := m.elsewhere(t, "127.0.0.1:4443")
	select {
	case <-asked: // the agent believes the certificate
	case <-time.After(crowded(20 * time.Second)):
		t.Error("the agent never asked the server that answers garbage")
	}
	return func() { undo(); _ = srv.Close() }
}

// garbage answers each request in the next of many wrong ways.
func garbage(asked chan<- struct{}) http.Handler {
	noise := make([]byte, 64<<10)
	_, _ = rand.Read(noise)
	answers := []func(w http.ResponseWriter){
		func(w http.ResponseWriter) { _, _ = w.Write(noise) },
		func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{}`)) },
		func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"snapshot":{"payload":"AAAA"}}`)) },
		func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"manifest":{},"accounts":{},"snapshot":{}}`)) },
		func(w http.ResponseWriter) { http.Error(w, "<html>bad gateway</html>", http.StatusBadGateway) },
		func(w http.ResponseWriter) { w.Header().Set("Location", "/"); w.WriteHeader(http.StatusFound) },
		func(w http.ResponseWriter) {
			for range 256 {
				_, _ = w.Write(noise)
			}
		},
		func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	}
	next := make(chan int, 1)
	next <- 0
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		n := <-next
		next <- n + 1
		answers[n%len(answers)](w)
	})
}

// leaf makes a certificate of the server's name under the deployment's TLS root.
func leaf(t *testing.T, rootDER []byte) tls.Certificate {
	t.Helper()
	root, err := x509.ParseCertificate(rootDER)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, root, key.Public(), signer(t, "tls-ca"))
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// listen opens a listener in the machine's network namespace.
func (m *matrixVM) listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := listenInside(m.pid, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// stale: the newest snapshot that the machine has is 25 hours old, and so says
// the boot clock. The snapshot is signed anew with the deployment's own key, as
// it would have been then.
func stale(t *testing.T, m *matrixVM) func() {
	back := m.elsewhere(t, "10.77.0.250:443")
	before := m.sh(t, "cat /var/lib/sallyport/root/held.json")
	rewrite := func(text string) {
		stop := m.instead(t, "#!/bin/sh\nwhile :; do sleep 1000; done\n")
		m.put(t, "/var/lib/sallyport/root/held.json", text, 0o600)
		stop()
		m.kill(t, "sleep 1000")
	}
	rewrite(aged(t, before, 25*time.Hour))
	return func() { rewrite(before); back() }
}

// aged makes the kept state as old as it would be after some time offline.
func aged(t *testing.T, held string, by time.Duration) string {
	t.Helper()
	var state struct {
		Elapsed  time.Duration      `json:"elapsed"`
		Signed   time.Time          `json:"signed"`
		Snapshot *protocol.Envelope `json:"snapshot"`
	}
	var rest map[string]any
	if err := errors.Join(json.Unmarshal([]byte(held), &state), json.Unmarshal([]byte(held), &rest)); err != nil {
		t.Fatal(err)
	}
	key := signer(t, "snapshot")
	doc := map[string]any{}
	if err := json.Unmarshal(state.Snapshot.Payload, &doc); err != nil {
		t.Fatal(err)
	}
	issued, err := time.Parse(time.RFC3339, doc["issuedAt"].(string))
	if err != nil {
		t.Fatal(err)
	}
	doc["issuedAt"] = issued.Add(-by)
	payload, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	again, err := protocol.Sign(rand.Reader, key, protocol.TypeSnapshot, payload)
	if err != nil {
		t.Fatal(err)
	}
	rest["snapshot"], rest["signed"], rest["elapsed"] = again, state.Signed.Add(-by), state.Elapsed-by
	out, err := json.Marshal(rest)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
