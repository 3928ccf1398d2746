package server

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/machine"
	"sallyport/internal/resource/types"
	"sallyport/internal/route"
	"sallyport/internal/store"
)

const (
	// confirmEvery is how often a server of a shared database asks how far the
	// others have written.
	confirmEvery = 50 * time.Millisecond
	// confirmLimit bounds one such question.
	confirmLimit = 500 * time.Millisecond
	// tellEvery is how often servers tell each other whom they have heard of.
	tellEvery = time.Second
	// lifeSign is how long a server must not have written to count as gone.
	lifeSign = 5 * time.Second
	// abilityMachines is what a server with a machine back end says of itself.
	abilityMachines = "machines"
)

// replica is what a server knows of itself among others on one database.
type replica struct {
	now func() time.Time

	mu        sync.Mutex
	shared    bool
	within    time.Duration   // how old what it knows may be: maxLag
	confirmed time.Time       // when the indexes last held all that was committed
	stale     chan struct{}   // closed while this server is stale
	fit       context.Context //nolint:containedctx // ends with fitUntil: what all polls that wait share
	fitUntil  chan struct{}   // the stale that it is of
	isStale   bool
	makers    bool // another server that lives has a machine back end; so it is taken until they have been asked
	made      bool // another server has, or had when it last ran
	beats     map[string]beat
}

type beat struct {
	commits int64
	at      time.Time
}

func newReplica(shared bool, now func() time.Time) *replica {
	return &replica{now: now, shared: shared, within: maxLag, makers: shared, made: shared, confirmed: now(), stale: make(chan struct{}), beats: map[string]beat{}}
}

// fresh refuses while this server may not know what the others have committed:
// a role that was taken away there would still be one here.
func (r *replica) fresh() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.shared {
		return nil
	}
	// By the clock that stops while the computer sleeps, and by the one that does
	// not; the latter may also have been set back.
	now := r.now()
	byWall := now.Round(0).Sub(r.confirmed.Round(0))
	if now.Sub(r.confirmed) <= r.within && byWall <= r.within && byWall >= -r.within {
		return nil
	}
	return fault.New(fault.Unavailable, "ReplicaBehind", "this server has lost touch with the database and does not know who may do what").
		WithRemedy("Try again: another server may answer, and this one does when the database is back.")
}

// behind is how long a machine that knows more than this server is kept waiting.
func (d *deployment) behind() time.Duration {
	if d.store.Shared() {
		return maxLag
	}
	return 0
}

// look opens or closes stale and reports whether that changed.
func (r *replica) look() (stale, changed bool) {
	stale = r.fresh() != nil
	r.mu.Lock()
	defer r.mu.Unlock()
	if changed = stale != r.isStale; !changed {
		return stale, false
	}
	r.isStale = stale
	if stale {
		close(r.stale)
	} else {
		r.stale = make(chan struct{})
	}
	return stale, true
}

// admit refuses requests of a stale server; what is the same on every server at
// all times is answered.
func (d *deployment) admit(row route.Row) error {
	for _, fixed := range []string{"operations.", "oauth.discovery", "oauth.keys", "oauth.instance", "oauth.realm", "oauth.manifest"} {
		if strings.HasPrefix(row.ID, fixed) {
			return nil
		}
	}
	return d.replica.fresh()
}

// whileFresh returns a context that ends with ctx, always the same one, and when
// this server becomes stale.
func (r *replica) whileFresh(ctx context.Context) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.shared:
		return ctx
	case r.fitUntil == r.stale:
		return r.fit
	}
	stale := r.stale
	fit, end := context.WithCancel(ctx)
	r.fit, r.fitUntil = fit, stale
	go func() {
		defer end()
		select {
		case <-stale:
		case <-ctx.Done():
		}
	}()
	return fit
}

// fleeing ends the long polls of a server that becomes stale, so that machines
// ask another one.
func (d *deployment) fleeing(next http.Handler) http.Handler {
	if !d.store.Shared() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == pollPath {
			d.replica.mu.Lock()
			stale := d.replica.stale
			d.replica.mu.Unlock()
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			go func() {
				select {
				case <-stale:
					cancel()
				case <-ctx.Done():
				}
			}()
			r = r.WithContext(ctx)
		}
		next.ServeHTTP(w, r)
	})
}

