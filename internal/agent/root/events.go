package root

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/durable"
	"sallyport/internal/machine/protocol"
)

const (
	maxSpool = 10_000 // events kept while the server is away; the oldest go first
	maxBatch = 256    // events in one answer and one report
)

// spool keeps events until the server has them. The file survives a death of
// the agent; it is not synced at every login, so a loss of power may cost the
// last events.
type spool struct {
	path string

	// gather is how long events are collected before they are offered, so that a
	// login is not slowed by the report of its own beginning.
	gather time.Duration

	mu         sync.Mutex
	events     []protocol.MachineEvent
	ripe       bool // events may be taken
	waiting    bool // the gathering time runs
	generation int64
	changed    chan struct{} // closed and replaced when events are ripe or poke is called
}

func openSpool(path string, owner uint32, gather time.Duration) (*spool, error) {
	s := &spool{path: path, gather: gather, changed: make(chan struct{})}
	b, err := durable.Read(path, owner, 64<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(b) {
		var e protocol.MachineEvent
		if protocol.Decode(line, &e) == nil { // the last line may be cut
			s.events = append(s.events, e)
		}
	}
	s.events = s.events[max(0, len(s.events)-maxSpool):]
	s.ripe = len(s.events) > 0
	return s, nil
}

func (s *spool) add(e protocol.MachineEvent) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
	s.events = s.events[max(0, len(s.events)-maxSpool):]
	s.ripen()
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// ripen offers the events now, or when the gathering time is over. The caller
// holds the lock.
func (s *spool) ripen() {
	switch {
	case s.ripe:
	case s.gather == 0 || len(s.events) >= maxBatch:
		s.ripe = true
		s.wake()
	case s.waiting:
	default:
		s.waiting = true
		time.AfterFunc(s.gather, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.waiting, s.ripe = false, len(s.events) > 0
			s.wake()
		})
	}
}

func (s *spool) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// poke wakes whoever waits for news.
func (s *spool) poke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	s.wake()
}

// news is the number of times that poke was called.
func (s *spool) news() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}

// take forgets what the server has and returns the oldest of the rest that are
// ripe, with a channel that closes when more are.
func (s *spool) take(have []string) ([]protocol.MachineEvent, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if len(have) > 0 {
		before := len(s.events)
		s.events = slices.DeleteFunc(s.events, func(e protocol.MachineEvent) bool { return slices.Contains(have, e.ID) })
		if len(s.events) != before {
			err = s.rewrite()
		}
		// What came while the report was under way is gathered anew.
		s.ripe = len(s.events) >= maxBatch
		if len(s.events) > 0 {
			s.ripen()
		}
	}
	if !s.ripe {
		return nil, s.changed, err
	}
	return slices.Clone(s.events[:min(len(s.events), maxBatch)]), s.changed, err
}

// rewrite makes the file hold exactly the events that are left.
func (s *spool) rewrite() error {
	var b bytes.Buffer
	for _, e := range s.events {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		b.Write(append(line, '\n'))
	}
	return durable.Write(s.path, b.Bytes(), 0o600)
}
