//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// cause is one way to lose the right to be on a machine.
type cause struct {
	name    string
	happens func(t *testing.T, l *lost)
	session string   // what the sessions read
	next    []string // what the next login reads
	// part: what ends is what one certificate opened; the person's other session
	// goes on, and so does his other certificate.
	part bool
	// machine: everybody loses it, so that the machine is the cause's own.
	machine bool
	// record and says find the revocation in the list.
	record string
	says   func(l *lost) string
}

// lost is who loses what.
type lost struct {
	*vm
	person                              *person
	assignment, group, objectID, serial string
}

func causes() []cause {
	object := func(l *lost) string { return l.objectID }
	serial := func(l *lost) string { return "serial " + l.serial }
	here := func(l *lost) string { return l.name }
	noRole, revoked := "Azure role not assigned", "the certificate that opened this session was revoked"
	return []cause{
		{name: "role", session: noRole, next: []string{noRole, "orrelation id"}, record: "roleAssignment.delete", says: object, happens: func(t *testing.T, l *lost) {
			admin(t).must(t, "role", "assignment", "delete", "--ids", l.assignment)
		}},
		{name: "group", session: noRole, next: []string{noRole}, record: "group.removeMember", says: object, happens: func(t *testing.T, l *lost) {
			admin(t).must(t, "ad", "group", "member", "remove", "--group", l.group, "--member-id", l.objectID)
		}},
		{name: "disabled", session: "is disabled", next: []string{"is disabled"}, record: "user.update", says: object, happens: func(t *testing.T, l *lost) {
			admin(t).must(t, "ad", "user", "update", "--id", l.person.name, "--account-enabled", "false")
		}},
		{name: "deleted", session: "not an account", next: []string{"Permission denied"}, record: "user.delete", says: object, happens: func(t *testing.T, l *lost) {
			admin(t).must(t, "ad", "user", "delete", "--id", l.person.name)
		}},
		{name: "signedout", session: "your sessions were ended by the directory", next: []string{"sessions of", "were ended"}, record: "user.revokeSessions", says: object, happens: func(t *testing.T, l *lost) {
			l.person.must(t, "account", "session", "revoke", "--all", "--yes")
		}},
		{name: "certuser", session: "your sessions were ended by the directory", next: []string{"sessions of", "were ended"}, record: "user.revokeSessions", says: object, happens: func(t *testing.T, l *lost) {
			admin(t).must(t, "cert", "revoke", "--user", l.person.name, "--yes")
		}},
		{name: "serial", session: revoked, next: []string{"was revoked"}, part: true, record: "certificate.revoke", says: serial, happens: func(t *testing.T, l *lost) {
			l.person.must(t, "cert", "revoke", "--serial", l.serial, "--yes")
		}},
		{name: "keyid", session: revoked, next: []string{"was revoked"}, part: true, record: "certificate.revoke", says: serial, happens: func(t *testing.T, l *lost) {
			id := admin(t).must(t, "cert", "show", "--serial", l.serial, "--query", "properties.keyId", "-o", "tsv")
			admin(t).must(t, "cert", "revoke", "--key-id", id, "--yes")
		}},
		{name: "identity", session: "managed identity is removed", next: []string{"managed identity is removed"}, machine: true, record: "resource.write", says: here, happens: func(t *testing.T, l *lost) {
			admin(t).must(t, "vm", "identity", "remove", "-g", group, "-n", l.name)
		}},
		{name: "moved", session: noRole, next: []string{noRole}, machine: true, record: "resource.move", says: here, happens: func(t *testing.T, l *lost) {
			admin(t).must(t, "resource", "move", "--destination-group", group+"-away", "--ids", l.id)
		}},
	}
}

