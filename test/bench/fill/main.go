// Command fill puts a large company into a new deployment's store, through the
// store's own methods, while no server runs: 200,000 users in 20,000 groups,
// 100,000 machines with an identity and the login extension in 10,000 resource
// groups of 100 subscriptions, and 1,000,000 role assignments.
//
//	fill STATE-FOLDER
//	fill STATE-FOLDER AGENTS RESOURCE-GROUP
//
// It runs as the owner of the folder and prints the resource id of one machine.
// The second form puts nothing but so many joined machines into a resource group
// that is there, with the keys of package agents.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"sallyport/internal/directory"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
	"sallyport/internal/store"
	"sallyport/test/bench/agents"
)

// The sizes.
const (
	users         = 200_000
	groups        = 20_000
	perGroup      = 25 // members of a group
	subscriptions = 100
	perSub        = 100 // resource groups
	perRG         = 10  // machines
	atRG          = 10  // assignments at a resource group
	atMachine     = 9   // assignments at a machine
	step          = 20_000
)

func main() {
	if len(os.Args) != 2 && len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: fill STATE-FOLDER [AGENTS RESOURCE-GROUP]")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "fill:", err)
		os.Exit(1)
	}
}

func run(state string, fleet []string) error {
	st, err := store.Open(context.Background(), store.Config{Path: filepath.Join(state, "store.db"), Now: time.Now, Writer: "fill"})
	if err != nil {
		return err
	}
	f := &filler{store: st, at: virtualMachine, key: func(i int) (string, error) { return fmt.Sprintf("thumbprint-%d", i), nil }}
	if len(fleet) == 0 {
		err = f.all()
	} else {
		err = f.fleet(fleet[0], fleet[1])
	}
	return errors.Join(err, st.Close())
}

// fleet puts machines with keys that somebody can show into a resource group.
func (f *filler) fleet(count, group string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	f.at = func(i int) string {
		return fmt.Sprintf("%s/providers/Microsoft.Compute/virtualMachines/simulated%d", group, i)
	}
	f.key = func(i int) (string, error) { return protocol.Thumbprint(agents.Key(i).Public()) }
	return errors.Join(f.known(), f.each(n, f.machine))
}

// filler puts rows in steps of one transaction each.
type filler struct {
	store  *store.Store
	tenant directory.Tenant
	root   string // id of the root management group
	now    time.Time

	at  func(i int) string          // resource id of a machine
	key func(i int) (string, error) // thumbprint of its key
}

func (f *filler) all() error {
	return errors.Join(f.known(), f.people(), f.places(), f.assignments())
}

// known reads what the deployment says of itself.
func (f *filler) known() error {
	return f.store.Read(context.Background(), func(t *store.Tx) error {
		var err error
		f.now = t.Now()
		if f.tenant, _, err = t.TenantRecord(); err != nil {
			return err
		}
		list, err := t.ListResources(resource.Range{Type: resource.TypeManagementGroup})
		for _, r := range list {
			f.root = r.ID.String()
		}
		return err
	})
}

