package machine_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/agent/grants"
	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

const (
	ann   = "0bbbbbbb-0000-4000-8000-000000000001"
	bob   = "0bbbbbbb-0000-4000-8000-000000000002"
	eve   = "0bbbbbbb-0000-4000-8000-000000000003" // disabled
	robot = "0bbbbbbb-0000-4000-8000-000000000004"
	staff = "0bbbbbbb-0000-4000-8000-000000000005" // holds crew
	crew  = "0bbbbbbb-0000-4000-8000-000000000006" // holds bob and eve
)

// flat is a tree of one management group.
type flat struct{}

func (flat) Above(id scope.ID) (scope.ID, bool) {
	if id == scope.ManagementGroup(tenantID) {
		return scope.Root(), true
	}
	return scope.ManagementGroup(tenantID), true
}

// town is a rig whose directory and roles are the real indexes.
type town struct {
	*rig
	access machine.Access
	people *directory.Index
	roles  *rbac.Index
	vm     scope.ID
	held   int
}

func newTown(t *testing.T) *town {
	t.Helper()
	w := &town{rig: newRig(t), people: directory.NewIndex(), roles: rbac.NewIndex(flat{})}
	vm, err := scope.Parse(resource.String() + "/providers/Microsoft.Compute/virtualMachines/vm1")
	if err != nil {
		t.Fatal(err)
	}
	w.vm, w.desired.ResourceID = vm, vm
	w.write(func(tx *store.Tx) error {
		user := func(id, name string, enabled bool, uid uint32) error {
			return tx.PutUser(directory.User{ID: id, UPN: name + "@corp.example", DisplayName: name, Enabled: enabled, UID: uid})
		}
		member := func(group, id string, kind directory.MemberType) error {
			_, err := tx.AddMember(directory.Member{GroupID: group, ID: id, Type: kind})
			return err
		}
		return errors.Join(tx.PutTenant(directory.Tenant{ID: tenantID, Domains: []string{"corp.example"}}),
			user(ann, "ann", true, 1879048201), user(bob, "bob", true, 1879048202), user(eve, "eve", false, 1879048203),
			tx.PutServicePrincipal(directory.ServicePrincipal{ID: robot, AppID: robot, DisplayName: "robot", Enabled: true, UID: 1879048204}),
			tx.PutGroup(directory.Group{ID: staff, DisplayName: "Staff"}), tx.PutGroup(directory.Group{ID: crew, DisplayName: "Crew"}),
			member(staff, crew, directory.MemberGroup), member(crew, bob, directory.MemberUser), member(crew, eve, directory.MemberUser))
	})
	w.Service = machine.New(machine.Config{Machines: w.index, Feed: w.rig, Directory: w.people, Roles: w.roles, Resources: w.rig, Keys: w.rig, Now: w.clock, HashKey: []byte("key"), Rand: rand.Reader,
		Read: func(ctx context.Context, f func(machine.Tx) error) error {
			return w.store.Read(ctx, func(tx *store.Tx) error { return f(tx) })
		},
		Write: func(ctx context.Context, f func(machine.Tx) error) error {
			if err := w.store.Write(ctx, func(tx *store.Tx) error { return f(tx) }); err != nil {
				return err
			}
			return w.store.Read(ctx, func(tx *store.Tx) error { return w.index.Load(tx) })
		}})
	w.access = machine.Access{Service: w.Service, People: w.people, Roles: w.roles}
	return w
}