// TestLive_EveryCauseEndsEveryKind: what a person has running on a machine ends,
// with words, whatever took the right away. Not the whole product runs, which
// would be 210 kinds of sessions that end alike. Pairs do: every cause on every
// system, every cause with every kind, and every kind on every system. For that the
// seven kinds of each cause are dealt out to the three systems, the next cause's
// begin one further.
//
// The causes that concern a whole machine have one for themselves on each system,
// and follow one another there.
func TestLive_EveryCauseEndsEveryKind(t *testing.T) {
	admin(t).must(t, "group", "create", "-n", group+"-away", "-l", "southcentralus")
	eachSystem(t, func(t *testing.T, system string) {
		m := machineOn(t, "net-"+system, platform{system, netns})
		kindsOf := func(i int) []string { return dealt(i, system) }
		t.Run("machine", func(t *testing.T) {
			t.Parallel()
			own := machineOn(t, "causes-"+system, platform{system, netns})
			local := own.client(t, "local", "azureuser", []string{"-i", own.key}, "echo began; sleep 331")
			for i, c := range causes() {
				if !c.machine {
					continue
				}
				if live(t, own, c, system, kindsOf(i)); c.name == "identity" {
					admin(t).must(t, "vm", "identity", "assign", "-g", group, "-n", own.name)
				}
			}
			if local.over() {
				t.Errorf("a local person's session ended: %s", local.text())
			}
		})
		for i, c := range causes() {
			if !c.machine {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					live(t, m, c, system, kindsOf(i))
				})
			}
		}
	})
}

// dealt are the kinds of a cause on a system.
func dealt(cause int, system string) []string {
	share := map[string][]int{debian11: {0, 1}, debian12: {2, 3, 4}, debian13: {5, 6}}
	kinds, all := []string{}, allKinds()
	for _, i := range share[system] {
		kinds = append(kinds, all[(cause+i)%len(all)])
	}
	return kinds
}

// TestLive_PairsAreWhole: the deal leaves no pair out.
func TestLive_PairsAreWhole(t *testing.T) {
	pairs := map[string]bool{}
	for i, c := range causes() {
		for system := range suites {
			for _, kind := range dealt(i, system) {
				pairs[c.name+"/"+system], pairs[c.name+"/"+kind], pairs[kind+"/"+system] = true, true, true
			}
		}
	}
	c, k, s := len(causes()), len(allKinds()), len(suites)
	if want := c*s + c*k + k*s; len(pairs) != want {
		t.Errorf("%d pairs, want %d", len(pairs), want)
	}
}

func live(t *testing.T, m *vm, c cause, system string, kinds []string) {
	t.Helper()
	l := newLost(t, m, c, "live-"+c.name+"-"+system)
	p := l.person
	allowedSoon(t, p, m)
	key := certificate(t, p)
	uid := strings.TrimSpace(m.ssh(p.name, key.options(), "id -u").out)
	var stays *running
	var own identity
	there := []string{}
	if c.part {
		own = certificate(t, p)
		stays = m.client(t, "exec", p.name, own.options(), "echo began; sleep 341")
		there = []string{"exec"}
	}
	o := open(t, m, p, key, kinds, there...)
	l.certificate(t, own)
	began := time.Now()
	c.happens(t, l)
	ends(t, l, o.clients, uid, stays)
	t.Logf("%v: over %s after the command was given", kinds, time.Since(began).Round(time.Millisecond))
	for _, r := range o.clients {
		if !r.wordless() {
			says(t, r.text(), c.session)
		}
	}
	refused(t, m.ssh(p.name, key.options(), "true"), c.next...)
	if c.part {
		if r := m.ssh(p.name, own.options(), "true"); r.code != 0 {
			t.Errorf("the other certificate: %s", r)
		}
		o.listed = map[string]int{"exec": 1}
	} else {
		o.listed = map[string]int{}
	}
	if err := until(limitGrant, func() error { return lists(t, m, p, o.listed, false) }); err != nil {
		t.Error(err)
	}
	acknowledged(t, l, c)
}

func newLost(t *testing.T, m *vm, c cause, alias string) *lost {
	t.Helper()
	a := admin(t)
	l := &lost{vm: m, person: newUser(t, alias)}
	l.objectID = a.must(t, "ad", "user", "show", "--id", l.person.name, "--query", "id", "-o", "tsv")
	switch c.name {
	case "group":
		l.group = a.must(t, "ad", "group", "create", "--display-name", alias, "--mail-nickname", alias, "--query", "id", "-o", "tsv")
		a.must(t, "ad", "group", "member", "add", "--group", l.group, "--member-id", l.objectID)
		a.must(t, "role", "assignment", "create", "--role", roleAdmin, "--assignee-object-id", l.group, "--assignee-principal-type", "Group", "--scope", m.id)
	default:
		l.assignment = grant(t, roleAdmin, l.person.name, m.id)
	}
	return l
}

