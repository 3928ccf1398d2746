package types_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/scope"
	"sallyport/internal/store"
	"sallyport/internal/store/storetest"
)

const (
	tenantID = "11111111-1111-4111-8111-111111111111"
	subID    = "22222222-2222-4222-8222-222222222222"
	sub      = "/subscriptions/" + subID
	rg       = sub + "/resourceGroups/AzureADLinuxVM"
	vmID     = rg + "/providers/Microsoft.Compute/virtualMachines/myVM"
	nicID    = rg + "/providers/Microsoft.Network/networkInterfaces/myVMVMNic"
	pipID    = rg + "/providers/Microsoft.Network/publicIPAddresses/myVMPublicIP"
	uaiID    = rg + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/uai"
	extID    = vmID + "/extensions/AADSSHLoginForLinux"

	admin = "00000000-0000-4000-8000-00000000000a"
	alice = "00000000-0000-4000-8000-00000000000b"
	crew  = "00000000-0000-4000-8000-00000000000c"
)

// lab is a back end and the agents in it, in memory.
type lab struct {
	mu      sync.Mutex
	power   map[string]string
	agents  map[string]types.AgentState
	down    error
	ensured int
	made    types.NewMachine // the last one
	ops     []string
	mute    bool // agents do not report
}

func (l *lab) Ensure(_ context.Context, m types.NewMachine) (types.MachineState, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down != nil {
		return types.MachineState{}, l.down
	}
	l.ensured++
	l.power[m.ID] = types.Running
	l.made = m
	l.ops = append(l.ops, "ensure "+m.Name)
	return l.state(m.ID), nil
}

func (l *lab) state(id string) types.MachineState {
	if p, ok := l.power[id]; ok {
		return types.MachineState{Power: p, PrivateAddress: "10.77.0.2", Loopback: "127.77.0.2", SSHPort: 22}
	}
	return types.MachineState{Power: types.Absent}
}

func (l *lab) Power(_ context.Context, id, op string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops = append(l.ops, op)
	l.power[id] = map[string]string{types.PowerStart: types.Running, types.PowerRestart: types.Running, types.PowerStop: types.Stopped}[op]
	return l.down
}

func (l *lab) Remove(_ context.Context, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down == nil {
		delete(l.power, id)
	}
	return l.down
}

func (l *lab) State(_ context.Context, id string) (types.MachineState, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state(id), l.down
}

func (l *lab) Agent(id string) (types.AgentState, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.agents[id]
	return a, ok
}

// people is a directory of three.
type people struct{}

func (people) Tenant() directory.Tenant {
	return directory.Tenant{ID: tenantID, DisplayName: "Example", Domains: []string{"example.test"}}
}
func (people) User(id string) (directory.User, bool) {
	return directory.User{ID: id}, id == admin || id == alice
}
func (people) Group(id string) (directory.Group, bool) { return directory.Group{ID: id}, id == crew }
func (people) ServicePrincipal(string) (directory.ServicePrincipal, bool) {
	return directory.ServicePrincipal{}, false
}
func (people) GroupsOf(id string) []string {
	if id == alice {
		return []string{crew}
	}
	return nil
}

