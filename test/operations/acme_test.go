//go:build e2e

package operations

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/crowdtest"
)

// pebble is Let's Encrypt's own small ACME server, which rejects nonces and
// changes its answers on purpose.
const pebble = "github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1"

// tool builds a pinned Go program once and returns its path.
func tool(t *testing.T, module string) string {
	t.Helper()
	name, version, _ := strings.Cut(filepath.Base(module), "@")
	folder := filepath.Join(cache(), "tools", name+"-"+version)
	path := filepath.Join(folder, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.Command("go", "install", module)
	cmd.Dir = "/" // not this module
	cmd.Env = append(os.Environ(), "GOBIN="+folder, "CGO_ENABLED=0", "GOFLAGS=-trimpath")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go install %s: %v\n%s", module, err, out)
	}
	return path
}

const pebbleConfig = `{"pebble": {"listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000", "certificate": "/etc/pebble/cert.pem", "privateKey": "/etc/pebble/key.pem",
  "httpPort": 5002, "tlsPort": 8443, "ocspResponderURL": "", "externalAccountBindingRequired": false}}`

// TestACME_GetsAndKeepsACertificate from a real ACME server by tls-alpn-01.
// Until then, and where the issuer is away, the server answers with its own
// certificate; after a restart the one it got is there at once.
func TestACME_GetsAndKeepsACertificate(t *testing.T) {
	c := newComputer(t, "")
	c.send(t, tool(t, pebble), "/usr/local/bin/pebble")
	c.must(t, `set -e
install -m 0755 out/sally /usr/bin/sally
install -D -m 0644 packaging/systemd/sallyport-server.sysusers /etc/sysusers.d/sallyport-server.conf; systemd-sysusers
install -d -m 0700 -o sallyport -g sallyport /var/lib/sallyport
setpriv --reuid sallyport --regid sallyport --clear-groups sally server init --state /var/lib/sallyport --domain corp.example --url https://login.corp.example:8443 --password-file /var/lib/sallyport/first --address-file /var/lib/sallyport/address
mkdir /etc/pebble; cd /etc/pebble
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 9 -subj /CN=localhost -addext subjectAltName=DNS:localhost -out cert.pem -keyout key.pem 2>/dev/null
cat >config.json <<'END'
`+pebbleConfig+`
END`)
	serve := func() {
		t.Helper()
		c.must(t, `systemd-run --quiet --unit sally --uid sallyport --gid sallyport --setenv SSL_CERT_FILE=/etc/pebble/cert.pem sally server run --state /var/lib/sallyport --listen 127.0.0.1:8443 --acme-directory https://localhost:14000/dir --acme-email ops@corp.example
sally server status --server "$(cat /var/lib/sallyport/address)" --wait `+crowdtest.Limit(20*time.Second).String())
	}
	serve()
	if err := until(20*time.Second, func() error {
		return says(c.must(t, "curl -sSk https://login.corp.example:8443/readyz"), "ok; no TLS certificate from the ACME server")
	}); err != nil {
		t.Fatalf("the issuer is away: %v", err)
	}
	c.must(t, `systemd-run --quiet --unit pebble --setenv PEBBLE_VA_NOSLEEP=1 pebble -config /etc/pebble/config.json
for i in $(seq 100); do curl -sSk https://localhost:15000/roots/0 >/etc/pebble/root.pem 2>/dev/null && break; sleep 0.1; done
systemctl kill -s HUP sally`)
	trusted := "curl -sS --cacert /etc/pebble/root.pem https://login.corp.example:8443/readyz"
	if err := until(30*time.Second, func() error {
		out, exit, err := c.run(true, trusted)
		if err != nil || exit != 0 {
			return fmt.Errorf("%d %v %s", exit, err, out)
		}
		return says(out, `"tls":"ok"`)
	}); err != nil {
		t.Fatalf("no certificate: %v\n%s", err, c.must(t, "journalctl --no-pager -o cat -u sally -u pebble | tail -60"))
	}
	// What lies on the disk is the server's alone.
	if out := c.must(t, "find /var/lib/sallyport/acme -printf '%y %m %u\n' | sort -u"); strings.TrimSpace(out) != "d 700 sallyport\nf 600 sallyport" {
		t.Errorf("the folder of the account's key: %s", out)
	}
	c.must(t, "systemctl stop pebble sally; systemctl reset-failed pebble sally 2>/dev/null || true")
	serve()
	if out, exit, err := c.run(true, trusted); err != nil || exit != 0 {
		t.Errorf("after a restart, with the issuer away: %d %v %s", exit, err, out)
	}
	// A machine or our CLI never depends on the issuer.
	c.must(t, `sally server status --server "$(cat /var/lib/sallyport/address)"`)
}

func says(text, word string) error {
	if !strings.Contains(text, word) {
		return fmt.Errorf("%q is not in %s", word, text)
	}
	return nil
}