// certificate finds which certificate opened the sessions: not the other one.
func (l *lost) certificate(t *testing.T, other identity) {
	t.Helper()
	spared := ""
	if other.cert != "" {
		spared = serialOf(t, other.cert)
	}
	r := l.person.run("session", "list", "--user", l.person.name, "--query", "[].properties.certificate.serial", "-o", "tsv")
	for _, s := range strings.Fields(r.out) {
		if s != spared {
			l.serial = s
		}
	}
	if l.serial == "" {
		t.Fatalf("no certificate is listed: %s", r)
	}
}

func serialOf(t *testing.T, certificate string) string {
	t.Helper()
	out, err := exec.Command("ssh-keygen", "-L", "-f", certificate).CombinedOutput()
	_, after, found := strings.Cut(string(out), "Serial: ")
	if serial, _, _ := strings.Cut(after, "\n"); err == nil && found {
		return serial
	}
	t.Fatalf("%v %s", err, out)
	return ""
}

// ends waits until every client has ended and nothing of the person runs but what
// stays.
func ends(t *testing.T, l *lost, clients []*running, uid string, stays *running) {
	t.Helper()
	if stays == nil {
		ended(t, l.vm, clients, uid)
		return
	}
	for _, r := range clients {
		select {
		case <-r.gone:
		case <-time.After(crowded(limitEnd)):
			t.Fatalf("the %s session goes on: %s", r.kind, r.text())
		}
	}
	if err := until(limitEnd, func() error {
		if left := l.remains(t, uid); strings.Count(left, "sleep") != strings.Count(left, "sleep 341") || stays.over() {
			return fmt.Errorf("what runs: %s\n%s", left, stays.text())
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// revocation is one as sally access revocation list shows it.
type revocation struct {
	Name       string
	Properties struct{ Type, Target, What string }
}

// acknowledged finds what happened in the list of revocations, and waits until no
// machine is waited for.
func acknowledged(t *testing.T, l *lost, c cause) {
	t.Helper()
	var list []revocation
	r := admin(t).run("access", "revocation", "list", "-o", "json")
	if err := json.Unmarshal([]byte(r.out), &list); err != nil {
		t.Fatalf("%v %s", err, r)
	}
	i := slices.IndexFunc(list, func(x revocation) bool {
		return x.Properties.Type == c.record && strings.Contains(x.Properties.Target+" "+x.Properties.What, c.says(l))
	})
	if i < 0 {
		t.Fatalf("there is no %s of %s: %.3000s", c.record, c.says(l), r.out)
	}
	if err := until(limitGrant, func() error {
		return wants(admin(t).run("access", "revocation", "show", "--id", list[i].Name, "--query", "properties.acknowledged", "-o", "tsv"), "true")
	}); err != nil {
		// Another machine of this world may be away: this one may not be.
		if waiting := admin(t).run("access", "revocation", "show", "--id", list[i].Name); strings.Contains(waiting.out, l.machineID) {
			t.Errorf("%v: %s", err, waiting)
		}
	}
}

// TestLive_RevocationWaitsForAMachine: the list says which machine has not
// acknowledged a revocation, until it has.
func TestLive_RevocationWaitsForAMachine(t *testing.T) {
	m := machine(t, "net-"+debian12)
	p := newUser(t, "live-away")
	l := &lost{vm: m, person: p, assignment: grant(t, roleUser, p.name, m.id)}
	allowedSoon(t, p, m)
	m.mustRoot(t, "pkill -STOP -f '[s]ally agent run'")
	defer m.root(t, "pkill -CONT -f '[s]ally agent run'")
	admin(t).must(t, "role", "assignment", "delete", "--ids", l.assignment)
	id := admin(t).must(t, "access", "revocation", "list", "--query", "[0].name", "-o", "tsv")
	if got := admin(t).must(t, "access", "revocation", "show", "--id", id, "--query", "[properties.type, properties.acknowledged, properties.waiting[0].machineId]", "-o", "json"); strings.Join(strings.Fields(got), "") != `["roleAssignment.delete",false,"`+m.machineID+`"]` {
		t.Errorf("the machine is away: %s", got)
	}
	m.mustRoot(t, "pkill -CONT -f '[s]ally agent run'")
	if err := until(limitEnd, func() error {
		return wants(admin(t).run("access", "revocation", "show", "--id", id, "--query", "properties.acknowledged", "-o", "tsv"), "true")
	}); err != nil {
		t.Error(err)
	}
	refused(t, p.sshIP(m, "true"), "Azure role not assigned")
}
