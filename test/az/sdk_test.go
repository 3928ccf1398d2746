//go:build e2e

package az

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestSDK_Go: the Azure SDK for Go and plain OpenID Connect, each of them as it
// comes: sign-in with a secret and a certificate, groups, networks, machines,
// extensions, roles, their pagers and pollers, and refusals by their codes.
func TestSDK_Go(t *testing.T) {
	t.Parallel()
	program := t.TempDir() + "/goclient"
	build := exec.Command("nice", "-n", "10", "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, ".") // the SDK's packages are large
	build.Dir, build.Env = "goclient", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	a := admin()
	subscription := a.must(t, "account", "show", "--query", "id", "-o", "tsv")
	made := a.answer(t, "ad", "sp", "create-for-rbac", "--name", "sdk-go", "--role", "Owner", "--scopes", "/subscriptions/"+subscription)
	id := text(made, "appId")
	folder := t.TempDir()
	file, public := certificate(t, folder)
	a.must(t, "ad", "app", "credential", "reset", "--id", id, "--append", "--cert", "@"+public)
	person := a.must(t, "ad", "user", "create", "--display-name", "sdk", "--user-principal-name", "sdk-go@"+domain, "--password", userPass, "--query", "id", "-o", "tsv")
	key, err := output("sh", "-euc", "ssh-keygen -q -t ed25519 -N '' -f "+folder+"/id && cat "+folder+"/id.pub")
	if err != nil {
		t.Fatal(err)
	}
	task, err := json.Marshal(map[string]string{"url": theWorld.url, "address": theWorld.ip + ":443", "ca": a.config + "/sallyport-ca.pem", "tenant": theWorld.tenant, "subscription": subscription, "group": "sdk-go", "location": place,
		"application": id, "secret": text(made, "password"), "certificate": file, "person": person, "publicKey": key})
	if err != nil {
		t.Fatal(err)
	}
	run := exec.Command(program)
	run.Stdin = bytes.NewReader(task)
	out, err := run.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		t.Log(strings.TrimSpace(line))
	}
	if err != nil {
		t.Fatal(err)
	}
}