// world is a server without its edges.
type world struct {
	t        *testing.T
	ahead    atomic.Int64 // nanoseconds since the beginning of the test's time
	store    *storetest.Store
	rights   *rbac.Index
	tree     *resource.Tree
	machines *types.Machines
	engine   *resource.Engine
	auth     types.Authorization
	accounts types.Accounts
	lab      *lab
	allowed  atomic.Bool // the preview extension
	loggedIn func(context.Context, string) ([]string, error)
	retired  []string // machines whose keys were made worth nothing
	writing  atomic.Bool
	salted   func()          // runs when a password is hashed
	hashed   [2]atomic.Int32 // passwords: while nobody held the store, while it was held
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, tree: resource.NewTree(), machines: types.NewMachines(),
		lab: &lab{power: map[string]string{}, agents: map[string]types.AgentState{}}}
	w.rights = rbac.NewIndex(w.tree)
	w.store = storetest.New(t, func() time.Time {
		w.advance(time.Microsecond)
		return w.now()
	}, storetest.Index(w.tree.Refresh), storetest.Index(w.machines.Refresh), storetest.Index(w.rights.Refresh))
	var err error
	w.engine, err = resource.New(resource.Config{Types: types.All(types.Config{Backend: w.lab, Agents: w.lab, Rand: salts{w}, PreviewAllowed: w.allowed.Load,
		Server: "server.example:443",
		LoggedIn: func(ctx context.Context, machine string) ([]string, error) {
			if w.loggedIn == nil {
				return nil, nil
			}
			return w.loggedIn(ctx, machine)
		}, Now: w.now, Retire: func(_ resource.Tx, _ audit.By, machineID string) error {
			w.retired = append(w.retired, machineID)
			return nil
		},
		Stored: func(ctx context.Context, id scope.ID) (r resource.Resource, ok bool, err error) {
			err = w.store.Read(ctx, func(tx *store.Tx) error { r, ok, err = tx.ResourceByID(id.Key()); return err })
			return r, ok, err
		}}), Rights: w.rights, Tenant: people{}.Tenant, Rand: rand.Reader, Covers: w.covers,
		Write: func(ctx context.Context, f func(resource.Tx) error) error {
			return storetest.Write[resource.Tx](w.store)(ctx, func(tx resource.Tx) error {
				w.writing.Store(true)
				defer w.writing.Store(false)
				return f(tx)
			})
		},
		Read: storetest.Read[resource.Tx](w.store)})
	if err != nil {
		t.Fatal(err)
	}
	w.auth = types.Authorization{Engine: w.engine, Roles: w.rights, People: people{},
		Write: storetest.Write[types.AuthorizationTx](w.store)}
	w.accounts = types.Accounts{Engine: w.engine, Tenant: people{}.Tenant,
		Write: storetest.Write[types.AccountsTx](w.store),
		Read:  storetest.Read[types.AccountsTx](w.store)}
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		return types.Bootstrap(tx, audit.By{Type: audit.Task}, types.Setup{TenantID: tenantID, AdministratorID: admin, SubscriptionID: subID, SubscriptionName: "Main",
			Assignments: [2]string{"00000000-0000-4000-8000-0000000000f1", "00000000-0000-4000-8000-0000000000f2"}})
	}))
	return w
}

// salts is the source of randomness: it counts who hashes, and when.
type salts struct{ w *world }

func (s salts) Read(b []byte) (int, error) {
	if strings.Contains(string(debug.Stack()), "shacrypt.New") {
		at := 0
		if s.w.writing.Load() {
			at = 1
		}
		s.w.hashed[at].Add(1)
		if at == 0 && s.w.salted != nil {
			s.w.salted()
		}
	}
	return rand.Read(b)
}

// covers is the real rule's beginning: who is no Owner covers nobody with a role.
func (w *world) covers(by audit.By, principal string) error {
	if by.Principal != admin && len(w.rights.Assignments(rbac.Filter{Principals: []string{principal}})) > 0 {
		return errors.New("more than you hold")
	}
	return nil
}

func (w *world) now() time.Time {
	return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).Add(time.Duration(w.ahead.Load()))
}

func (w *world) advance(d time.Duration) { w.ahead.Add(int64(d)) }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func as(principal string, groups ...string) audit.By {
	return audit.By{Principal: principal, Type: audit.User, Name: "someone@example.test", Groups: groups, CorrelationID: "c"}
}

func id(text string) scope.ID {
	x, err := scope.Parse(text)
	if err != nil {
		panic(err)
	}
	return x
}

func (w *world) put(by audit.By, at, body string) (resource.Result, error) {
	return w.engine.Put(w.t.Context(), by, resource.Request{ID: id(at), Body: []byte(body)})
}

func (w *world) mustPut(at, body string) resource.Result {
	w.t.Helper()
	r, err := w.put(as(admin), at, body)
	w.must(err)
	return r
}

// grant gives a role and returns the assignment's GUID.
func (w *world) grant(by audit.By, principal, role, at string) (string, error) {
	w.t.Helper()
	name := fmt.Sprintf("00000000-0000-4000-8000-%012d", w.store.Position()) // differs each time
	_, err := w.auth.PutAssignment(w.t.Context(), by, id(at), name, []byte(fmt.Sprintf(`{"properties":{"roleDefinitionId":"%s/providers/Microsoft.Authorization/roleDefinitions/%s","principalId":"%s"}}`, sub, role, principal)))
	return name, err
}

func (w *world) mustGrant(principal, role, at string) string {
	w.t.Helper()
	name, err := w.grant(as(admin), principal, role, at)
	w.must(err)
	return name
}

