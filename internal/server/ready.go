package server

import (
	"context"
	"sync"
	"time"

	"sallyport/internal/httpd/operations"
	"sallyport/internal/store"
)

const (
	// readyWait is how long the store may take to answer a probe.
	readyWait = 2 * time.Second
	// maxLag is how far the indexes may be behind the store.
	maxLag = 2 * time.Second
	// maxBackwards is how far the clock may be behind what is signed or
	// recorded; machines allow as much.
	maxBackwards = 5 * time.Minute
	// lagEvery is how often the lag is measured.
	lagEvery = 250 * time.Millisecond
)

// ready runs the checks of GET /readyz. The reasons in the answer name no file,
// no address and no person; the log has the cause.
func (d *deployment) ready(ctx context.Context) map[string]string {
	state := map[string]string{"store": operations.OK, "indexes": operations.OK, "keys": operations.OK, "clock": operations.OK, "tls": d.tls.ready(), "audit": d.collectorsReady()}
	fail := func(check, public string, err error) {
		state[check] = public
		cause := public
		if err != nil {
			cause = err.Error()
		}
		d.cfg.Log.WarnContext(ctx, "not ready", "check", check, "error", cause)
	}
	newest, err := d.newestRecord(ctx)
	if err != nil {
		fail("store", "the store does not answer", err)
	}
	now := d.cfg.Now()
	if err := d.replica.fresh(); err != nil {
		fail("indexes", "this server is out of touch with the others", err)
	}
	if d.lag.now(now) > maxLag {
		fail("indexes", "the indexes are behind the store", nil)
	}
	if err := d.trust.ready(); err != nil {
		fail("keys", "a key is not open", err)
	}
	for _, p := range authorities() {
		if key, err := d.keys.Signer(p); err != nil {
			continue // said above
		} else if err := reachable(key); err != nil {
			fail("keys", "the process that holds the "+string(p)+" key does not answer", err)
		}
	}
	_, manifest := d.trust.Manifest()
	if floor := manifest.IssuedAt; now.Add(maxBackwards).Before(floor) || now.Add(maxBackwards).Before(newest) {
		fail("clock", "the clock is behind what this deployment has recorded", nil)
	}
	return state
}

// newestRecord is the time of the newest audit record: one read of the store,
// and a clock that the past has seen.
func (d *deployment) newestRecord(ctx context.Context) (at time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	answered := make(chan error, 1)
	var found time.Time
	go func() {
		answered <- d.store.Read(ctx, func(t *store.Tx) error {
			records, err := t.AuditRecords(store.AuditFilter{Limit: 1})
			if len(records) == 1 {
				found = records[0].Time
			}
			return err
		})
	}()
	select {
	case err := <-answered:
		return found, err
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
}

// positions are two places in the change feed.
type positions struct {
	stored  func() int64 // of the newest committed change
	indexed func() int64 // of the newest change that every index holds
}

// lagMeter measures how long the indexes take to reach what is stored: it
// remembers one stored position and when it was seen, until they are there.
type lagMeter struct {
	at positions

	mu     sync.Mutex
	target int64
	since  time.Time
	last   time.Duration // of the last target that took longer than a sample
}

// sample looks at both positions.
func (l *lagMeter) sample(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	indexed, stored := l.at.indexed(), l.at.stored()
	switch {
	case indexed >= stored:
		l.last, l.target = 0, stored
	case indexed >= l.target:
		if l.since.IsZero() {
			l.since = now
		}
		l.last, l.target, l.since = now.Sub(l.since), stored, now
		return
	default:
		return
	}
	l.since = time.Time{}
}

// now is the lag at a time: zero when the indexes hold everything.
func (l *lagMeter) now(now time.Time) time.Duration {
	l.sample(now)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() {
		return 0
	}
	return max(l.last, now.Sub(l.since))
}

// run samples until the context ends.
func (l *lagMeter) run(ctx context.Context, clock func() time.Time) {
	tick := time.NewTicker(lagEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.sample(clock())
		}
	}
}
