//go:build e2e

package az

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"sallyport/internal/crowdtest"
)

// TestSDK_Node: @azure/msal-node and @azure/identity with their own rights, and
// @azure/arm-compute.
func TestSDK_Node(t *testing.T) {
	t.Parallel()
	p := nodeSDK(t)
	p.task = sdkTask(t, "sdk-node")
	m := identityMachine(t)
	p.with(map[string]any{"mode": "msal", "ssh": "https://pas.windows.net/CheckMyAccess/Linux/.default"}).run(t, nil)
	p.with(map[string]any{"machine": m.name, "machineGroup": m.group}).run(t, nil)
	t.Run("Identity", func(t *testing.T) { identities(t, m, p) })
}

// machine is a lab machine with an identity of its own.
type machine struct {
	name, group string
	pid         int // of one of its processes
}

// identityMachine makes a machine whose identity may read its group.
func identityMachine(t *testing.T) machine {
	t.Helper()
	m := machine{name: "sdkIdentity", group: "sdk-identity"}
	a := admin()
	a.must(t, "group", "create", "-n", m.group, "-l", place)
	scope := a.must(t, "group", "show", "-n", m.group, "--query", "id", "-o", "tsv")
	a.must(t, "vm", "create", "-g", m.group, "-n", m.name, "--image", "UbuntuLTS", "--assign-identity", "--role", "Reader", "--scope", scope, "--admin-username", "azureuser", "--generate-ssh-keys")
	return running(t, m)
}

// running finds a process of a machine.
func running(t *testing.T, m machine) machine {
	t.Helper()
	m.pid = processOf(t, m.name)
	return m
}

