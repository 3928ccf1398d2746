//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The machine's own metadata service, asked as real clients ask: the request is
// what azure-cli 2.45.0 sent in the recording (az login --identity), with the
// resource of this deployment.
const azRequest = "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: python/3.11.2 (Linux-6.18.44-fc-v657-x86_64-with-glibc2.36) msrest/0.6.21 msrest_azure/0.6.4\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n%s\r\n"

const (
	metadataHost = "169.254.169.254"
	tokenQuery   = "/metadata/identity/oauth2/token?resource=https%3A%2F%2Fmanagement.core.windows.net%2F&api-version=2018-02-01"
	isMetadata   = "Metadata: true\r\n"
)

// metadata sends a raw request as a user of the machine and returns the answer.
func (m *vm) metadata(t *testing.T, user, path, host, headers string) (status string, body map[string]any) {
	t.Helper()
	raw := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, azRequest, path, host, headers))
	out := m.mustRoot(t, fmt.Sprintf("echo %s | base64 -d | setpriv --reuid=%s --clear-groups nc -w 20 %s 80", raw, user, metadataHost))
	head, text, _ := strings.Cut(out, "\r\n\r\n")
	line, _, _ := strings.Cut(head, "\r\n")
	_, status, _ = strings.Cut(line, " ")
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatalf("%s asked %s: %v: %q", user, path, err, out)
	}
	return status, body
}

