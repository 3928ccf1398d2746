//go:build e2e

package operations

import (
	"bufio"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/crowdtest"
)

// TestSchema_AnswersAreAsDescribed sends what the OpenAPI description allows,
// and much that it does not, through every door with its real proof. No answer
// may be a fault of the server, or have a status, a media type or a body that
// the description does not have.
func TestSchema_AnswersAreAsDescribed(t *testing.T) {
	tool := schemathesis(t)
	p := newProcess(t, "../../out/sally", "")
	p.arguments = []string{"--lab-socket", labSocket(p)}
	p.start(t)
	l := newLab(t, p, thisBuild())
	l.settle(t, "fuzzed")
	f := fuzzer{tool: tool, dir: p.dir, url: p.url}
	f.write(t, "openapi.json", l.must(t, "server", "openapi", "--url", p.url))
	// A real subscription and group, so that requests get beyond "not found".
	l.must(t, "group", "create", "--name", "fuzz", "--location", "southcentralus")
	f.write(t, "fuzz.toml", fmt.Sprintf("[parameters]\n\"query.wait\" = 0\n\"path.subscription\" = %q\n\"path.group\" = \"fuzz\"\n", l.must(t, "account", "show", "--query", "id", "-o", "tsv")))
	bearer := func(resource string) string {
		return "Authorization: Bearer " + l.must(t, "account", "get-access-token", "--resource", resource, "--query", "accessToken", "-o", "tsv")
	}
	arm, graph := bearer("https://management.azure.com/"), bearer("https://graph.microsoft.com/")
	cert := f.machineCertificate(t, l, "fuzzed")
	// Two at a time: one does not fill two processors.
	var both sync.WaitGroup
	both.Go(func() {
		// Ending all sessions of the caller, or the machine's key, would turn every later answer into 401.
		f.run(t, "arm", "-H", arm, "--include-tag", "arm", "--exclude-operation-id-regex", "(?i)session|revoke|invalidate|resourceGroups.delete")
		f.run(t, "machine", "--include-tag", "machine", "--request-cert", cert, "--exclude-operation-id", "machine.join", "--exclude-operation-id", "machine.leave")
	})
	both.Go(func() {
		f.run(t, "graph", "-H", graph, "--include-tag", "graph", "--exclude-operation-id-regex", "(?i)session|revoke|invalidate")
		f.run(t, "public", "--include-tag", "oauth", "--include-tag", "page", "--include-tag", "operations")
		f.run(t, "without-proof", "--include-operation-id-regex", "machine|vokeSignIn|arm.tenants|resourceGroups.delete")
	})
	both.Wait()
	f.answers(t, p.log())
}

type fuzzer struct{ tool, dir, url string }

func (f fuzzer) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run sends one part of the description. Its output is the report of what was
// wrong, with a command that repeats it.
func (f fuzzer) run(t *testing.T, name string, args ...string) {
	args = append([]string{"--config-file", filepath.Join(f.dir, "fuzz.toml"), "--no-color", "run", filepath.Join(f.dir, "openapi.json"), "--url", f.url, "--tls-verify", "false",
		"--phases", "coverage,fuzzing", "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
		"--max-examples", "2", "--continue-on-failure", "--seed", "7", "--no-shrink", "--warnings", "off", "--workers", "1"}, args...)
	cmd := exec.Command(f.tool, args...)
	cmd.Dir = f.dir
	cmd.Env = append(os.Environ(), "PYTHONWARNINGS=ignore")
	late := time.AfterFunc(crowdtest.Limit(3*time.Minute), func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err != nil {
		if at := strings.Index(text, "= FAILURES ="); at >= 0 {
			text = text[at:]
		}
		t.Errorf("%s: %v\n%.6000s", name, err, text)
		return
	}
	t.Logf("%s: %s", name, text[strings.LastIndex(strings.TrimSpace(text), "\n")+1:])
}

// machineCertificate takes a lab machine's key and wraps it as an agent does.
func (f fuzzer) machineCertificate(t *testing.T, l *lab, name string) string {
	t.Helper()
	host := l.must(t, "vm", "show", "-d", "-g", group, "-n", name, "--query", "publicIps", "-o", "tsv")
	port := l.must(t, "machine", "show", "-g", group, "-n", name, "--query", "properties.sshPort", "-o", "tsv")
	text := output(t, "ssh", "-F", "none", "-p", port, "-l", "azureuser", "-i", filepath.Join(l.p.dir, "azureuser"), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", host, "sudo cat /var/lib/sallyport/agent/machine.key")
	block, _ := pem.Decode([]byte(text + "\n"))
	if block == nil {
		t.Fatal("the machine's key cannot be read")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.(crypto.Signer).Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, "machine.pem", text+"\n"+string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return filepath.Join(f.dir, "machine.pem")
}

// answers reads the server's own log: it must have let the proofs in, and have
// answered nothing with 5xx.
func (f fuzzer) answers(t *testing.T, log string) {
	t.Helper()
	file, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	total, refused := map[string]int{}, map[string]int{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l struct {
			Row, Error, Correlation string
			Status                  int
		}
		if json.Unmarshal(lines.Bytes(), &l) != nil || l.Row == "" {
			continue
		}
		door, _, _ := strings.Cut(l.Row, ".")
		total[door]++
		if l.Status == 401 {
			refused[door]++
		}
		if l.Status >= 500 && l.Status != 503 {
			t.Errorf("%s was answered with %d: %s", l.Row, l.Status, l.Error)
		}
	}
	for _, door := range []string{"arm", "graph", "machine"} {
		// One of the runs shows no proof, on purpose.
		if in := total[door] - refused[door]; in < 100 || in*5 < total[door] {
			t.Errorf("%s: only %d of %d requests were let in: this tested little", door, in, total[door])
		}
	}
	t.Logf("requests: %v, of which without a valid proof: %v", total, refused)
}

// schemathesis installs the fuzzer at its pinned versions, once for each cache,
// in a virtual environment outside the checkout.
func schemathesis(t *testing.T) string {
	t.Helper()
	wanted, err := filepath.Abs("requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(wanted)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	folder := filepath.Join(cache(), "tools", "schemathesis-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(folder + "/.whole"); err != nil {
		script := `set -e; rm -rf "$1"; mkdir -p "$(dirname "$1")"; python3 -m venv "$1"; "$1/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$2"; touch "$1/.whole"`
		if out, err := exec.Command("sh", "-c", script, "-", folder, wanted).CombinedOutput(); err != nil {
			t.Fatalf("install the schema fuzzer (python3-venv is there? run: make deps): %v\n%s", err, out)
		}
	}
	return folder + "/bin/schemathesis"
}
