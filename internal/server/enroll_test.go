package server

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
	"sallyport/internal/store"
)

// yard is a castle with a resource group that hosts may join.
type yard struct {
	*castle
	rg string
}

func newYard(t *testing.T) *yard {
	t.Helper()
	c := newCastle(t)
	y := &yard{castle: c, rg: c.subscription() + "/resourceGroups/rg"}
	c.want(201, "admin", "PUT", y.rg+"?api-version=2022-09-01", `{"location":"westeurope"}`)
	return y
}

func (y *yard) machine(name string) string {
	return y.rg + "/providers/Microsoft.HybridCompute/machines/" + name
}

const hybridVersion = "?api-version=2024-07-10"

// token asks for a join token at a scope, as somebody.
func (y *yard) joinToken(who, at string) string {
	y.t.Helper()
	return y.text(y.want(200, who, "POST", at+"/providers/Sallyport.Access/createJoinToken"+hybridVersion, "{}"), "joinToken")
}

func (y *yard) join(r protocol.JoinRequest, key string) (protocol.JoinAnswer, error) {
	r.Capability, r.Hostname, r.OS, r.OpenSSH, r.Agent = 1, "host", "Debian GNU/Linux 12 (bookworm)", "OpenSSH_9.2p1", "1"
	a, err := y.d.machines.Join(y.t.Context(), audit.By{CorrelationID: zeroID, At: time.Now()}, r, key)
	y.work()
	return a, err
}

// work lets the resource workers catch up.
func (y *yard) work() {
	y.t.Helper()
	for range 100 {
		if worked, _, err := y.d.engine.Step(y.t.Context()); err != nil {
			y.t.Fatal(err)
		} else if !worked {
			return
		}
	}
}

func (y *yard) show(name string) map[string]any {
	y.t.Helper()
	p, _ := y.want(200, "admin", "GET", y.machine(name)+hybridVersion, "")["properties"].(map[string]any)
	return p
}

func (y *yard) audited(kind, outcome string) (n int) {
	y.t.Helper()
	y.must(y.d.store.Read(y.t.Context(), func(t *store.Tx) error {
		list, err := t.AuditRecords(audit.Filter{Type: kind})
		for _, r := range list {
			if string(r.Outcome) == outcome {
				n++
			}
		}
		return err
	}))
	return n
}

// A token for a group makes a new machine with the rights of whoever made it, once.
func TestEnroll_NewMachine(t *testing.T) {
	y := newYard(t)
	alice := y.person("alice")
	y.want(403, "alice", "POST", y.rg+"/providers/Sallyport.Access/createJoinToken"+hybridVersion, "{}")
	if y.audited("machine.joinToken", "denied") != 1 {
		t.Error("the refusal is not audited")
	}
	y.assign(y.rg, rbac.Contributor, alice)
	token := y.joinToken("alice", y.rg)
	for name, r := range map[string]protocol.JoinRequest{"no name": {}, "another group": {Name: "web", Group: "elsewhere"}, "a name that is none": {Name: "..", Group: "rg"}, "a machine inside": {Name: "x/providers/Microsoft.HybridCompute/machines/y"}, "another type": {Name: "x/extensions/AADSSHLoginForLinux"}, "a long name": {Name: strings.Repeat("x", 60)}} {
		r.Token = token
		if _, err := y.join(r, "key"); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a, err := y.join(protocol.JoinRequest{Token: token, Name: "web", Group: "RG", Tags: map[string]string{"role": "web"}, EnableLogin: true}, "key")
	y.must(err)
	if a.ResourceID != y.machine("web") {
		t.Fatalf("%+v", a)
	}
	if again, err := y.join(protocol.JoinRequest{Token: token, Name: "web", Group: "rg"}, "key"); err != nil || again.MachineID != a.MachineID {
		t.Errorf("a lost answer cost the token: %+v %v", again, err)
	}
	if _, err := y.join(protocol.JoinRequest{Token: token, Name: "web2"}, "thief"); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("used twice: %v", err)
	}
	doc := y.want(200, "admin", "GET", y.machine("web")+hybridVersion, "")
	p, _ := doc["properties"].(map[string]any)
	identity, _ := doc["identity"].(map[string]any)
	tags, _ := doc["tags"].(map[string]any)
	if p["vmId"] != a.MachineID || p["osVersion"] != "12" || p["machineFqdn"] != "host" || doc["location"] != "westeurope" || tags["role"] != "web" || y.text(identity, "principalId") == "" {
		t.Errorf("%v", doc)
	}
	if w, ok := y.d.wanted.Want(a.MachineID); !ok || !w.LoginEnabled || !w.Identity {
		t.Errorf("%+v", w)
	}
	if _, err := y.join(protocol.JoinRequest{Token: y.joinToken("alice", y.rg), Name: "web2", Group: "elsewhere"}, "key2"); err == nil {
		t.Error("joined another group than the token's")
	} else {
		handbooktest.Said(t, fault.As(err).Public(), "join.OtherGroup")
	}
	// A name that exists is not for a token for new machines.
	if _, err := y.join(protocol.JoinRequest{Token: y.joinToken("alice", y.rg), Name: "WEB"}, "key2"); err == nil {
		t.Error("took a machine's name")
	} else {
		handbooktest.Said(t, fault.As(err).Public(), "arm.MachineExists")
	}
	y.want(400, "admin", "POST", y.subscription()+"/providers/Sallyport.Access/createJoinToken"+hybridVersion, "{}")
}

