package httpd

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"sallyport/internal/fault"
)

// Limit is how often one address may use a class of operations.
type Limit struct {
	PerSecond float64
	Burst     int
}

// maxAddresses bounds the memory of the limiter; beyond it everything is
// forgotten, which errs towards letting requests through.
const maxAddresses = 50_000

type limiter struct {
	limits map[string]Limit
	mu     sync.Mutex
	byKey  map[string]*rate.Limiter
}

func newLimiter(limits map[string]Limit) *limiter {
	return &limiter{limits: limits, byKey: map[string]*rate.Limiter{}}
}

// allow takes one token of the address's bucket for the class.
func (l *limiter) allow(class, address string, at time.Time) error {
	limit := l.limits[class]
	key := class + " " + address
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.byKey[key]
	if b == nil {
		if len(l.byKey) >= maxAddresses {
			clear(l.byKey)
		}
		b = rate.NewLimiter(rate.Limit(limit.PerSecond), limit.Burst)
		l.byKey[key] = b
	}
	if !b.AllowN(at, 1) {
		return fault.New(fault.Exhausted, "TooManyRequests", "too many requests from this address").WithRemedy("Wait a few seconds and try again.")
	}
	return nil
}
