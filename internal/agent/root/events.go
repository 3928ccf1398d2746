package root

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"

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

	mu         sync.Mutex
	events     []protocol.MachineEvent
	generation int64
	changed    chan struct{} // closed and replaced when something is added or poke is called
}

func openSpool(path string, owner uint32) (*spool, error) {
	s := &spool{path: path, changed: make(chan struct{})}
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
	close(s.changed)
	s.changed = make(chan struct{})
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// poke wakes whoever waits for news.
func (s *spool) poke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	close(s.changed)
	s.changed = make(chan struct{})
}

// news is the number of times that poke was called.
func (s *spool) news() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}

// take forgets what the server has and returns the oldest of the rest, with a
// channel that closes when more come.
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