// What whoever made the token may counts again when it is used.
func TestEnroll_MintersRightsCountWhenItIsUsed(t *testing.T) {
	y := newYard(t)
	for name, take := range map[string]func(id, assignment string){
		"role gone": func(_, assignment string) { y.want(200, "admin", "DELETE", assignmentPath(y.rg, assignment), "") },
		"disabled":  func(id, _ string) { y.want(204, "admin", "PATCH", "/v1.0/users/"+id, `{"accountEnabled":false}`) },
		"sessions revoked": func(id, _ string) {
			y.want(200, "admin", "POST", "/v1.0/users/"+id+"/revokeSignInSessions", "")
		},
	} {
		who := "m" + strings.ReplaceAll(name, " ", "")
		id := y.person(who)
		assignment := y.assign(y.rg, rbac.Contributor, id)
		token := y.joinToken(who, y.rg)
		take(id, assignment)
		_, err := y.join(protocol.JoinRequest{Token: token, Name: who}, "key-"+who)
		if !fault.Is(err, fault.Forbidden) && !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
		if name != "role gone" {
			handbooktest.Said(t, fault.As(err).Public(), "join.Minter")
		}
		y.want(404, "admin", "GET", y.machine(who)+hybridVersion, "")
	}
	if n := y.audited("machine.join", "denied"); n != 3 {
		t.Errorf("%d of three refusals are audited", n)
	}
}

// The right to take a machine over counts when the token is used, too.
func TestEnroll_MintersRightToJoinAgain(t *testing.T) {
	y := newYard(t)
	_, err := y.join(protocol.JoinRequest{Token: y.joinToken("admin", y.rg), Name: "db"}, "one")
	y.must(err)
	id := y.person("mover")
	assignment := y.assign(y.rg, rbac.Contributor, id)
	token := y.joinToken("mover", y.machine("db"))
	y.want(200, "admin", "DELETE", assignmentPath(y.rg, assignment), "")
	if _, err := y.join(protocol.JoinRequest{Token: token}, "two"); !fault.Is(err, fault.Forbidden) {
		t.Errorf("%v", err)
	}
	if _, ok := y.d.machineKeys.ByKey("one"); !ok {
		t.Error("the machine's key is dead")
	}
}