// processOf is a process of a lab machine.
func processOf(t *testing.T, machine string) int {
	t.Helper()
	hosts, err := filepath.Glob("/proc/[0-9]*/root/etc/hostname")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range hosts {
		name, err := os.ReadFile(path)
		if err != nil || !strings.EqualFold(strings.TrimSpace(string(name)), machine) {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	t.Fatalf("no process of %s among %d", machine, len(hosts))
	return 0
}

// metadata asks a machine's own metadata service, which comes with its identity.
func metadata(t *testing.T, pid int, path string) string {
	t.Helper()
	shown, err := output("sh", "-euc", fmt.Sprintf("for i in $(seq 300); do nsenter -t %d --net --pid curl -s -m 5 -f -H Metadata:true 'http://169.254.169.254/metadata/%s' && exit; sleep 0.2; done; exit 1", pid, path))
	if err != nil {
		t.Fatalf("the machine's metadata service: %v", err)
	}
	return shown
}

// inside is what runs a program of this computer in the machine's network and
// among its processes. There the server is where the lab puts it.
func (m machine) inside(t *testing.T) []string {
	t.Helper()
	hosts := t.TempDir() + "/hosts"
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost\n10.77.0.1 "+host+"\n"), 0o644); err != nil { //nolint:gosec // as /etc/hosts
		t.Fatal(err)
	}
	return []string{"nsenter", "-t", strconv.Itoa(m.pid), "--net", "--pid", "unshare", "--mount", "--propagation", "private", "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, hosts}
}

// identities: the SDKs' managed identity credentials on the machine. The first of
// them waits until the machine's own metadata service is there.
func identities(t *testing.T, m machine, node sdk) {
	python, golang := pythonSDK(t), goSDK(t)
	python.task, golang.task = node.task, node.task
	mode := map[string]any{"mode": "identity", "machine": m.name, "machineGroup": m.group, "group": m.group}
	prefix := m.inside(t)
	metadata(t, m.pid, "instance?api-version=2021-02-01")
	golang.task["address"] = "10.77.0.1:443"
	for _, p := range []sdk{node, python, golang} {
		p.program = p.program[max(0, len(p.program)-2):] // without the hosts file of this computer
		p.with(mode).run(t, nil, prefix...)
	}
}

// person is somebody with a browser who does what a program asks for.
type person struct {
	*somebody
	browser context.Context
}

// does goes to a page and on until it is left, or shows that it has an end.
func (p person) does(t *testing.T, words []string) {
	t.Helper()
	ctx, stop := context.WithTimeout(p.browser, crowdtest.Limit(time.Minute))
	defer stop()
	if err := chromedp.Do(ctx, chromedp.Navigate(words[1])); err != nil {
		t.Fatalf("browser: %v", err)
	}
	answer := "approve"
	if words[0] == "deny" {
		answer = "deny"
	}
	for {
		kind, err := chromedp.Run(ctx, chromedp.Poll[string](`location.host != "`+host+`" ? "left" : (["#code", "#password", 'button[value="this"]', 'button[value="accept"]', 'button[value="approve"]', 'form[action="/signout"] button', '[role="status"]', '[role="alert"]'].find(s => document.querySelector(s)) || "")`))
		if err != nil {
			t.Fatalf("browser: %v", err)
		}
		var step chromedp.Action[chromedp.Void]
		switch kind {
		case "left", `[role="status"]`:
			return
		case "#code":
			step = chromedp.SendKeys("#code", words[2]+"\n")
		case "#password":
			step = p.signIn()
		case `button[value="approve"]`:
			step = chromedp.Click(`button[value="` + answer + `"]`)
		case `[role="alert"]`:
			said, _ := chromedp.Run(ctx, chromedp.Text(`[role="alert"]`))
			t.Fatalf("the page says %q", said)
		default:
			step = chromedp.Click(kind)
		}
		if err := chromedp.Do(ctx, step, chromedp.WaitNotPresent(kind)); err != nil {
			t.Fatalf("browser at %s: %v", kind, err)
		}
	}
}

// TestSDK_People: people sign in through the SDKs, in a browser and with device
// codes.
func TestSDK_People(t *testing.T) {
	t.Parallel()
	s := user(t, "sdk-people")
	node, python, golang := nodeSDK(t), pythonSDK(t), goSDK(t) // they are built before the browser's time begins
	who := person{s, chromium(t)}
	object := s.must(t, "ad", "signed-in-user", "show", "--query", "id", "-o", "tsv")
	task := map[string]any{"url": theWorld.url, "address": theWorld.ip + ":443", "ca": s.config + "/sallyport-ca.pem", "tenant": theWorld.tenant, "username": s.name, "person": object, "cli": "04b07795-8ddb-461a-bbee-02f9e1bf7b46"}
	ask := func(words []string) { who.does(t, words) }
	node.task, python.task, golang.task = task, task, task
	node.with(map[string]any{"mode": "interactive"}).run(t, ask)
	// Each waits for its interval between two questions; the browser is one.
	var turn sync.Mutex
	all := map[string]func(*testing.T){}
	for name, p := range map[string]sdk{"Node": node, "Python": python, "Go": golang} {
		all[name] = func(t *testing.T) {
			p.with(map[string]any{"mode": "device"}).run(t, func(words []string) {
				turn.Lock()
				defer turn.Unlock()
				who.does(t, words)
			})
		}
	}
	side(t, all)
}

// TestSDK_OpenID: openid-client, which knows nothing of Azure. A person signs in
// to a site in a browser, the signing key is replaced meanwhile, and the site signs
// him out.
func TestSDK_OpenID(t *testing.T) {
	t.Parallel()
	s := user(t, "sdk-openid")
	a := admin()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	back := fmt.Sprintf("http://127.0.0.1:%d/cb", l.Addr().(*net.TCPAddr).Port)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	id := a.must(t, "ad", "app", "create", "--display-name", "site", "--web-redirect-uris", back, "--query", "appId", "-o", "tsv")
	a.must(t, "ad", "sp", "create", "--id", id)
	secret := a.must(t, "ad", "app", "credential", "reset", "--id", id, "--query", "password", "-o", "tsv")
	if r := a.run(theWorld.sally, "login", "--server", theWorld.address, "-u", a.name, "-p", a.password); r.code != 0 {
		t.Fatal(r)
	}
	p := nodeSDK(t)
	p.task = map[string]any{"mode": "openid", "url": theWorld.url, "tenant": theWorld.tenant, "application": id, "secret": secret, "redirect": back, "username": s.name, "name": "sdk-openid",
		"person": s.must(t, "ad", "signed-in-user", "show", "--query", "id", "-o", "tsv")}
	who := person{s, chromium(t)}
	p.run(t, func(words []string) {
		if words[0] != "rotate" {
			who.does(t, words)
			return
		}
		if r := a.run(theWorld.sally, "ca", "rotate", "--purpose", "token", "--force"); r.code != 0 {
			t.Fatal(r)
		}
	})
}
