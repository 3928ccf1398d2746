package server

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

// crowd is a small company on a real store whose every part changes at random.
type crowd struct {
	t    *testing.T
	d    *deployment
	rand *rand.Rand
	held map[string]protocol.PollRequest // by machine
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

func (c *crowd) place() scope.ID {
	switch c.pick() {
	case 0:
		id, _ := c.vm()
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
		func(t *store.Tx) error {
			id, machineID := c.vm()
			return t.PutResource(c.resource(id, "", fmt.Sprintf(`{"machineId":%q}`, machineID)))
		},
		func(t *store.Tx) error {
			id, _ := c.vm()
			return t.DeleteResource(id)
		},
		func(t *store.Tx) error {
			id, machineID := c.vm()
			extension, err := scope.Parse(id.String() + "/extensions/AADSSHLoginForLinux")
			if err != nil {
				return err
			}
			if c.pick() == 0 {
				return t.DeleteResource(extension)
			}
			return t.PutResource(c.resource(extension, "", fmt.Sprintf(`{"machine":%q,"revision":1,"enabled":%t}`, machineID, c.pick() > 0)))
		},
		func(t *store.Tx) error {
			return t.PutResource(c.resource(scope.Subscription(crowdID(crowdSubscription, c.pick()%2)), scope.ManagementGroup(fmt.Sprintf("mg%d", c.pick()%2)).String(), ""))
		},
		func(t *store.Tx) error {
			return t.PutResource(c.resource(scope.ManagementGroup("mg0"), []string{scope.ManagementGroup("mg1").String(), scope.Root().String()}[c.pick()%2], ""))
		},
		func(t *store.Tx) error {
			return t.PutApplication(directory.Application{ID: crowdID(9, c.pick()), AppID: crowdID(9, c.pick()), DisplayName: "a"})
		},
	}
}

func (c *crowd) assign(t *store.Tx) error {
	role := []string{rbac.VMUserLogin, rbac.VMAdministratorLogin, crowdID(crowdRole, 0), crowdID(crowdRole, 1)}[c.pick()]
	return t.PutRoleAssignment(rbac.Assignment{ID: crowdID(crowdAssignment, c.rand.IntN(3*crowdSize)), Scope: c.place(), RoleID: role, PrincipalID: crowdID(crowdUser+c.pick()%2, c.pick())})
}

// news polls for a machine and reports whether it is told something else.
func (c *crowd) news(machineID string) bool {
	c.t.Helper()
	r := c.held[machineID]
	r.Capability = protocol.Capability
	a, err := c.d.machines.Poll(c.t.Context(), audit.By{Principal: machineID, Type: audit.Machine}, r)
	if err != nil {
		c.t.Fatal(err)
	}
	if a.Manifest != nil {
		r.Epoch, r.ManifestEpoch, r.Manifest = c.d.manifest.Epoch, c.d.manifest.Epoch, c.d.manifest.Version
	}
	if a.Snapshot != nil {
		var doc protocol.SnapshotDocument
		if err := json.Unmarshal(a.Snapshot.Payload, &doc); err != nil {
			c.t.Fatal(err)
		}
		r.Version, r.IssuedAt = doc.Version, doc.IssuedAt
	}
	c.held[machineID] = r
	return a.Snapshot != nil
}

// TestConcern_NoChangeIsForgotten changes a company at random: whenever a
// machine is told something new, the touches must have said so, or its poll
// would have slept through it.
func TestConcern_NoChangeIsForgotten(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	d := rig(t, func() time.Time { now = now.Add(time.Microsecond); return now })
	c := &crowd{t: t, d: d, rand: rand.New(rand.NewPCG(1, 2)), held: map[string]protocol.PollRequest{}}
	write := func(f func(*store.Tx) error) {
		// A change that the store refuses (a name taken, say) is no change.
		if err := d.store.Write(t.Context(), f); err != nil && t.Context().Err() != nil {
			t.Fatal(err)
		}
		if err := d.follow.catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for n := range crowdSize {
		write(func(tx *store.Tx) error {
			return tx.PutMachine(machine.Machine{ID: crowdID(crowdMachine, n), ResourceID: scope.Root(), Thumbprint: fmt.Sprint(n)})
		})
		c.news(crowdID(crowdMachine, n))
	}
	changes := c.changes()
	told, spared := 0, 0
	for range 4000 {
		since := d.follow.Position()
		write(changes[c.rand.IntN(len(changes))])
		for n := range crowdSize {
			id := crowdID(crowdMachine, n)
			concerned := d.machines.Concerned(id, since, d.follow.Position())
			news := c.news(id)
			if news && !concerned {
				t.Fatalf("machine %d is told something new and no touch said so", n)
			}
			if news {
				told++
			}
			if !concerned && since != d.follow.Position() {
				spared++
			}
		}
	}
	if told < 500 || spared < 500 {
		t.Errorf("%d times told, %d times spared: the test has become blind", told, spared)
	}
}
