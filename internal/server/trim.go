package server

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	trimEvery = 15 * time.Second
	// trimHeld is what the heap may keep of the system's memory anyway, and
	// trimAllocated how much must have been allocated since the last look for
	// another to be worth a collection.
	trimHeld      = 16 << 20
	trimAllocated = 16 << 20
)

// trim gives memory back that a burst of sign-ins has left: a password hash
// takes megabytes for a moment, and an idle process would keep them for minutes.
func (d *deployment) trim(ctx context.Context) error {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	var t trimmer
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if t.due() {
				debug.FreeOSMemory()
			}
		}
	}
}

// trimmer remembers how much had been allocated when it last said yes.
type trimmer struct{ allocated uint64 }

func (t *trimmer) due() bool {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(samples)
	held := samples[0].Value.Uint64() + samples[1].Value.Uint64() + samples[2].Value.Uint64()
	allocated := samples[3].Value.Uint64()
	if held < trimHeld || allocated-t.allocated < trimAllocated {
		return false
	}
	t.allocated = allocated
	return true
}
