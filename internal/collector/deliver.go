package collector

import (
	"context"
	"errors"
	"sync"
	"time"

	"sallyport/internal/audit"
)

// Output takes records. It returns nil only when all of them were taken; after
// an error it may get some of them again.
type Output interface {
	Send(ctx context.Context, records []audit.Record) error
}

// Queue is where records wait. The store is behind it.
type Queue interface {
	// Hold makes holder the one that delivers until a time; ok is false while
	// another holds the output.
	Hold(ctx context.Context, output, holder string, until time.Time) (ok bool, err error)
	// Next returns the records behind the output's cursor, and the cursor behind
	// them.
	Next(ctx context.Context, output string, limit int) ([]audit.Record, audit.Cursor, error)
	// Delivered stores the cursor.
	Delivered(ctx context.Context, output string, c audit.Cursor) error
}

// Config is what a Deliverer stands on.
type Config struct {
	Name   string // of the output: "syslog", "otlp"
	Holder string // this process among those that share the store
	Output Output
	Queue  Queue
	Now    func() time.Time
	Wait   func(ctx context.Context, d time.Duration)
	// Count is told of every attempt: how many records went, or the error.
	Count func(records int, err error)
}

// Deliverer carries records to one output.
type Deliverer struct {
	cfg Config

	mu    sync.Mutex
	fails int
	since time.Time // of the first failure in a row
	last  error
}

// New makes a Deliverer.
func New(cfg Config) *Deliverer { return &Deliverer{cfg: cfg} }

const (
	batch     = 500
	idle      = time.Second
	firstWait = time.Second
	lastWait  = time.Minute
	// held is how long one process delivers before another may; it renews at a
	// third of it.
	held = 30 * time.Second
)

// Run delivers until the context ends.
func (d *Deliverer) Run(ctx context.Context) {
	var until time.Time
	for ctx.Err() == nil {
		now := d.cfg.Now()
		if until.Sub(now) < held*2/3 {
			ok, err := d.cfg.Queue.Hold(ctx, d.cfg.Name, d.cfg.Holder, now.Add(held))
			if !ok || err != nil {
				d.cfg.Wait(ctx, held/3)
				continue
			}
			until = now.Add(held)
		}
		n, err := d.once(ctx)
		switch {
		case err != nil:
			d.cfg.Wait(ctx, d.failed(ctx, err))
		case n == 0:
			d.cfg.Wait(ctx, idle)
		}
	}
}

// once delivers one batch. The cursor moves after the output has taken it: a
// death in between sends the batch again.
func (d *Deliverer) once(ctx context.Context) (int, error) {
	records, cursor, err := d.cfg.Queue.Next(ctx, d.cfg.Name, batch)
	if err != nil || len(records) == 0 {
		return 0, err
	}
	limited, cancel := context.WithTimeout(ctx, held/3)
	defer cancel()
	if err := d.cfg.Output.Send(limited, records); err != nil {
		return 0, err
	}
	if err := d.cfg.Queue.Delivered(ctx, d.cfg.Name, cursor); err != nil {
		return 0, err
	}
	d.mu.Lock()
	d.fails, d.last = 0, nil
	d.mu.Unlock()
	d.cfg.Count(len(records), nil)
	return len(records), nil
}

// failed notes a failure and returns how long to wait: doubled by every one.
func (d *Deliverer) failed(ctx context.Context, err error) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	d.cfg.Count(0, err)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails == 0 {
		d.since = d.cfg.Now()
	}
	d.fails, d.last = d.fails+1, err
	return min(firstWait<<min(d.fails-1, 10), lastWait)
}

// Failing returns since when the output takes nothing, and why; a nil error
// when it is well.
func (d *Deliverer) Failing() (since time.Time, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.since, d.last
}

// errAddress is what is said of an address that cannot be understood.
var errAddress = errors.New("it is none of unix:///PATH, udp://HOST:PORT, tcp://HOST:PORT and tls://HOST:PORT")
