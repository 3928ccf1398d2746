package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
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

// fleet is a deployment in process with machines that keep a poll open each, as
// the handlers of their requests would: everything but HTTP and TLS.
type fleet struct {
	d        *deployment
	machines []scope.ID
	ids      []string

	mu    sync.Mutex
	began time.Time
	until int64 // position that all must hold
	took  []time.Duration
	done  chan struct{} // closed when as many as are expected hold it
	want  int
}

const fleetPeople = 100

func fleetID(kind, n int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", 0x0f000000+kind, n) }

// newFleet makes the deployment: machines in resource groups of ten, all in one
// subscription, and people with roles.
func newFleet(tb testing.TB, d *deployment, size int) *fleet {
	tb.Helper()
	f := &fleet{d: d}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = d.follow.run(ctx) })
	f.fill(tb, size)
	for i := range size {
		all.Go(func() { f.polls(ctx, i) })
	}
	tb.Cleanup(func() { cancel(); all.Wait() })
	return f
}

func (f *fleet) fill(tb testing.TB, size int) {
	tb.Helper()
	vm := func(n int) scope.ID {
		id, err := scope.Parse(fmt.Sprintf("/subscriptions/%s/resourceGroups/rg%d/providers/Microsoft.Compute/virtualMachines/vm%d", fleetID(1, 0), n/10, n))
		if err != nil {
			tb.Fatal(err)
		}
		return id
	}
	for begin := 0; begin < size; begin += 500 {
		f.write(tb, func(t *store.Tx) error {
			for n := begin; n < min(begin+500, size); n++ {
				id := fleetID(2, n)
				f.machines, f.ids = append(f.machines, vm(n)), append(f.ids, id)
				if err := t.PutMachine(machine.Machine{ID: id, ResourceID: vm(n), Thumbprint: id}); err != nil {
					return err
				}
				if err := t.PutResource(resource.Resource{ID: vm(n), State: resource.Succeeded, Revision: 1, Observed: 1, ETag: "1", Properties: json.RawMessage(`{}`), Private: json.RawMessage(fmt.Sprintf(`{"machineId":%q}`, id))}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	f.write(tb, func(t *store.Tx) error {
		for n := range fleetPeople {
			if err := t.PutUser(directory.User{ID: fleetID(3, n), UPN: fmt.Sprintf("p%d@corp.example", n), DisplayName: "P", Enabled: true, UID: uint32(directory.FirstPOSIXID + 1000 + n)}); err != nil {
				return err
			}
			if err := t.PutRoleAssignment(rbac.Assignment{ID: fleetID(4, n), Scope: scope.Subscription(fleetID(1, 0)), RoleID: rbac.VMUserLogin, PrincipalID: fleetID(3, n)}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f *fleet) write(tb testing.TB, change func(*store.Tx) error) {
	tb.Helper()
	if err := f.d.follow.Write(context.Background(), change); err != nil {
		tb.Fatal(err)
	}
}

// polls is one machine.
func (f *fleet) polls(ctx context.Context, n int) {
	held := protocol.PollRequest{Capability: protocol.Capability, Manifest: f.d.manifest.Version, ManifestEpoch: f.d.manifest.Epoch, WaitMillis: 60_000}
	by := audit.By{Principal: f.ids[n], Type: audit.Machine}
	for ctx.Err() == nil {
		a, err := f.d.machines.Poll(ctx, by, held)
		at := time.Now()
		if err != nil {
			return
		}
		var version struct {
			Epoch    int64     `json:"epoch"`
			Version  int64     `json:"version"`
			IssuedAt time.Time `json:"issuedAt"`
		}
		if a.Accounts != nil && json.Unmarshal(a.Accounts.Payload, &version) == nil {
			held.AccountsEpoch, held.Accounts = version.Epoch, version.Version
		}
		if a.Snapshot != nil && json.Unmarshal(a.Snapshot.Payload, &version) == nil {
			held.Epoch, held.Version, held.IssuedAt = version.Epoch, version.Version, version.IssuedAt
		}
		f.held(max(held.Version, held.Accounts), at)
	}
}

// held notes that a machine holds a version.
func (f *fleet) held(version int64, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done == nil || version < f.until {
		return
	}
	if f.took = append(f.took, at.Sub(f.began)); len(f.took) == f.want {
		close(f.done)
		f.done = nil
	}
}

// settled waits until every machine is known to hold everything.
func (f *fleet) settled(tb testing.TB) {
	tb.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		now := f.d.follow.Position()
		if !slices.ContainsFunc(f.ids, func(id string) bool { return f.d.machines.HoldsUntil(id, now) < now }) {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatal("machines do not hold everything after two minutes")
		}
		wait(context.Background(), 20*time.Millisecond, nil)
	}
}

// push changes something and returns how long it took until each of the machines
// that are told had the answer, sorted.
func (f *fleet) push(tb testing.TB, want int, change func(*store.Tx) error) []time.Duration {
	tb.Helper()
	f.settled(tb)
	done := make(chan struct{})
	f.mu.Lock()
	f.began, f.until, f.took, f.want, f.done = time.Now(), f.d.follow.Position()+1, nil, want, done
	f.mu.Unlock()
	f.write(tb, change)
	select {
	case <-done:
	case <-time.After(time.Minute):
		tb.Fatalf("%d of %d machines were told within a minute", len(f.took), want)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.Sort(f.took)
	return f.took
}

// changes of the fleet, by name: how many machines each concerns, and how it is
// made the nth time.
func (f *fleet) changes() map[string]struct {
	want int
	make func(n int) func(*store.Tx) error
} {
	type change = struct {
		want int
		make func(n int) func(*store.Tx) error
	}
	toggle := func(id string, at scope.ID) func(int) func(*store.Tx) error {
		return func(n int) func(*store.Tx) error {
			return func(t *store.Tx) error {
				if n%2 == 1 {
					_, err := t.DeleteRoleAssignment(id)
					return err
				}
				return t.PutRoleAssignment(rbac.Assignment{ID: id, Scope: at, RoleID: rbac.VMAdministratorLogin, PrincipalID: fleetID(3, 0)})
			}
		}
	}
	return map[string]change{
		"role at all machines": {len(f.ids), toggle(fleetID(5, 0), scope.Subscription(fleetID(1, 0)))},
		"role at one machine":  {1, toggle(fleetID(5, 1), f.machines[len(f.machines)/2])},
		"account disabled": {len(f.ids), func(n int) func(*store.Tx) error {
			return func(t *store.Tx) error {
				return t.PutUser(directory.User{ID: fleetID(3, 1), UPN: "p1@corp.example", DisplayName: "P", Enabled: n%2 == 1, UID: uint32(directory.FirstPOSIXID + 1001), NotBefore: t.Now()})
			}
		}},
	}
}

// TestPush_EveryChangeReachesWhomItConcerns: with many polls open, a change is
// told to exactly the machines that it concerns, which then count as having
// acknowledged it.
func TestPush_EveryChangeReachesWhomItConcerns(t *testing.T) {
	f := newFleet(t, rig(t, time.Now), 200)
	for name, c := range f.changes() {
		for n := range 2 {
			if got := f.push(t, c.want, c.make(n)); len(got) != c.want {
				t.Errorf("%s: %d machines", name, len(got))
			}
		}
	}
	f.settled(t)
}

// BenchmarkPush is the time from a change to the answer of each waiting poll
// that it concerns, in process: p50-ms, p99-ms, max-ms over all rounds.
func BenchmarkPush(b *testing.B) {
	for _, size := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("machines=%d", size), func(b *testing.B) {
			f := newFleet(b, rig(b, time.Now), size)
			changes := f.changes()
			for _, name := range []string{"role at one machine", "account disabled", "role at all machines"} {
				b.Run(name, func(b *testing.B) {
					var took []time.Duration
					for n := range 2 * b.N {
						took = append(took, f.push(b, changes[name].want, changes[name].make(n))...)
					}
					slices.Sort(took)
					at := func(q float64) float64 { return took[min(len(took)-1, int(q*float64(len(took))))].Seconds() * 1000 }
					b.ReportMetric(at(0.5), "p50-ms")
					b.ReportMetric(at(0.99), "p99-ms")
					b.ReportMetric(at(1), "max-ms")
				})
			}
		})
	}
}