// Joining again as a machine needs the right to it, ends the old key and is told.
func TestEnroll_AgainQuarantineLeaveDelete(t *testing.T) {
	y := newYard(t)
	a, err := y.join(protocol.JoinRequest{Token: y.joinToken("admin", y.rg), Name: "db"}, "one")
	y.must(err)
	bob := y.person("bob")
	role := "00000000-0000-4000-8000-0000000000ab"
	y.want(201, "admin", "PUT", y.subscription()+"/providers/Microsoft.Authorization/roleDefinitions/"+role+"?api-version=2022-04-01",
		`{"properties":{"roleName":"Onboarding","type":"CustomRole","assignableScopes":["`+y.subscription()+`"],"permissions":[{"actions":["Microsoft.HybridCompute/machines/read","Microsoft.HybridCompute/machines/write"]}]}}`)
	y.assign(y.rg, role, bob)
	y.joinToken("bob", y.rg)
	y.want(403, "bob", "POST", y.machine("db")+"/providers/Sallyport.Access/createJoinToken"+hybridVersion, "{}")

	token := y.joinToken("admin", y.machine("db"))
	if _, err := y.join(protocol.JoinRequest{Token: token, Name: "other"}, "two"); err == nil {
		t.Error("another machine joined with the token")
	} else {
		handbooktest.Said(t, fault.As(err).Public(), "join.OtherMachine")
	}
	again, err := y.join(protocol.JoinRequest{Token: token}, "two")
	if err != nil || again.MachineID != a.MachineID {
		t.Fatalf("%+v %v", again, err)
	}
	if _, ok := y.d.machineKeys.ByKey("one"); ok {
		t.Error("the old key lives")
	}
	if y.audited("machine.rejoin", "success") != 1 || !strings.Contains(y.note("db"), "the key one that it had before is dead") {
		t.Errorf("not told: %q", y.note("db"))
	}

	// Quarantine: nothing that the old key had is good for anything, and a token
	// that was made before is none.
	before := y.joinToken("admin", y.machine("db"))
	principal := func() directory.ServicePrincipal {
		i, _ := y.want(200, "admin", "GET", y.machine("db")+hybridVersion, "")["identity"].(map[string]any)
		p, _ := y.d.directory.ServicePrincipal(y.text(i, "principalId"))
		return p
	}
	if p := principal(); p.ID == "" || !p.NotBefore.IsZero() {
		t.Errorf("%+v", p)
	}
	y.want(202, "admin", "POST", y.machine("db")+"/quarantine"+hybridVersion, "")
	if _, ok := y.d.machineKeys.ByKey("two"); ok {
		t.Error("the stolen key lives until a worker looks")
	}
	y.removedByAUser()
	if principal().NotBefore.IsZero() {
		t.Error("what the identity was given is good still")
	}
	y.work()
	if p := y.show("db"); p["status"] != "Expired" || p["vmId"] == a.MachineID {
		t.Errorf("%v", p)
	}
	if _, ok := y.d.wanted.Want(a.MachineID); ok {
		t.Error("something is the old machine")
	}
	if _, err := y.join(protocol.JoinRequest{Token: before}, "thief"); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a token of before the quarantine: %v", err)
	}
	fresh, err := y.join(protocol.JoinRequest{Token: y.joinToken("admin", y.machine("db"))}, "three")
	y.must(err)
	if p := y.show("db"); fresh.MachineID == a.MachineID || p["status"] != "Disconnected" || p["vmId"] != fresh.MachineID {
		t.Errorf("%v", p)
	}

	// The machine gives up its key, and no more than that.
	y.must(y.d.machines.Leave(t.Context(), audit.By{Principal: fresh.MachineID, Type: audit.Machine, CorrelationID: zeroID, At: time.Now()}))
	if _, ok := y.d.machineKeys.ByKey("three"); ok || y.show("db")["status"] != "Expired" {
		t.Error("it did not leave")
	}
	back, err := y.join(protocol.JoinRequest{Token: y.joinToken("admin", y.machine("db"))}, "four")
	y.must(err)
	y.want(202, "admin", "DELETE", y.machine("db")+hybridVersion, "") // its agent is away
	y.work()
	y.want(404, "admin", "GET", y.machine("db")+hybridVersion, "")
	if _, ok := y.d.machineKeys.ByID(back.MachineID); ok {
		t.Error("a deleted machine's key lives")
	}
}

// removedByAUser: the key of a machine went, and the record names who wanted it.
func (y *yard) removedByAUser() {
	y.t.Helper()
	y.must(y.d.store.Read(y.t.Context(), func(t *store.Tx) error {
		list, err := t.AuditRecords(audit.Filter{Type: "machine.remove"})
		if len(list) != 1 || list[0].PrincipalType != audit.User {
			y.t.Errorf("who put it into quarantine is not on record: %+v", list)
		}
		return err
	}))
}

func (y *yard) note(name string) string {
	p, _ := y.want(200, "admin", "GET", y.machine(name)+"/providers/Sallyport.Access/machines/default"+hybridVersion, "")["properties"].(map[string]any)
	return y.text(p, "note")
}

// A group takes the keys of its machines along.
func TestEnroll_GroupDeleted(t *testing.T) {
	y := newYard(t)
	a, err := y.join(protocol.JoinRequest{Token: y.joinToken("admin", y.rg), Name: "gone"}, "key")
	y.must(err)
	y.want(202, "admin", "DELETE", y.rg+"?api-version=2022-09-01", "")
	for range 200 {
		y.work()
		if _, ok := y.d.machineKeys.ByID(a.MachineID); !ok {
			return
		}
	}
	t.Error("the key outlives its group")
}

