package httpd

import (
	"hash/maphash"
	"math"
	"sync"
	"time"

	"sallyport/internal/address"
	"sallyport/internal/audit"
	"sallyport/internal/fault"
)

// Limit bounds a class of operations. Rates of zero bound nothing, except
// PerSecond, which every class has.
type Limit struct {
	// PerSecond and Burst bound one place on the network, see address.Network.
	PerSecond float64
	Burst     int
	// PrincipalPerSecond and PrincipalBurst bound one caller, wherever from.
	PrincipalPerSecond float64
	PrincipalBurst     int
	// InFlight is how many requests of the class are worked on at a time; more
	// are refused at once, so that those inside are answered soon.
	InFlight int
}

// The memory of a limiter: so many places and callers are known one by one;
// those beyond share a fixed number of buckets with their neighbourhood. It
// never forgets a bucket that is not full, or a flood from many addresses would
// be a way to start anew.
const (
	maxKnown   = 50_000
	sharedSize = 8192
	sweepAfter = time.Second / 10 // 100,000 machines that a change wakes at once fill and empty the memory several times a second
)

// What a neighbourhood is of begins its name.
const (
	kindPlace  = "net "
	kindCaller = "id  "
	kindLength = len(kindPlace)
)

// errTooMany is the refusal of all limits. Its remedy holds for people; clients
// read Retry-After, where their protocol has it.
func errTooMany(whose string, wait time.Duration) error {
	seconds := int(math.Ceil(max(wait, time.Second).Seconds()))
	return &throttled{
		Err:   fault.New(fault.Exhausted, codeBusy, "The server has received too many requests %s.", whose).WithRemedy("Try again after %d seconds.", seconds),
		After: time.Duration(seconds) * time.Second,
	}
}

// throttled is a refusal that says when to come again.
type throttled struct {
	Err   *fault.Error
	After time.Duration
}

// Error is the operator's view.
func (t *throttled) Error() string { return t.Err.Error() }

// Unwrap returns the fault that is shown.
func (t *throttled) Unwrap() error { return t.Err }

// limiter holds, for each place and caller, the time when its bucket is full
// again: the generic cell rate algorithm (ITU-T I.371), one time a bucket. A
// bucket that is full is the same as none and may be dropped.
type limiter struct {
	limits map[string]Limit
	seed   maphash.Seed

	mu     sync.Mutex
	known  map[bucket]time.Time
	swept  time.Time
	shared map[string][]time.Time // by class, of places and of callers: one's flood must not be another's
}

type bucket struct{ class, who string }

func newLimiter(limits map[string]Limit) *limiter {
	return &limiter{limits: limits, seed: maphash.MakeSeed(), known: map[bucket]time.Time{}, shared: map[string][]time.Time{}}
}

// address takes one token of the place's bucket for the class.
func (l *limiter) address(class, text string, at time.Time) error {
	limit := l.limits[class]
	wait := l.take(bucket{class, address.Network(text)}, kindPlace+address.Wide(text), limit.PerSecond, limit.Burst, at)
	if wait > 0 {
		return errTooMany("from your address", wait)
	}
	return nil
}

// caller takes one token of the caller's bucket for the class.
func (l *limiter) caller(class string, by audit.By, at time.Time) error {
	limit := l.limits[class]
	if limit.PrincipalPerSecond <= 0 || by.Principal == "" {
		return nil
	}
	who := kindCaller + by.Principal
	if wait := l.take(bucket{class, who}, who, limit.PrincipalPerSecond, limit.PrincipalBurst, at); wait > 0 {
		return errTooMany("from "+string(by.Type)+" "+by.Principal, wait)
	}
	return nil
}

// PrincipalLimit bounds callers whom a handler finds out itself: in a token
// request the proof stands in the body.
type PrincipalLimit struct{ limits *limiter }

// NewPrincipalLimit returns a limit of so many a second for each principal.
func NewPrincipalLimit(perSecond float64, burst int) *PrincipalLimit {
	return &PrincipalLimit{newLimiter(map[string]Limit{"": {PrincipalPerSecond: perSecond, PrincipalBurst: burst}})}
}

// Allow takes one token of the caller's bucket, or refuses with 429.
func (p *PrincipalLimit) Allow(by audit.By) error { return p.limits.caller("", by, by.At) }

// take returns 0 and takes a token, or how long to wait for one.
func (l *limiter) take(b bucket, neighbourhood string, perSecond float64, burst int, at time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	full, isKnown := l.known[b]
	if !isKnown && len(l.known) >= maxKnown && at.Sub(l.swept) >= sweepAfter {
		l.swept = at
		for k, t := range l.known {
			if !t.After(at) {
				delete(l.known, k)
			}
		}
	}
	own := isKnown || len(l.known) < maxKnown
	var slot *time.Time
	if !own {
		kind := b.class + " " + neighbourhood[:kindLength]
		if l.shared[kind] == nil {
			l.shared[kind] = make([]time.Time, sharedSize)
		}
		slot = &l.shared[kind][maphash.String(l.seed, neighbourhood)%sharedSize]
		full = *slot
	}
	if full.Before(at) {
		full = at
	}
	each := time.Duration(float64(time.Second) / perSecond)
	full = full.Add(each)
	if wait := full.Sub(at) - time.Duration(burst)*each; wait > 0 {
		return wait
	}
	if own {
		l.known[b] = full
	} else {
		*slot = full
	}
	return 0
}

// gate counts what is worked on. Beyond half of a class's room, one place gets
// a quarter of it at most, so that a flood from one place leaves room.
type gate struct {
	limits map[string]Limit
	// arriving counts requests whose bodies are still on their way instead: they
	// cost memory and no work, so there is more room, in equal shares.
	arriving bool

	mu      sync.Mutex
	classes map[string]*inside
}

type inside struct {
	total int
	from  map[string]int
}

// arrivals is how many bodies may be on their way for each request that may be
// worked on.
const arrivals = 16

func newGate(limits map[string]Limit) *gate {
	return &gate{limits: limits, classes: map[string]*inside{}}
}

// enter lets a request in, or refuses it at once: a request that would wait is
// better sent away while its sender still listens. leave is called once.
func (g *gate) enter(class, text string) (leave func(), err error) {
	room := g.limits[class].InFlight
	if room <= 0 {
		return func() {}, nil
	}
	place := address.Network(text)
	g.mu.Lock()
	defer g.mu.Unlock()
	in := g.classes[class]
	if in == nil {
		in = &inside{from: map[string]int{}}
		g.classes[class] = in
	}
	full := in.total >= room || in.total >= room/2 && in.from[place] >= max(1, room/4)
	if g.arriving {
		full = in.total >= arrivals*room || in.from[place] >= room
	}
	if full {
		return nil, errTooMany("to work on them at once", time.Second)
	}
	in.total++
	in.from[place]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		in.total--
		if in.from[place]--; in.from[place] == 0 {
			delete(in.from, place)
		}
	}, nil
}
