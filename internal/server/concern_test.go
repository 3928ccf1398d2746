package server

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/conditional"
	"sallyport/internal/directory"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/oauth"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/rollout"
	"sallyport/internal/scope"
	"sallyport/internal/sshca"
	"sallyport/internal/store"
)

// crowd is a small company on a real store whose every part changes at random.
type crowd struct {
	t    *testing.T
	d    *deployment
	rand *rand.Rand
}

const crowdSize = 4 // users, groups, subscriptions, groups of each, machines of each, roles

func crowdID(kind, n int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", kind, n) }

// The kinds of a crowd's ids.
const (
	crowdUser = iota + 1
	crowdGroup
	crowdSubscription
	crowdMachine
	crowdAssignment
	crowdRole
)

func (c *crowd) pick() int { return c.rand.IntN(crowdSize) }

func (c *crowd) group() scope.ID {
	return scope.ResourceGroup(crowdID(crowdSubscription, c.pick()%2), fmt.Sprintf("rg%d", c.pick()%2))
}

func (c *crowd) vm() (scope.ID, string) {
	n := c.pick()
	id, err := scope.Parse(fmt.Sprintf("/subscriptions/%s/resourceGroups/rg%d/providers/Microsoft.Compute/virtualMachines/vm%d", crowdID(crowdSubscription, n%2), n/2%2, n))
	if err != nil {
		c.t.Fatal(err)
	}
	return id, crowdID(crowdMachine, n)
}

// at is vm where it is now: it may have been moved to the other group.
func (c *crowd) at(t *store.Tx) (scope.ID, string, error) {
	id, machineID := c.vm()
	r, ok, err := t.ResourceOfMachine(machineID)
	if ok {
		id = r.ID
	}
	return id, machineID, err
}

// other is where a machine's resource would be in the other group.
func other(id scope.ID) (scope.ID, error) {
	from, to := "/rg0/", "/rg1/"
	if strings.Contains(id.String(), to) {
		from, to = to, from
	}
	return scope.Parse(strings.Replace(id.String(), from, to, 1))
}

// move moves a machine with its extension to the other group, and lets the roles
// given at it go.
func (c *crowd) move(t *store.Tx) error {
	id, _, err := c.at(t)
	if err != nil {
		return err
	}
	inside, err := t.ListResources(resource.Range{Under: id})
	if err != nil {
		return err
	}
	if r, ok, err := t.ResourceByID(id.Key()); err != nil {
		return err
	} else if ok {
		inside = append(inside, r)
	}
	for _, r := range inside {
		from := r.ID
		if r.ID, err = other(from); err != nil {
			return err
		}
		if err := t.MoveResource(from, r); err != nil {
			return err
		}
	}
	return t.DeleteRoleAssignmentsUnder(id)
}

func (c *crowd) place() scope.ID {
	switch c.pick() {
	case 0:
		id, _ := c.vm()
		if moved, err := other(id); err == nil && c.pick() == 0 {
			return moved
		}
		return id
	case 1:
		return c.group()
	case 2:
		return scope.Subscription(crowdID(crowdSubscription, c.pick()%2))
	default:
		return scope.ManagementGroup(fmt.Sprintf("mg%d", c.pick()%2))
	}
}

func (c *crowd) resource(id scope.ID, above, private string) resource.Resource {
	r := resource.Resource{ID: id, Above: above, State: resource.Succeeded, Revision: 1, Observed: 1, Properties: json.RawMessage(`{}`), ETag: "1"}
	if private != "" {
		r.Private = json.RawMessage(private)
	}
	if c.rand.IntN(2) == 0 {
		r.Identity = &resource.Identity{Type: resource.SystemAssigned}
	}
	return r
}

// changes are all ways in which a company changes.
func (c *crowd) changes() []func(*store.Tx) error {
	return []func(*store.Tx) error{
		func(t *store.Tx) error {
			n := c.pick()
			return t.PutUser(directory.User{ID: crowdID(crowdUser, n), UPN: fmt.Sprintf("u%d@corp.example", n), DisplayName: fmt.Sprint(c.pick()), UID: uint32(directory.FirstPOSIXID + 100 + n), Enabled: c.pick() > 0, NotBefore: t.Now()})
		},
		func(t *store.Tx) error { return t.DeleteUser(crowdID(crowdUser, c.pick())) },
		func(t *store.Tx) error {
			return t.PutGroup(directory.Group{ID: crowdID(crowdGroup, c.pick()), DisplayName: "g"})
		},
		func(t *store.Tx) error { return t.DeleteGroup(crowdID(crowdGroup, c.pick())) },
		func(t *store.Tx) error {
			_, err := t.AddMember(directory.Member{GroupID: crowdID(crowdGroup, c.pick()), ID: crowdID(crowdUser, c.pick()), Type: directory.MemberUser})
			return err
		},
		func(t *store.Tx) error {
			_, err := t.AddMember(directory.Member{GroupID: crowdID(crowdGroup, c.pick()), ID: crowdID(crowdGroup, c.pick()), Type: directory.MemberGroup})
			return err
		},
		func(t *store.Tx) error {
			_, err := t.RemoveMember(crowdID(crowdGroup, c.pick()), crowdID(crowdUser+c.pick()%2, c.pick()))
			return err
		},
		c.assign, c.assign, c.assign,
		func(t *store.Tx) error {
			_, err := t.DeleteRoleAssignment(crowdID(crowdAssignment, c.rand.IntN(3*crowdSize)))
			return err
		},
		func(t *store.Tx) error { return t.DeleteRoleAssignmentsUnder(c.place()) },
		func(t *store.Tx) error {
			action := []string{rbac.ActionLogin, rbac.ActionLoginAsAdmin, "Microsoft.Compute/virtualMachines/read", rbac.ActionLogin}[c.pick()]
			return t.PutRoleDefinition(rbac.Definition{ID: crowdID(crowdRole, c.pick()%2), Name: fmt.Sprint("role", c.pick()%2), Permissions: []rbac.Permission{{DataActions: []string{action}}}, AssignableScopes: []string{"/"}})
		},
		func(t *store.Tx) error { _, err := t.DeleteRoleDefinition(crowdID(crowdRole, c.pick()%2)); return err },
		c.putVM, c.deleteVM, c.move, c.extend,
		func(t *store.Tx) error {
			return t.PutResource(c.resource(scope.Subscription(crowdID(crowdSubscription, c.pick()%2)), scope.ManagementGroup(fmt.Sprintf("mg%d", c.pick()%2)).String(), ""))
		},
		func(t *store.Tx) error {
			return t.PutResource(c.resource(scope.ManagementGroup("mg0"), []string{scope.ManagementGroup("mg1").String(), scope.Root().String()}[c.pick()%2], ""))
		},
		func(t *store.Tx) error {
			_, machineID := c.vm()
			return t.PutEnding(machine.Ending{Session: protocol.Session{ID: crowdID(10, c.rand.IntN(1000))}, MachineID: machineID, At: t.Now()})
		},
		func(t *store.Tx) error {
			return t.PutSettings(oauth.Settings{LongestSession: []int{0, 5, 60, 600}[c.pick()]})
		},
		func(t *store.Tx) error {
			return t.PutConditionalPolicy(conditional.Policy{ID: crowdID(11, c.pick()), State: conditional.Enabled})
		},
		func(t *store.Tx) error { return t.PutAgentUpgrade(c.upgrade(c.pick()%2, c.pick()%2)) },
		func(t *store.Tx) error { return t.DropAgentUpgrade(fmt.Sprint("u", c.pick()%2)) },
		func(t *store.Tx) error {
			return t.PutRevocation(sshca.Revocation{Serial: fmt.Sprint(c.rand.IntN(1000)), At: t.Now(), Ends: t.Now().Add(time.Hour)})
		},
		func(t *store.Tx) error {
			return t.PutApplication(directory.Application{ID: crowdID(9, c.pick()), AppID: crowdID(9, c.pick()), DisplayName: "a"})
		},
	}
}

func (c *crowd) upgrade(n, ring int) rollout.Upgrade {
	state := []rollout.State{rollout.Running, rollout.Running, rollout.Paused, rollout.Succeeded}[c.pick()]
	return rollout.Upgrade{Name: fmt.Sprint("u", n), ID: crowdID(8, n), Version: "2.0", Rings: []rollout.Ring{"50%", "all"}, Wait: time.Minute, Timeout: time.Hour, State: state, Ring: ring,
		DoneAt: time.Unix(int64(c.pick()), 0), CreatedAt: time.Unix(int64(n), 0)}
}

func (c *crowd) putVM(t *store.Tx) error {
	id, machineID, err := c.at(t)
	if err != nil {
		return err
	}
	return t.PutResource(c.resource(id, "", fmt.Sprintf(`{"machineId":%q}`, machineID)))
}

func (c *crowd) deleteVM(t *store.Tx) error {
	id, _, err := c.at(t)
	if err != nil {
		return err
	}
	return t.DeleteResource(id)
}

func (c *crowd) extend(t *store.Tx) error {
	id, machineID, err := c.at(t)
	if err != nil {
		return err
	}
	extension, err := scope.Parse(id.String() + "/extensions/AADSSHLoginForLinux")
	if err != nil {
		return err
	}
	if c.pick() == 0 {
		return t.DeleteResource(extension)
	}
	return t.PutResource(c.resource(extension, "", fmt.Sprintf(`{"machine":%q,"revision":1,"enabled":%t}`, machineID, c.pick() > 0)))
}

func (c *crowd) assign(t *store.Tx) error {
	role := []string{rbac.VMUserLogin, rbac.VMAdministratorLogin, crowdID(crowdRole, 0), crowdID(crowdRole, 1)}[c.pick()]
	return t.PutRoleAssignment(rbac.Assignment{ID: crowdID(crowdAssignment, c.rand.IntN(3*crowdSize)), Scope: c.place(), RoleID: role, PrincipalID: crowdID(crowdUser+c.pick()%2, c.pick())})
}

// told is what a machine holds: its poll and, from capability 2 on, its table of
// accounts and its grants.
type told struct {
	protocol.PollRequest
	accounts map[string]protocol.Account
	grants   []protocol.Grant
	people   []protocol.Principal
}

// news polls for a machine and reports whether it is told something else.
func (c *crowd) news(s *machine.Service, machineID string, held *told) bool {
	c.t.Helper()
	a, err := s.Poll(c.t.Context(), audit.By{Principal: machineID, Type: audit.Machine}, held.PollRequest)
	if err != nil {
		c.t.Fatal(err)
	}
	if a.Manifest != nil {
		m := c.d.manifest
		held.Manifest, held.ManifestEpoch = m.Version, m.Epoch
	}
	if a.Accounts != nil {
		c.takeAccounts(*a.Accounts, held)
	}
	if a.Snapshot != nil {
		doc, err := protocol.OpenSnapshot(*a.Snapshot, c.d.manifest.For(protocol.Snapshot))
		if err != nil {
			c.t.Fatal(err)
		}
		if doc.Accounts > held.Accounts {
			c.t.Fatalf("a snapshot wants accounts of version %d, and %d is held", doc.Accounts, held.Accounts)
		}
		held.Epoch, held.Version, held.IssuedAt, held.grants, held.people = doc.Epoch, doc.Version, doc.IssuedAt, doc.Grants, doc.Principals
	}
	return a.Snapshot != nil || a.Accounts != nil
}

func (c *crowd) takeAccounts(e protocol.Envelope, held *told) {
	c.t.Helper()
	doc, err := protocol.OpenAccounts(e, c.d.manifest.For(protocol.Snapshot))
	if err != nil {
		c.t.Fatal(err)
	}
	if doc.From == 0 {
		held.accounts = map[string]protocol.Account{}
	} else if doc.From != held.Accounts {
		c.t.Fatalf("accounts since %d for a machine that holds %d", doc.From, held.Accounts)
	}
	for _, a := range doc.Changed {
		held.accounts[a.ObjectID] = a
	}
	for _, id := range doc.Removed {
		delete(held.accounts, id)
	}
	held.AccountsEpoch, held.Accounts = doc.Epoch, doc.Version
}

// joined is what the table and the grants of a machine come to.
func (h *told) joined() []protocol.Principal {
	list := []protocol.Principal{}
	for _, id := range slices.Sorted(maps.Keys(h.accounts)) {
		grant := protocol.Grant{}
		for _, g := range h.grants {
			if g.ObjectID == id {
				grant = g
			}
		}
		list = append(list, h.accounts[id].Principal(grant))
	}
	return list
}

// company is a crowd with a second service, which serves machines of the first
// protocol version, that are told everything at once.
func company(t *testing.T) (*crowd, *machine.Service) {
	t.Helper()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	d := rig(t, func() time.Time { now = now.Add(time.Microsecond); return now })
	first := d.machines
	if err := d.connectMachines(); err != nil {
		t.Fatal(err)
	}
	return &crowd{t: t, d: d, rand: rand.New(rand.NewPCG(1, 2))}, first
}

// write changes the company. A change that the store refuses (a name taken, say)
// is no change.
func (c *crowd) write(f func(*store.Tx) error) {
	c.t.Helper()
	_ = c.d.store.Write(c.t.Context(), f)
	if err := c.d.follow.catchUp(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
}

// TestConcern_NoChangeIsForgotten changes a company at random: whenever a
// machine is told something new, the touches must have said so, or its poll
// would have slept through it. And what machines are told in two parts is what
// machines of the first protocol version are told in one.
func TestConcern_NoChangeIsForgotten(t *testing.T) {
	c, first := company(t)
	parts, whole := map[string]*told{}, map[string]*told{}
	for n := range crowdSize {
		id := crowdID(crowdMachine, n)
		c.write(func(tx *store.Tx) error {
			return tx.PutMachine(machine.Machine{ID: id, ResourceID: scope.Root(), Thumbprint: fmt.Sprint(n)})
		})
		parts[id], whole[id] = &told{PollRequest: protocol.PollRequest{Capability: protocol.Capability}}, &told{PollRequest: protocol.PollRequest{Capability: 1}}
		c.news(c.d.machines, id, parts[id])
		c.news(first, id, whole[id])
	}
	changes := c.changes()
	told, spared := 0, 0
	for range 3000 {
		since := c.d.follow.Position()
		c.write(changes[c.rand.IntN(len(changes))])
		to := c.d.follow.Position()
		for id, held := range parts {
			behind := held.Accounts
			concerned := c.d.machines.Concerned(id, since, to, false)
			until := c.d.machines.HoldsUntil(id, to)
			news := c.news(c.d.machines, id, held)
			if news && until >= to {
				t.Fatalf("machine %s counts as holding everything up to %d and is told something new", id, to)
			}
			if news && c.news(c.d.machines, id, held) || c.d.machines.HoldsUntil(id, to) < to {
				t.Fatalf("machine %s holds everything and does not count so", id)
			}
			if news && !concerned && held.Accounts == behind {
				t.Fatalf("machine %s is told something new and no touch said so", id)
			}
			concerned = concerned || c.d.machines.Concerned(id, since, to, true)
			if c.news(first, id, whole[id]) && !concerned {
				t.Fatalf("machine %s of the first version is told something new and no touch said so", id)
			}
			if got, want := held.joined(), whole[id].people; !reflect.DeepEqual(got, want) {
				t.Fatalf("in two parts %+v\nin one %+v", got, want)
			}
			if news {
				told++
			}
			if !concerned && since != to {
				spared++
			}
		}
	}
	if told < 500 || spared < 500 {
		t.Errorf("%d times told, %d times spared: the test has become blind", told, spared)
	}
}

// TestConcern_AWatchedRingWakesNobody: whether a ring is through changes with every
// word of its machines, and is nobody else's matter.
func TestConcern_AWatchedRingWakesNobody(t *testing.T) {
	c, _ := company(t)
	id := crowdID(crowdMachine, 0)
	c.write(func(tx *store.Tx) error {
		return tx.PutMachine(machine.Machine{ID: id, ResourceID: scope.Root(), Thumbprint: "t"})
	})
	u := c.upgrade(0, 0)
	for _, step := range []struct {
		change func()
		wakes  bool
	}{{func() { u.State = rollout.Running }, true}, {func() { u.DoneAt = u.DoneAt.Add(time.Hour) }, false}, {func() { u.DoneAt = time.Time{} }, false}, {func() { u.Ring = 1 }, true}, {func() { u.State = rollout.Stopped }, true}} {
		step.change()
		since := c.d.follow.Position()
		c.write(func(tx *store.Tx) error { return tx.PutAgentUpgrade(u) })
		if got := c.d.machines.Concerned(id, since, c.d.follow.Position(), false); got != step.wakes {
			t.Errorf("%+v: wakes %v", u, got)
		}
	}
}

// TestAccounts_WholeWhereTheFeedDoesNotTell: what a machine holds of another
// epoch, or of before the feed, is replaced whole.
func TestAccounts_WholeWhereTheFeedDoesNotTell(t *testing.T) {
	c, _ := company(t)
	id := crowdID(crowdMachine, 0)
	c.write(func(tx *store.Tx) error {
		return tx.PutMachine(machine.Machine{ID: id, ResourceID: scope.Root(), Thumbprint: "t"})
	})
	for name, change := range map[string]func(*protocol.PollRequest){
		"another epoch":       func(r *protocol.PollRequest) { r.AccountsEpoch++ },
		"nothing":             func(r *protocol.PollRequest) { r.Accounts = 0 },
		"before the feed":     func(r *protocol.PollRequest) { r.Accounts = -7 },
		"of a newer position": func(r *protocol.PollRequest) { r.AccountsEpoch, r.Accounts = 0, 1<<40 },
	} {
		held := &told{PollRequest: protocol.PollRequest{Capability: protocol.Capability}}
		c.news(c.d.machines, id, held)
		change(&held.PollRequest)
		held.accounts = nil
		if c.news(c.d.machines, id, held); len(held.accounts) == 0 {
			t.Errorf("%s: no whole table", name)
		}
	}
}
