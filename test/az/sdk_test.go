//go:build e2e

package az

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// sdk is a program that uses an official SDK, and what it is told: a JSON document
// on standard input. It prints "ok" lines, and fails with the first thing that is
// not as its SDK's documentation says.
type sdk struct {
	program []string
	env     []string
	task    map[string]any
}

// sdkTask is an application of its own with a secret, a certificate and the rights
// of an owner, and somebody to give a role to.
func sdkTask(t *testing.T, name string) map[string]any {
	t.Helper()
	a := admin()
	subscription := a.must(t, "account", "show", "--query", "id", "-o", "tsv")
	made := a.answer(t, "ad", "sp", "create-for-rbac", "--name", name, "--role", "Owner", "--scopes", "/subscriptions/"+subscription)
	id := text(made, "appId")
	folder := t.TempDir()
	file, public := certificate(t, folder)
	a.must(t, "ad", "app", "credential", "reset", "--id", id, "--append", "--cert", "@"+public)
	person := a.must(t, "ad", "user", "create", "--display-name", name, "--user-principal-name", name+"@"+domain, "--password", userPass, "--query", "id", "-o", "tsv")
	key, err := output("sh", "-euc", "ssh-keygen -q -t ed25519 -N '' -f "+folder+"/id && cat "+folder+"/id.pub")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"mode": "resources", "url": theWorld.url, "address": theWorld.ip + ":443", "ca": a.config + "/sallyport-ca.pem", "tenant": theWorld.tenant, "subscription": subscription, "group": name, "location": place,
		"application": id, "secret": text(made, "password"), "certificate": file, "person": person, "username": name + "@" + domain, "publicKey": key}
}

// run starts the program, hands each line of its output that is more than an "ok"
// to asked, which may be nil, tells the program when that is done, and waits for
// its end. prefix is what runs it.
func (p sdk) run(t *testing.T, asked func(words []string), prefix ...string) {
	t.Helper()
	task, err := json.Marshal(p.task)
	if err != nil {
		t.Fatal(err)
	}
	all := append(append([]string{}, prefix...), p.program...)
	cmd := exec.Command(all[0], all[1:]...)
	var errs bytes.Buffer
	cmd.Env, cmd.Stderr = p.env, &errs
	in, out := pipes(t, cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }() // of a test that ends before it
	// Who has heard enough may have ended; its exit code says how.
	tell := func(line string) { _, _ = io.WriteString(in, line+"\n") }
	tell(string(task))
	proved := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		t.Log(lines.Text())
		if strings.HasPrefix(lines.Text(), "ok ") {
			proved++
		} else if asked != nil {
			asked(strings.Fields(lines.Text()))
			tell("done")
		}
	}
	if err := cmd.Wait(); err != nil || proved == 0 {
		t.Fatalf("%v: %s", err, errs.String())
	}
}

func pipes(t *testing.T, cmd *exec.Cmd) (io.WriteCloser, io.ReadCloser) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return in, out
}

// with is the program with another task.
func (p sdk) with(more map[string]any) sdk {
	task := maps.Clone(p.task)
	maps.Copy(task, more)
	p.task = task
	return p
}

// goSDK builds the program that uses the SDK for Go.
func goSDK(t *testing.T) sdk {
	t.Helper()
	program := t.TempDir() + "/goclient"
	build := exec.Command("nice", "-n", "10", "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, ".") // the SDK's packages are large
	build.Dir, build.Env = "goclient", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return sdk{program: []string{program}}
}

// installed is the folder of an SDK's packages, and that of the program's source.
func installed(t *testing.T, kind, source string, more ...string) (packages, folder string) {
	t.Helper()
	cache := os.Getenv("SALLY_CACHE")
	if cache == "" {
		cache = "/var/cache/sallyport"
	}
	packages, err := output("./sdk.sh", append([]string{cache, kind}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	folder = t.TempDir()
	if err := shell("cp " + source + "/* " + folder); err != nil {
		t.Fatal(err)
	}
	return packages, folder
}

func pythonSDK(t *testing.T) sdk {
	t.Helper()
	packages, folder := installed(t, "python", "pyclient", theWorld.venv)
	return sdk{program: theWorld.named(theWorld.venv+"/bin/python", folder), env: []string{"PYTHONPATH=" + packages, "REQUESTS_CA_BUNDLE=" + admin().config + "/sallyport-ca.pem", "PATH=/usr/bin:/bin", "HOME=" + folder, "LANG=C.UTF-8"}}
}

func nodeSDK(t *testing.T) sdk {
	t.Helper()
	packages, folder := installed(t, "node", "nodeclient")
	if err := os.Symlink(packages+"/node_modules", folder+"/node_modules"); err != nil {
		t.Fatal(err)
	}
	return sdk{program: theWorld.named("node", folder+"/main.mjs"), env: []string{"NODE_EXTRA_CA_CERTS=" + admin().config + "/sallyport-ca.pem", "PATH=/usr/bin:/bin", "HOME=" + folder, "LANG=C.UTF-8"}}
}

// TestSDK_Go: the Azure SDK for Go and plain OpenID Connect, each of them as it
// comes: sign-in with a secret and a certificate, groups, networks, machines,
// extensions, roles, their pagers and pollers, and refusals by their codes.
func TestSDK_Go(t *testing.T) {
	t.Parallel()
	p := goSDK(t)
	p.task = sdkTask(t, "sdk-go")
	p.run(t, nil)
}

// TestSDK_Python: the same with the Azure SDK for Python.
func TestSDK_Python(t *testing.T) {
	t.Parallel()
	p := pythonSDK(t)
	p.task = sdkTask(t, "sdk-python")
	p.run(t, nil)
}