// confirm keeps this server in touch with the others until ctx ends, or another
// process takes its name, or the database goes back.
func (d *deployment) confirm(ctx context.Context) error {
	if !d.store.Shared() {
		return nil
	}
	tick := time.NewTicker(confirmEvery)
	defer tick.Stop()
	var at int64
	for {
		began := d.cfg.Now()
		position, err := d.caughtUp(ctx)
		if err == nil {
			d.replica.mu.Lock()
			d.replica.confirmed = began
			d.replica.mu.Unlock()
			if position != at {
				d.engine.Wake() // another server may have left work
			}
			at = position
		}
		if stale, changed := d.replica.look(); changed && ctx.Err() == nil {
			cause := ""
			if err != nil {
				cause = err.Error()
			}
			d.cfg.Log.Warn("in touch with the database", "ok", !stale, "error", cause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.store.Lost():
			return d.store.Why()
		case <-tick.C:
		}
	}
}

// caughtUp asks for the newest position and waits until the indexes have it.
func (d *deployment) caughtUp(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, confirmLimit)
	defer cancel()
	position, err := d.store.Confirm(ctx)
	if err != nil {
		return 0, err
	}
	return position, d.follow.wait(ctx, position)
}

// exchange tells the other servers which machines this one has heard of, and
// learns it from them, until ctx ends.
func (d *deployment) exchange(ctx context.Context) error {
	if !d.store.Shared() {
		return nil
	}
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	heard := map[string]int64{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		// A database that is away is said once, by confirm.
		if told := d.machines.Presences(time.Time{}); len(told) > 0 {
			if err := d.store.Write(ctx, func(t *store.Tx) error { return t.PutPresences(told) }); err != nil {
				d.machines.Retell(told)
				continue
			}
		}
		var list []machine.Presence
		var others []store.Replica
		reached := maps.Clone(heard) // how far, if all of it was read
		if err := d.store.Read(ctx, func(t *store.Tx) (err error) {
			if others, err = t.Replicas(); err != nil {
				return err
			}
			list, err = t.PresencesOfOthers(reached)
			return err
		}); err != nil {
			continue
		}
		heard = reached
		d.machines.Heard(list)
		d.replica.note(d.cfg.Replica, others)
	}
}

const (
	// keepEvery is how often a server that is alone keeps which machines went
	// away, and keepAfter how long they have been away by then: what they hold is
	// known after a start too.
	keepEvery = time.Minute
	keepAfter = 2 * connectedWithin
)

// keepPresences keeps, for this server's next run, what machines last held: of
// those that went away, and of all when it stops.
func (d *deployment) keepPresences(ctx context.Context) error {
	if d.store.Shared() {
		return nil // exchange keeps them
	}
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		since := time.Time{}
		select {
		case <-ctx.Done():
		case <-tick.C:
			since = d.cfg.Now().Add(-keepAfter)
		}
		told := d.machines.Presences(since)
		if len(told) == 0 {
			continue
		}
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		if err := d.store.Write(limited, func(t *store.Tx) error { return t.PutPresences(told) }); err != nil {
			d.machines.Retell(told)
			d.cfg.Log.Warn("what machines hold was not kept", "error", err.Error())
		}
		cancel()
	}
	return nil
}

// loadPresences reads what machines last held.
func (d *deployment) loadPresences(ctx context.Context) error {
	return d.store.Read(ctx, func(t *store.Tx) error {
		list, err := t.Presences()
		d.machines.Heard(list)
		return err
	})
}

// note learns from the servers' rows who lives.
func (r *replica) note(self string, list []store.Replica) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	r.makers, r.made = false, false
	for _, x := range list {
		b, known := r.beats[x.Name]
		if !known || b.commits != x.Commits {
			b = beat{x.Commits, now}
			r.beats[x.Name] = b
		}
		r.made = r.made || x.Name != self && x.Ability == abilityMachines
		if x.Name != self && x.Held && x.Ability == abilityMachines && now.Sub(b.at) < lifeSign {
			r.makers = true
		}
	}
}

func (r *replica) othersMake() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.makers
}

// othersMade is othersMake of servers that are away too: a machine that runs
// with one of them is not gone while that one restarts.
func (r *replica) othersMade() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.made
}

// otherBackend is a server without a machine back end among servers that may
// have one: it leaves the work to them.
type otherBackend struct {
	noBackend
	others func() bool
	made   func() bool // others' machines may exist, whether or not they live
}

func (b otherBackend) leave(alone error) error {
	if !b.others() {
		return alone
	}
	return errElsewhere()
}

func errElsewhere() error {
	return fault.New(fault.Unavailable, "MachineBackEndElsewhere", "another server of this deployment makes machines").WithRemedy("Try again.")
}

// Ensure leaves it to another server.
func (b otherBackend) Ensure(context.Context, types.NewMachine) (types.MachineState, error) {
	return types.MachineState{}, b.leave(b.refuse())
}

// Power leaves it to another server.
func (b otherBackend) Power(context.Context, string, string) error { return b.leave(b.refuse()) }

// Remove leaves it to another server.
func (b otherBackend) Remove(context.Context, string) error {
	if b.made() {
		return errElsewhere()
	}
	return nil
}

// State is not known here: a machine of another server is not absent.
func (b otherBackend) State(ctx context.Context, id string) (types.MachineState, error) {
	if b.made() {
		return types.MachineState{}, errElsewhere()
	}
	return b.noBackend.State(ctx, id)
}