// settle lets the workers work and the agents follow, until nothing is behind
// or the given time has passed.
func (w *world) settle(limit time.Duration) {
	w.t.Helper()
	for end := w.now().Add(limit); w.now().Before(end); {
		w.follow()
		worked, next, err := w.engine.Step(w.t.Context())
		w.must(err)
		if worked {
			continue
		}
		behind := false
		w.must(w.store.Read(w.t.Context(), func(tx *store.Tx) error {
			var err error
			_, behind, err = tx.NextDue()
			return err
		}))
		if !behind {
			return
		}
		w.advance(next)
	}
}

// follow makes every running machine's agent report what it was told.
func (w *world) follow() {
	w.lab.mu.Lock()
	defer w.lab.mu.Unlock()
	for machine, power := range w.lab.power {
		want, ok := w.machines.Want(machine)
		if !ok || power != types.Running || w.lab.mute {
			continue
		}
		w.lab.agents[machine] = types.AgentState{LastSeen: w.now(), Version: "1", OS: "Debian 12", Reached: want.Revision, Provisioned: "Succeeded"}
	}
}

func key(t *testing.T) string {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}

func vmBody(k string) string {
	return `{"location":"southcentralus","identity":{"type":"SystemAssigned"},"properties":{"hardwareProfile":{"vmSize":"Standard_DS1_v2"},
"storageProfile":{"imageReference":{"publisher":"Canonical","offer":"UbuntuServer","sku":"18.04-LTS","version":"latest"},"osDisk":{"createOption":"fromImage","name":null}},
"osProfile":{"computerName":"myVM","adminUsername":"azureuser","linuxConfiguration":{"disablePasswordAuthentication":true,"ssh":{"publicKeys":[{"path":"/home/azureuser/.ssh/authorized_keys","keyData":"` + k + ` me@laptop"}]}}},
"networkProfile":{"networkInterfaces":[{"id":"` + nicID + `"}]}}}`
}

const extBody = `{"location":"southcentralus","properties":{"publisher":"Microsoft.Azure.ActiveDirectory","type":"AADSSHLoginForLinux","typeHandlerVersion":"1.0","autoUpgradeMinorVersion":true}}`

// withNetwork makes the group and what a machine needs in it.
func (w *world) withNetwork() *world {
	w.t.Helper()
	w.mustPut(rg, `{"location":"southcentralus"}`)
	w.mustPut(pipID, `{"location":"southcentralus","properties":{"publicIPAllocationMethod":null}}`)
	w.mustPut(rg+"/providers/Microsoft.Network/virtualNetworks/myVMVNET", `{"location":"southcentralus","properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]},"subnets":[{"name":"myVMSubnet","properties":{"addressPrefix":"10.0.0.0/24"}}]}}`)
	w.mustPut(nicID, `{"location":"southcentralus","properties":{"ipConfigurations":[{"name":"ipconfigmyVM","properties":{"subnet":{"id":"`+rg+`/providers/Microsoft.Network/virtualNetworks/myVMVNET/subnets/myVMSubnet"},"publicIPAddress":{"id":"`+pipID+`"}}}]}}`)
	return w
}

func (w *world) withMachine() *world {
	w.t.Helper()
	w.withNetwork()
	w.settle(time.Minute)
	w.mustPut(vmID, vmBody(key(w.t)))
	w.settle(time.Minute)
	return w
}

func (w *world) get(at string, expand bool) map[string]any {
	w.t.Helper()
	body, err := w.engine.Get(w.t.Context(), as(admin), id(at), expand)
	w.must(err)
	b, err := json.Marshal(body)
	w.must(err)
	var out map[string]any
	w.must(json.Unmarshal(b, &out))
	return out
}

// dig walks a JSON value by keys and list positions.
func dig(v any, path ...any) any {
	for _, p := range path {
		switch k := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[k]
		case int:
			l, _ := v.([]any)
			if k >= len(l) {
				return nil
			}
			v = l[k]
		}
	}
	return v
}

func (w *world) status(op *resource.Operation) resource.Status {
	w.t.Helper()
	s, err := w.engine.Operation(w.t.Context(), as(admin), op.ID)
	w.must(err)
	return s
}

func code(err error) string {
	if err == nil {
		return ""
	}
	return fault.As(heard.HearError(err)).Code
}
