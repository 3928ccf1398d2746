//go:build e2e

package az

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestIdentity: identities that are resources of their own, what they are assigned
// to, and az login --identity on that machine.
func TestIdentity(t *testing.T) {
	t.Parallel()
	a := admin().inOne(t)
	const own, name = "Identities", "idVM"
	rg := a.must(t, "group", "create", "-n", own, "-l", place, "--query", "id", "-o", "tsv")
	made := a.answer(t, "identity", "create", "-g", own, "-n", "worker")
	if text(made, "principalId") == "" || text(made, "clientId") == "" || text(made, "type") != "Microsoft.ManagedIdentity/userAssignedIdentities" {
		t.Errorf("identity create: %v", made)
	}
	a.must(t, "role", "assignment", "create", "--role", "Reader", "--assignee-object-id", text(made, "principalId"), "--assignee-principal-type", "ServicePrincipal", "--scope", rg)
	vm := a.answer(t, "vm", "create", "-g", own, "-n", name, "--image", "UbuntuLTS", "--assign-identity", "[system]", text(made, "id"), "--admin-username", "azureuser", "--generate-ssh-keys")
	if text(vm, "identity", "systemAssignedIdentity") == "" || text(vm, "identity", "userAssignedIdentities", text(made, "id"), "clientId") != text(made, "clientId") {
		t.Errorf("vm create --assign-identity: %v", vm)
	}
	m := running(t, machine{name: name, group: own})
	t.Run("Login", func(t *testing.T) { loginOnMachine(t, m, text(made, "clientId"), text(made, "id")) })
	of := func(words ...string) []string { return append(words, "-g", own, "-n", name) }
	if got := a.must(t, "identity", "list", "-g", own, "--query", "[].name", "-o", "tsv"); got != "worker" {
		t.Errorf("identity list: %q", got)
	}
	a.must(t, append(of("vm", "identity", "remove"), "--identities", text(made, "id"))...)
	if got := a.must(t, append(of("vm", "identity", "show"), "--query", "type", "-o", "tsv")...); got != "SystemAssigned" {
		t.Errorf("vm identity remove: %q", got)
	}
	a.must(t, append(of("vm", "identity", "assign"), "--identities", "worker")...)
	if got := a.must(t, "identity", "show", "-g", own, "-n", "worker", "--query", "principalId", "-o", "tsv"); got != text(made, "principalId") {
		t.Errorf("identity show: %q", got)
	}
	a.must(t, "identity", "delete", "-g", own, "-n", "worker")
	if got := a.must(t, append(of("vm", "identity", "show"), "--query", "type", "-o", "tsv")...); got != "SystemAssigned" {
		t.Errorf("what was deleted is still assigned: %q", got)
	}
	a.must(t, "group", "delete", "-n", own, "--yes", "--no-wait")
}

// loginOnMachine: root is the machine's own identity, a user whom root allowed is the
// one that he names, and another one reads why not.
func loginOnMachine(t *testing.T, m machine, client, id string) {
	const ask = "http://169.254.169.254/metadata/instance?api-version=2021-02-01"
	enter := fmt.Sprintf("nsenter -t %d --mount --uts --ipc --net --pid ", m.pid)
	err := shell(enter + "sh -euc 'useradd robot; useradd stranger; sally agent identity allow robot'\n" +
		fmt.Sprintf("for i in $(seq 300); do nsenter -t %d --net --pid curl -s -m 5 -o /dev/null -f -H Metadata:true '%s' && exit; sleep 0.2; done; exit 1", m.pid, ask))
	if err != nil {
		t.Fatal(err)
	}
	prefix := m.inside(t)
	on := func(user string) *visitor {
		v := &visitor{somebody: setUp(t, "machine-"+user, "", ""), prefix: prefix}
		if user != "root" {
			uid, err := output("sh", "-c", enter+"id -u "+user)
			if err != nil {
				t.Fatal(err)
			}
			n, err := strconv.Atoi(uid)
			if err != nil {
				t.Fatal(err)
			}
			if err := shell("chown -R " + uid + " " + v.config); err != nil {
				t.Fatal(err)
			}
			v.prefix = append(slices.Clone(prefix), "setpriv", "--reuid="+strconv.Itoa(n), "--regid="+strconv.Itoa(n), "--clear-groups")
		}
		return v
	}
	if r := on("root").az("login", "--identity", "--allow-no-subscriptions", "--query", "[0].user.assignedIdentityInfo", "-o", "tsv"); r.code != 0 || strings.TrimSpace(r.out) != "MSI" {
		t.Errorf("az login --identity as root: %s", r)
	}
	robot := on("robot")
	for _, words := range [][]string{{"--client-id", client}, {"--resource-id", id}} {
		if r := robot.az(append([]string{"login", "--identity"}, words...)...); r.code != 0 {
			t.Errorf("az login --identity %v: %s", words, r)
		}
	}
	if r := robot.az("group", "show", "-n", m.group, "--query", "name", "-o", "tsv"); strings.TrimSpace(r.out) != m.group {
		t.Errorf("the identity reads its group: %s", r)
	}
	if r := robot.az("group", "delete", "-n", m.group, "--yes"); r.code == 0 || !strings.Contains(r.err, "AuthorizationFailed") {
		t.Errorf("a Reader deletes: %s", r)
	}
	if r := on("stranger").az("login", "--identity"); r.code == 0 || !strings.Contains(r.err, "stranger may not use the managed identity of this machine") || !strings.Contains(r.err, "sally agent identity allow stranger") {
		t.Errorf("az login --identity of somebody else: %s", r)
	}
}

// visitor is somebody whose az runs on a machine.
type visitor struct {
	*somebody
	prefix []string
}

func (v *visitor) az(words ...string) result {
	all := append(append(slices.Clone(v.prefix), "env", "az"), words...)
	cmd := exec.Command(all[0], all[1:]...)
	cmd.Env, cmd.Dir = append(slices.Clone(v.env), "AZURE_CORE_LOGIN_EXPERIENCE_V2=off"), os.TempDir()
	return v.w.capture(cmd)
}