// each runs put for 0 to n-1, many in one transaction.
func (f *filler) each(n int, put func(t *store.Tx, i int) error) error {
	for from := 0; from < n; from += step {
		if err := f.store.Write(context.Background(), func(t *store.Tx) error {
			for i := from; i < min(n, from+step); i++ {
				if err := put(t, i); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// The kinds of ids.
const (
	kindUser = iota + 1
	kindGroup
	kindIdentity
	kindApp
	kindMachine
	kindAssignment
	kindSubscription
)

func id(kind, n int) string {
	return fmt.Sprintf("%08x-0000-4%03x-8000-%012x", n, kind, uint64(n)*2654435761%(1<<48))
}

func (f *filler) people() error {
	err := f.each(users, func(t *store.Tx, i int) error {
		uid, err := t.NextPOSIXID()
		if err != nil {
			return err
		}
		name := fmt.Sprintf("person%06d", i)
		return t.PutUser(directory.User{ID: id(kindUser, i), UPN: name + "@" + f.tenant.Domains[0], DisplayName: "Person " + name, Enabled: true, UID: uid, CreatedAt: f.now, NotBefore: f.now})
	})
	if err != nil {
		return err
	}
	return f.each(groups, func(t *store.Tx, i int) error {
		if err := t.PutGroup(directory.Group{ID: id(kindGroup, i), DisplayName: fmt.Sprintf("group%05d", i), CreatedAt: f.now}); err != nil {
			return err
		}
		for m := range perGroup {
			if _, err := t.AddMember(directory.Member{GroupID: id(kindGroup, i), ID: id(kindUser, (i*perGroup+m*8)%users), Type: directory.MemberUser}); err != nil {
				return err
			}
		}
		if i%10 != 0 { // nine of ten groups are in another one
			_, err := t.AddMember(directory.Member{GroupID: id(kindGroup, i-i%10), ID: id(kindGroup, i), Type: directory.MemberGroup})
			return err
		}
		return nil
	})
}

func resourceGroup(n int) scope.ID {
	return scope.ResourceGroup(id(kindSubscription, n/perSub), fmt.Sprintf("group%d", n%perSub))
}

func virtualMachine(n int) string {
	return fmt.Sprintf("%s/providers/Microsoft.Compute/virtualMachines/machine%d", resourceGroup(n/perRG), n%perRG)
}

func (f *filler) places() error {
	err := f.each(subscriptions, func(t *store.Tx, i int) error {
		return t.PutResource(resource.Resource{ID: scope.Subscription(id(kindSubscription, i)), Above: f.root, State: resource.Succeeded, Properties: json.RawMessage(`{"displayName":"s","state":"Enabled"}`),
			Revision: 1, Observed: 1, CreatedAt: f.now, ChangedAt: f.now, ETag: "1"})
	})
	if err != nil {
		return err
	}
	err = f.each(subscriptions*perSub, func(t *store.Tx, i int) error {
		return t.PutResource(f.resource(resourceGroup(i), nil, `{}`, ""))
	})
	if err != nil {
		return err
	}
	return f.each(subscriptions*perSub*perRG, f.machine)
}

func (f *filler) resource(at scope.ID, identity *resource.Identity, properties, private string) resource.Resource {
	r := resource.Resource{ID: at, Location: "southcentralus", Identity: identity, State: resource.Succeeded, Properties: json.RawMessage(properties),
		Revision: 1, Observed: 1, CreatedAt: f.now, ChangedAt: f.now, ETag: "1"}
	if private != "" {
		r.Private = json.RawMessage(private)
	}
	return r
}

// machine is a virtual machine that has joined, its identity and its extension.
func (f *filler) machine(t *store.Tx, i int) error {
	at, err := scope.Parse(f.at(i))
	if err != nil {
		return err
	}
	thumbprint, err := f.key(i)
	if err != nil {
		return err
	}
	uid, err := t.NextPOSIXID()
	if err != nil {
		return err
	}
	err = t.PutServicePrincipal(directory.ServicePrincipal{ID: id(kindIdentity, i), AppID: id(kindApp, i), DisplayName: at.Name(), Type: directory.TypeManagedIdentity,
		ResourceID: at.String(), Enabled: true, UID: uid, CreatedAt: f.now})
	if err != nil {
		return err
	}
	identity := &resource.Identity{Type: resource.SystemAssigned, PrincipalID: id(kindIdentity, i), TenantID: f.tenant.ID}
	vm := f.resource(at, identity, `{"hardwareProfile":{"vmSize":"Standard_B1s"},"osProfile":{"computerName":"machine","adminUsername":"azureuser"}}`,
		fmt.Sprintf(`{"machineId":%q,"power":"running","seenPower":"running","provided":true}`, id(kindMachine, i)))
	if err := t.PutResource(vm); err != nil {
		return err
	}
	extension, err := scope.Parse(at.String() + "/extensions/AADSSHLoginForLinux")
	if err != nil {
		return err
	}
	if err := t.PutResource(f.resource(extension, nil, `{"publisher":"Microsoft.Azure.ActiveDirectory","type":"AADSSHLoginForLinux","typeHandlerVersion":"1.0"}`,
		fmt.Sprintf(`{"machine":%q,"revision":1,"enabled":true}`, id(kindMachine, i)))); err != nil {
		return err
	}
	return t.PutMachine(machine.Machine{ID: id(kindMachine, i), ResourceID: at, Thumbprint: thumbprint, JoinedAt: f.now, Hostname: at.Name(), OS: "Debian GNU/Linux 12",
		OpenSSH: "OpenSSH_9.2p1", Agent: "0.1.0", Report: machine.Reached{Revision: 1, Provisioned: "Succeeded", At: f.now}})
}

// assignments are to users and, every second one, to groups.
func (f *filler) assignments() error {
	rg, vm := subscriptions*perSub*atRG, subscriptions*perSub*perRG*atMachine
	err := f.each(rg+vm, func(t *store.Tx, i int) error {
		at := resourceGroup(i / atRG)
		if i >= rg {
			var err error
			if at, err = scope.Parse(virtualMachine((i - rg) / atMachine)); err != nil {
				return err
			}
		}
		who, kind := id(kindUser, i*31%users), "User"
		if i%2 == 1 {
			who, kind = id(kindGroup, i*17%groups), "Group"
		}
		return t.PutRoleAssignment(rbac.Assignment{ID: id(kindAssignment, i), Scope: at, RoleID: rbac.VMUserLogin, PrincipalID: who, PrincipalType: kind, CreatedAt: f.now, UpdatedAt: f.now})
	})
	if err == nil {
		fmt.Println(virtualMachine(4711))
	}
	return err
}