// write stores and brings the indexes up to date.
func (w *town) write(f func(*store.Tx) error) {
	w.t.Helper()
	if err := w.store.Write(w.t.Context(), f); err != nil {
		w.t.Fatal(err)
	}
	if err := w.store.Read(w.t.Context(), func(tx *store.Tx) error {
		return errors.Join(w.people.Load(tx), w.roles.Load(tx))
	}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *town) give(principal, role string, at scope.ID) string {
	w.t.Helper()
	w.held++
	id := fmt.Sprintf("0ccccccc-0000-4000-8000-%012d", w.held)
	w.write(func(tx *store.Tx) error {
		return tx.PutRoleAssignment(rbac.Assignment{ID: id, Scope: at, RoleID: role, PrincipalID: principal})
	})
	return id
}

// joinAndPoll lets the machine join and take over the newest snapshot.
func (w *town) joinAndPoll() protocol.SnapshotDocument {
	w.t.Helper()
	w.joined()
	a, err := w.Poll(w.t.Context(), audit.By{Principal: machineID}, protocol.PollRequest{Capability: protocol.Capability})
	if err != nil {
		w.t.Fatal(err)
	}
	doc, err := protocol.OpenSnapshot(*a.Snapshot, []crypto.PublicKey{w.snapshotKey.Public()})
	if err != nil {
		w.t.Fatal(err)
	}
	table, err := protocol.OpenAccounts(*a.Accounts, []crypto.PublicKey{w.snapshotKey.Public()})
	if err != nil || table.From != 0 || table.Version != doc.Accounts || len(doc.Principals) != 0 {
		w.t.Fatalf("%+v of %+v: %v", table, doc, err)
	}
	for _, account := range table.Changed {
		i := slices.IndexFunc(doc.Grants, func(g protocol.Grant) bool { return g.ObjectID == account.ObjectID })
		grant := protocol.Grant{}
		if i >= 0 {
			grant = doc.Grants[i]
		}
		doc.Principals = append(doc.Principals, account.Principal(grant))
	}
	w.change(nil)
	if _, err := w.Poll(w.t.Context(), audit.By{Principal: machineID}, w.holding(doc)); err != nil {
		w.t.Fatal(err)
	}
	return doc
}

// holding is the poll of a machine that holds a document and its accounts.
func (w *town) holding(doc protocol.SnapshotDocument) protocol.PollRequest {
	return protocol.PollRequest{Capability: protocol.Capability, Manifest: w.manifest.Version, ManifestEpoch: w.manifest.Epoch, AccountsEpoch: doc.Epoch, Accounts: doc.Accounts,
		Epoch: doc.Epoch, Version: doc.Version, IssuedAt: doc.IssuedAt}
}

func line(e machine.Entrant) string {
	var groups []string
	for _, g := range e.Through.Groups {
		groups = append(groups, g.Name)
	}
	return fmt.Sprintf("%s %s %s %s [%s]", e.Principal.Name, e.Principal.Type, e.Access, e.Through.Scope, strings.Join(groups, ">"))
}

func TestWhoCanLogIn_PeopleGroupsAndNobodyElse(t *testing.T) {
	w := newTown(t)
	sub := scope.Subscription(resource.SubscriptionID())
	w.give(ann, rbac.VMUserLogin, sub)
	w.give(ann, rbac.VMAdministratorLogin, w.vm)
	w.give(staff, rbac.VMUserLogin, resource)
	w.give(staff, rbac.VMUserLogin, scope.ManagementGroup(tenantID))
	w.give(robot, rbac.VMUserLogin, w.vm)
	w.give(bob, rbac.Owner, scope.Root())                                        // manages, does not log in
	w.give("0bbbbbbb-0000-4000-8000-00000000dead", rbac.VMUserLogin, w.vm)       // deleted
	w.give(eve, rbac.VMAdministratorLogin, w.vm)                                 // disabled
	w.give(bob, rbac.VMUserLogin, scope.ResourceGroup(sub.Name(), "another-rg")) // elsewhere
	want := map[string][]string{
		w.vm.String(): {"ann@corp.example User admin " + w.vm.String() + " []", "ann@corp.example User login " + sub.String() + " []",
			"bob@corp.example User login " + resource.String() + " [Staff>Crew]", "bob@corp.example User login " + scope.ManagementGroup(tenantID).String() + " [Staff>Crew]", "robot ServicePrincipal login " + w.vm.String() + " []"},
		resource.String(): {"ann@corp.example User login " + sub.String() + " []", "bob@corp.example User login " + resource.String() + " [Staff>Crew]", "bob@corp.example User login " + scope.ManagementGroup(tenantID).String() + " [Staff>Crew]"},
		sub.String():      {"ann@corp.example User login " + sub.String() + " []", "bob@corp.example User login " + scope.ManagementGroup(tenantID).String() + " [Staff>Crew]"},
		"/":               {},
	}
	for at, lines := range want {
		id, err := scope.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, e := range w.access.WhoCanLogIn(id) {
			got = append(got, line(e))
		}
		if !slices.Equal(got, lines) {
			t.Errorf("%s:\n%s", at, strings.Join(got, "\n"))
		}
	}
	// It names exactly those whom the machine is told.
	doc := w.joinAndPoll()
	for _, p := range doc.Principals {
		best := protocol.None
		for _, e := range w.access.WhoCanLogIn(w.vm) {
			if e.Principal.ID == p.ObjectID && best != protocol.Admin {
				best = e.Access
			}
		}
		if best != p.Access {
			t.Errorf("%s: told %s, listed %s", p.LoginName, p.Access, best)
		}
	}
}

func everywhere(scope.ID) bool { return true }

func (w *town) explain(who string, visible func(scope.ID) bool) machine.Explanation {
	w.t.Helper()
	e, err := w.access.Explain(machine.Question{Who: who, MachineID: machineID, ResourceID: w.vm, Visible: visible})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func TestExplain_EveryAssignmentWithItsReason(t *testing.T) {
	w := newTown(t)
	other := scope.ResourceGroup(resource.SubscriptionID(), "other")
	w.give(bob, rbac.Owner, resource)
	w.give(staff, rbac.VMUserLogin, other)
	w.give(crew, rbac.VMAdministratorLogin, resource)
	w.give(bob, rbac.GlobalReader, scope.Directory())
	w.joinAndPoll()
	e := w.explain("BOB@corp.example", everywhere)
	got := []string{}
	for _, a := range e.Assignments {
		got = append(got, fmt.Sprintf("%s %v %s %d: %s", a.RoleName, a.Counts, a.Access, len(a.Groups), a.Why))
	}
	want := []string{
		"Virtual Machine User Login false none 2: its scope is neither " + w.vm.String() + " nor above it",
		"Owner false none 0: the role has no data actions: it manages and does not log in",
		"Virtual Machine Administrator Login true admin 1: the role grants the data action " + rbac.ActionLogin,
	}
	if slices.Sort(got); !slices.Equal(got, sorted(want)) {
		t.Errorf("got %s", strings.Join(got, "\n"))
	}
	if e.Verdict.Access != protocol.Admin || e.Verdict.Reason != "granted" || e.Principal.ID != bob {
		t.Errorf("%+v", e.Verdict)
	}
	for _, s := range e.Steps {
		if !s.Passed || s.Message == "" {
			t.Errorf("%+v", s)
		}
	}
	if m := e.Steps[1].Message; m != "in Staff > Crew, Crew" {
		t.Errorf("groups: %s", m)
	}
	// Who may look at the machine only does not learn of the rest.
	hidden := w.explain(bob, func(s scope.ID) bool { return s.Key() != other.Key() })
	if hidden.Hidden != 1 || len(hidden.Assignments) != 2 {
		t.Errorf("%d hidden, %d shown", hidden.Hidden, len(hidden.Assignments))
	}
}

func sorted(s []string) []string { slices.Sort(s); return s }

func TestExplain_Who(t *testing.T) {
	w := newTown(t)
	for who, code := range map[string]string{crew: "NotAnAccount", "nobody@corp.example": "PrincipalNotFound", "": "PrincipalNotFound", strings.Repeat("x", 9999): "PrincipalNotFound"} {
		if _, err := w.access.Explain(machine.Question{Who: who, MachineID: machineID, ResourceID: w.vm, Visible: everywhere}); err == nil || fault.As(err).Code != code {
			t.Errorf("%.40s: %v", who, err)
		}
	}
	if e := w.explain(robot, everywhere); e.Principal.Type != "ServicePrincipal" || e.Verdict.Reason != "no-snapshot" {
		t.Errorf("%+v", e)
	}
}

// The verdict is the machine's own: for every state of account, role and
// machine, what the agent decides from the snapshot that it was sent.
func TestExplain_VerdictIsTheAgents(t *testing.T) {
	for n := range 2 * 2 * 5 {
		identity, extension := n%2 == 0, n/2%2 == 0
		role := []string{"", rbac.Owner, rbac.Reader, rbac.VMUserLogin, rbac.VMAdministratorLogin}[n/4]
		w := newTown(t)
		w.desired.Identity, w.desired.LoginEnabled = identity, extension
		for _, who := range []string{ann, bob, eve} {
			if role != "" {
				w.give(who, role, resource)
			}
		}
		doc := w.joinAndPoll()
		for _, who := range []string{ann, bob, eve} {
			i := slices.IndexFunc(doc.Principals, func(p protocol.Principal) bool { return p.ObjectID == who })
			p := doc.Principals[i]
			at := w.clock()
			cert := grants.Certificate{ObjectID: who, Principals: []string{p.LoginName, who}, IssuedAt: at, ValidBefore: at.Add(time.Hour)}
			in := grants.Input{Way: grants.SSH, Login: p.LoginName, Now: at, MachineID: machineID, Person: &p, Connection: &grants.Connection{Certificate: cert},
				State: grants.State{Held: true, LoginEnabled: doc.LoginEnabled, Identity: doc.Identity, GoodUntil: doc.GoodUntil, UserStale: 24 * time.Hour, AdminStale: time.Hour}}
			agent, v := grants.Decide(in), w.explain(who, everywhere).Verdict
			if agent.Reason != v.Reason || agent.Allow != (v.Access != protocol.None) {
				t.Errorf("identity %v, extension %v, role %q: the agent says %s, the explanation %+v", identity, extension, role, agent.Reason, v)
			}
		}
	}
}

func TestExplain_WhatTheMachineKnows(t *testing.T) {
	w := newTown(t)
	w.give(ann, rbac.VMUserLogin, w.vm)
	failed := func() string {
		var names []string
		for _, s := range w.explain(ann, everywhere).Steps {
			if !s.Passed {
				names = append(names, s.Name)
			}
		}
		return strings.Join(names, " ")
	}
	if got := failed(); got != "agent snapshot" {
		t.Errorf("before it joined: %q", got)
	}
	doc := w.joinAndPoll()
	if got := failed(); got != "" {
		t.Errorf("up to date: %q", got)
	}
	w.change(func() { w.desired.Revision++ })
	if _, err := w.Poll(t.Context(), audit.By{Principal: machineID}, w.holding(doc)); err != nil {
		t.Fatal(err)
	}
	if e := w.explain(ann, everywhere); failed() != "snapshot" || !strings.Contains(e.Verdict.Message, "has not taken over") {
		t.Errorf("behind: %q, %s", failed(), e.Verdict.Message)
	}
	w.now = w.now.Add(3 * time.Minute)
	if got := failed(); got != "agent snapshot" {
		t.Errorf("silent: %q", got)
	}
	w.now = w.now.Add(25 * time.Hour)
	if v := w.explain(ann, everywhere).Verdict; v.Reason != "stale" || v.Access != protocol.None {
		t.Errorf("a day later: %+v", v)
	}
}

// TestExplain_TheExtensionByItsName: which of the two is installed, and the
// command for the kind of machine that it is.
func TestExplain_TheExtensionByItsName(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*machine.Desired)
		want   string
	}{
		{"certificates", func(*machine.Desired) {}, "AADSSHLoginForLinux is installed"},
		{"preview", func(d *machine.Desired) { d.Preview = true }, "AADLoginForLinux, the preview, is installed"},
		{"none", func(d *machine.Desired) { d.LoginEnabled = false }, "sally vm extension set"},
		{"none, joined", func(d *machine.Desired) {
			d.LoginEnabled = false
			id, err := scope.Parse(resource.String() + "/providers/Microsoft.HybridCompute/machines/host1")
			if err != nil {
				t.Fatal(err)
			}
			d.ResourceID = id
		}, "sally machine extension create"},
	} {
		w := newTown(t)
		c.change(&w.desired)
		w.joinAndPoll()
		steps := w.explain(ann, everywhere).Steps
		i := slices.IndexFunc(steps, func(s machine.Step) bool { return s.Name == "extension" })
		if i < 0 || !strings.Contains(steps[i].Message, c.want) {
			t.Errorf("%s: %+v", c.name, steps)
		}
	}
}