// served waits until the machine's identity service answers root, by both parts
// of the agent.
func (m *vm) served(t *testing.T) {
	t.Helper()
	err := until(limitGrant, func() error {
		r := m.root(t, "sally agent status")
		if !strings.Contains(r.out, "answers at "+metadataHost) {
			return fmt.Errorf("%s", r)
		}
		if status, _ := m.metadata(t, "root", tokenQuery, metadataHost, isMetadata); status != "200 OK" {
			return errors.New(status)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestIdentity_WhoIsAnswered: root and members of the group get the machine's
// tokens, nobody else does, and nothing that was forwarded is answered.
func TestIdentity_WhoIsAnswered(t *testing.T) {
	eachSystem(t, func(t *testing.T, system string) {
		m := machineOn(t, "net-"+system, platform{system, netns})
		m.answersTheRight(t)
		t.Run("Forwarded", func(t *testing.T) { forwardedPort(t, m, system) })
		t.Run("CLI", func(t *testing.T) { identityCLI(t, m) })
	})
}

// answersTheRight: root and a member are answered as Azure answers, others and
// what was forwarded are not, whatever keeps the machine's processes.
func (m *vm) answersTheRight(t *testing.T) {
	t.Helper()
	m.served(t)
	m.mustRoot(t, "getent passwd robot >/dev/null || useradd -m robot; getent passwd stranger >/dev/null || useradd -m stranger; sally agent identity allow robot")
	for _, user := range []string{"root", "robot"} {
		status, body := m.metadata(t, user, tokenQuery, metadataHost, isMetadata)
		if status != "200 OK" || body["token_type"] != "Bearer" || body["resource"] != "https://management.core.windows.net/" {
			t.Errorf("%s: %s %v", user, status, body)
		}
		for _, name := range []string{"access_token", "client_id", "expires_in", "expires_on", "ext_expires_in", "not_before"} {
			if s, ok := body[name].(string); !ok || s == "" {
				t.Errorf("%s: %s is %v", user, name, body[name])
			}
		}
	}
	status, body := m.metadata(t, "stranger", tokenQuery, metadataHost, isMetadata)
	if text, _ := body["error_description"].(string); status != "403 Forbidden" || body["error"] != "access_denied" || !strings.Contains(text, "stranger may not use the managed identity") || !strings.Contains(text, "sally agent identity allow stranger (Correlation id: ") {
		t.Errorf("stranger: %s %v", status, body)
	}
	for name, r := range map[string]struct{ host, headers string }{
		"no header":       {metadataHost, ""},
		"forwarded":       {metadataHost, isMetadata + "X-Forwarded-For: 10.0.0.1\r\n"},
		"through a proxy": {metadataHost, isMetadata + "Via: 1.1 proxy\r\n"},
		"another host":    {"localhost:8080", isMetadata},
	} {
		if status, body := m.metadata(t, "root", tokenQuery, r.host, r.headers); status != "400 Bad Request" || body["error"] != "invalid_request" {
			t.Errorf("%s: %s %v", name, status, body)
		}
	}
	status, body = m.metadata(t, "root", "/metadata/instance?api-version=2021-02-01", metadataHost, isMetadata)
	compute, _ := body["compute"].(map[string]any)
	if status != "200 OK" || !strings.EqualFold(fmt.Sprint(compute["resourceId"]), m.id) || compute["vmId"] != m.machineID || compute["name"] != m.name {
		t.Errorf("instance: %s %v", status, body)
	}
	if status, body := m.metadata(t, "root", "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fpas.windows.net%2FCheckMyAccess%2FLinux", metadataHost, isMetadata); status != "400 Bad Request" {
		t.Errorf("the SSH resource as a bearer token: %s %v", status, body)
	}
}

// forwardedPort: what sshd connects to for a person counts as the person.
func forwardedPort(t *testing.T, m *vm, system string) {
	p := newUser(t, "tunnel-"+system)
	grant(t, roleAdmin, p.name, m.id) // may become root with sudo, and is not root
	allowedSoon(t, p, m)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	here := l.Addr().String()
	_ = l.Close()
	cmd := p.command("ssh", "vm", "--ip", m.host, "--port", m.port, "--", "-N", "-o", "ExitOnForwardFailure=yes", "-L", here+":"+metadataHost+":80")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(crowded(20*time.Second), func() { t.Error("sally ssh vm -N does not end on SIGTERM"); _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		late.Stop()
	})
	var resp *http.Response
	err = until(20*time.Second, func() error {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+here+tokenQuery, nil)
		if err != nil {
			return err
		}
		req.Host = metadataHost
		req.Header.Set("Metadata", "true")
		resp, err = http.DefaultClient.Do(req)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), p.name+" may not use the managed identity") {
		t.Fatalf("%d %s %v", resp.StatusCode, body, err)
	}
}

// identityCLI signs in as the machine, on the machine.
func identityCLI(t *testing.T, m *vm) {
	principal := admin(t).must(t, "vm", "show", "-g", group, "-n", m.name, "--query", "identity.principalId", "-o", "tsv")
	const as = "export HOME=/home/robot SALLY_CONFIG_DIR=/home/robot/.sallyport; cd /; "
	robot := func(words string) result {
		return m.root(t, as+"setpriv --reuid=robot --regid=robot --clear-groups sally "+words)
	}
	if r := robot("login --identity --allow-no-subscriptions --query '[0].user' -o json"); r.code != 0 || !strings.Contains(r.out, "systemAssignedIdentity") {
		t.Fatalf("login: %s", r)
	}
	if r := robot("vm list -o json"); r.code == 0 || !strings.Contains(r.err, "has no subscription") {
		t.Fatalf("without a role: %s", r)
	}
	admin(t).must(t, "role", "assignment", "create", "--role", "Reader", "--assignee-object-id", principal, "--assignee-principal-type", "ServicePrincipal", "--scope", m.id)
	if r := robot("login --identity -o none"); r.code != 0 {
		t.Fatalf("login: %s", r)
	}
	if err := until(limitGrant, func() error { return wants(robot("vm list --query '[].name' -o tsv"), m.name) }); err != nil {
		t.Fatal(err)
	}
	if r := m.root(t, "export HOME=/home/stranger SALLY_CONFIG_DIR=/home/stranger/.sallyport; cd /; setpriv --reuid=stranger --regid=stranger --clear-groups sally login --identity"); r.code == 0 || !strings.Contains(r.err, "stranger may not use the managed identity") {
		t.Errorf("stranger: %s", r)
	}
	if r := m.root(t, "cat /home/robot/.sallyport/*"); strings.Contains(r.out, "eyJhbGci") {
		t.Error("a token of the identity lies on the disk")
	}
}

// TestIdentity_SSH: a program on one machine logs in to another one, as the first
// one's managed identity: what "az ssh" cannot do.
func TestIdentity_SSH(t *testing.T) {
	from, to := machineOn(t, "net-"+debian12, platform{debian12, netns}), machineOn(t, "net-"+debian13, platform{debian13, netns})
	from.served(t)
	from.mustRoot(t, "getent passwd robot >/dev/null || useradd -m robot; sally agent identity allow robot")
	principal := admin(t).must(t, "vm", "show", "-g", group, "-n", from.name, "--query", "identity.principalId", "-o", "tsv")
	assign := func(role string) string {
		return admin(t).must(t, "role", "assignment", "create", "--role", role, "--assignee-object-id", principal, "--assignee-principal-type", "ServicePrincipal", "--scope", to.id, "--query", "id", "-o", "tsv")
	}
	assign("Reader")
	robot := func(words string) result {
		return from.root(t, "export HOME=/home/robot SALLY_CONFIG_DIR=/home/robot/.sallyport; cd /; setpriv --reuid=robot --regid=robot --clear-groups sally "+words)
	}
	login := func() result {
		return robot("ssh vm -g " + group + " -n " + to.name + " --prefer-private-ip -- whoami")
	}
	if err := until(limitGrant, func() error {
		if r := robot("login --identity -o none"); r.code != 0 {
			return fmt.Errorf("%s", r)
		}
		if r := login(); !strings.Contains(r.err, "Azure role not assigned") {
			return fmt.Errorf("without a role: %s", r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	id := assign(roleUser)
	if err := until(limitGrant, func() error { return wants(login(), principal) }); err != nil {
		t.Fatal(err)
	}
	if r := robot("ssh vm -g " + group + " -n " + to.name + " --prefer-private-ip -- sudo -n whoami"); r.code == 0 {
		t.Errorf("sudo without the role: %s", r)
	}
	admin(t).must(t, "role", "assignment", "delete", "--ids", id)
	if err := until(limitGrant, func() error {
		if r := login(); r.code == 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestIdentity_Removed: a machine without the extension has the service too, and
// loses it, with every token that was given, at the moment its identity goes.
func TestIdentity_Removed(t *testing.T) {
	a := admin(t)
	m := bareMachine(t, "identity-off")
	m.served(t)
	if status, body := m.metadata(t, "root", tokenQuery, metadataHost, isMetadata); status != "200 OK" {
		t.Fatalf("%s %v", status, body)
	}
	a.must(t, "vm", "identity", "remove", "-g", group, "-n", m.name)
	err := until(limitGrant, func() error {
		if r := m.root(t, "sally agent status"); !strings.Contains(r.out, "off: the machine has no managed identity") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := m.root(t, "nc -z -w 5 "+metadataHost+" 80"); r.code == 0 {
		t.Error("the address still answers")
	}
	// A new identity is another one: nothing that was kept is given out.
	a.must(t, "vm", "identity", "assign", "-g", group, "-n", m.name)
	principal := a.must(t, "vm", "show", "-g", group, "-n", m.name, "--query", "identity.principalId", "-o", "tsv")
	m.served(t)
	status, body := m.metadata(t, "root", tokenQuery, metadataHost, isMetadata)
	text, _ := body["access_token"].(string)
	if parts := strings.Split(text, "."); status != "200 OK" || len(parts) != 3 {
		t.Fatalf("%s %v", status, body)
	} else if claims, err := base64.RawURLEncoding.DecodeString(parts[1]); err != nil || !strings.Contains(string(claims), principal) {
		t.Fatalf("%s is not of %s: %v", claims, principal, err)
	}
}