// A machine that joined is opened by the data actions of its kind, a virtual
// machine by those of its own; the two built-in roles have both.
func TestEnroll_DataActionsAreOfTheKind(t *testing.T) {
	y := newYard(t)
	a, err := y.join(protocol.JoinRequest{Token: y.joinToken("admin", y.rg), Name: "web"}, "key")
	y.must(err)
	for name, actions := range map[string]string{"virtual": `"Microsoft.Compute/virtualMachines/login/action"`, "hybrid": `"Microsoft.HybridCompute/machines/login/action"`} {
		role := map[string]string{"virtual": "00000000-0000-4000-8000-0000000000ca", "hybrid": "00000000-0000-4000-8000-0000000000cb"}[name]
		y.want(201, "admin", "PUT", y.subscription()+"/providers/Microsoft.Authorization/roleDefinitions/"+role+"?api-version=2022-04-01",
			`{"properties":{"roleName":"`+name+`","type":"CustomRole","assignableScopes":["`+y.subscription()+`"],"permissions":[{"dataActions":[`+actions+`]}]}}`)
		y.assign(y.rg, role, y.person(name))
	}
	y.assign(y.machine("web"), rbac.VMAdministratorLogin, y.person("root"))
	_, m := y.d.trust.Manifest()
	answer, err := y.d.machines.Poll(t.Context(), audit.By{Principal: a.MachineID, Type: audit.Machine, At: time.Now()}, protocol.PollRequest{Capability: 1, Epoch: m.Epoch, Manifest: m.Version})
	y.must(err)
	var doc protocol.SnapshotDocument
	y.must(json.Unmarshal(answer.Snapshot.Payload, &doc))
	got := map[string]protocol.Access{}
	for _, p := range doc.Principals {
		got[p.ObjectID] = p.Access
	}
	if got[y.ids["virtual"]] != protocol.None || got[y.ids["hybrid"]] != protocol.Login || got[y.ids["root"]] != protocol.Admin {
		t.Errorf("%v of %v", got, y.ids)
	}
	who, _ := y.want(200, "admin", "GET", y.machine("web")+"/providers/Sallyport.Access/whoCanLogIn"+hybridVersion, "")["value"].([]any)
	wide, _ := y.want(200, "admin", "GET", y.rg+"/providers/Sallyport.Access/whoCanLogIn"+hybridVersion, "")["value"].([]any)
	if len(who) != 2 || len(wide) != 2 {
		t.Errorf("at the machine %v, at the group %v", who, wide)
	}
}

// What a machine says of itself is kept by part, shown to who may read it, and not
// to who may only read the machine to log in.
func TestEnroll_Inventory(t *testing.T) {
	y := newYard(t)
	a, err := y.join(protocol.JoinRequest{Token: y.joinToken("admin", y.rg), Name: "web"}, "key")
	y.must(err)
	by := audit.By{Principal: a.MachineID, Type: audit.Machine, CorrelationID: zeroID, At: time.Now()}
	say := func(i protocol.Inventory) { y.t.Helper(); y.must(y.d.machines.Inventory(t.Context(), by, i)) }
	say(protocol.Inventory{System: &protocol.InventorySystem{Kernel: "6.1"}, Sudoers: &protocol.InventorySudoers{Lines: []protocol.InventoryLine{{File: "/etc/sudoers", Text: "root ALL=(ALL) ALL"}}}})
	parts := func() map[string]any {
		p, _ := y.want(200, "admin", "GET", y.machine("web")+"/providers/Sallyport.Access/machines/default"+hybridVersion+"&$expand=inventory", "")["properties"].(map[string]any)
		i, _ := p["inventory"].(map[string]any)
		return i
	}
	lines := protocol.InventoryLine{File: "/etc/sudoers", Text: "more"}
	if err := y.d.machines.Inventory(t.Context(), by, protocol.Inventory{Sudoers: &protocol.InventorySudoers{Lines: []protocol.InventoryLine{lines}}}); !fault.Is(err, fault.Exhausted) {
		t.Errorf("a machine rewrites what it said without pause: %v", err)
	}
	y.must(y.d.store.Write(t.Context(), func(t *store.Tx) error {
		held, err := t.InventoryParts(a.MachineID)
		for name, part := range held {
			err = errors.Join(err, t.PutInventoryPart(a.MachineID, name, part.Document, time.Now().Add(-time.Minute)))
		}
		return err
	}))
	first := parts()
	system, _ := first["system"].(map[string]any)
	if value, _ := system["value"].(map[string]any); value["kernel"] != "6.1" || first["claimedBy"] != "the machine" || len(first) != 3 {
		t.Fatalf("%v", first)
	}
	say(protocol.Inventory{Sudoers: &protocol.InventorySudoers{}})
	if now := parts(); len(now) != 3 || now["system"].(map[string]any)["changedAt"] != system["changedAt"] || now["sudoers"].(map[string]any)["changedAt"] == first["sudoers"].(map[string]any)["changedAt"] {
		t.Errorf("%v", now)
	}
	if err := y.d.machines.Inventory(t.Context(), by, protocol.Inventory{System: &protocol.InventorySystem{Kernel: "\x1b"}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("out of bounds: %v", err)
	}
	y.assign(y.machine("web"), rbac.VMUserLogin, y.person("user"))
	y.want(200, "user", "GET", y.machine("web")+"/providers/Sallyport.Access/machines/default"+hybridVersion, "")
	y.want(403, "user", "GET", y.machine("web")+"/providers/Sallyport.Access/machines/default"+hybridVersion+"&$expand=inventory", "")
	y.must(y.d.machines.Remove(t.Context(), by, a.MachineID))
	y.must(y.d.store.Read(t.Context(), func(t *store.Tx) error {
		left, err := t.InventoryParts(a.MachineID)
		if len(left) != 0 {
			y.t.Error("it outlives its machine")
		}
		return err
	}))
}
