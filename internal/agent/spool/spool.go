package spool

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/internal/machine/protocol"
)

// Config is what a Spool stands on.
type Config struct {
	Path  string // of the file, in a folder of Owner
	Owner uint32
	// Gather is how long events are collected before they are offered, so that a
	// login is not slowed by the report of its own beginning.
	Gather time.Duration
	// Events and Bytes bound what is kept; zero means 10,000 and 8 MiB.
	Events int
	Bytes  int64
	// Make makes an event about the queue itself. Nil makes none.
	Make func(kind string, detail map[string]string) (protocol.MachineEvent, error)
	// Log hears of what goes wrong with the file. Nil hears nothing.
	Log func(format string, args ...any)
}

const (
	// MaxBatch is how many events are handed over at a time; batchBytes bounds
	// their text, so that a report stays within what a server reads.
	MaxBatch   = 256
	batchBytes = 256 << 10

	defaultEvents = 10_000
	defaultBytes  = 8 << 20

	// syncDelay is how much later than an event its line is on the disk, and
	// healDelay how often a disk that takes nothing is tried again.
	syncDelay = 100 * time.Millisecond
	healDelay = time.Second

	// kindFault is the one event that the queue makes itself.
	kindFault = "eventQueue.fail"
)

// Spool is the queue. It is safe for concurrent use.
type Spool struct {
	cfg Config

	mu      sync.Mutex
	entries []entry
	bytes   int64
	next    int64 // number of the next event
	dropped dropped
	file    *os.File // open for appending; nil while lines cannot be written
	dirty   bool     // lines were written and not synced
	stale   bool     // the file must be written anew
	anew    bool     // it is being written anew, and since holds the lines that came meanwhile
	since   []byte
	timer   bool // flush will run
	closed  bool
	trouble string // why the file cannot be written; "" when it can

	ripe       bool // events may be taken
	waiting    bool // the gathering time runs
	generation int64
	changed    chan struct{} // closed and replaced when events are ripe or Poke is called
}

// entry is an event with the length of its line.
type entry struct {
	event protocol.MachineEvent
	size  int64
}

// dropped counts what was given up and has not been told yet, by type.
type dropped map[string]int64

// State is what people are shown of the queue.
type State struct {
	Waiting int    // events that the server has not got
	Dropped int64  // given up, and not yet told
	Trouble string // why the file cannot be written; "" when it can
}

// Open reads what is kept. A file that cannot be read is moved aside and told:
// whether people can log in does not depend on it.
func Open(cfg Config) (*Spool, error) {
	if cfg.Events <= 0 {
		cfg.Events = defaultEvents
	}
	if cfg.Bytes <= 0 {
		cfg.Bytes = defaultBytes
	}
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	s := &Spool{cfg: cfg, next: 1, dropped: dropped{}, changed: make(chan struct{})}
	if err := s.load(); err != nil {
		return nil, err
	}
	s.bound()
	s.stale = true
	s.flush()
	s.ripe = len(s.entries) > 0 || len(s.dropped) > 0
	return s, nil
}

// Add numbers an event and keeps it. Its line is written before Add returns and
// on the disk a moment later; where it cannot be written it is kept in memory,
// which is told.
func (s *Spool) Add(e protocol.MachineEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(e)
	s.ripen()
}

func (s *Spool) add(e protocol.MachineEvent) {
	s.append(s.push(e))
	if s.bound() {
		s.renew()
	}
}

// push numbers an event, keeps it in memory and returns its line.
func (s *Spool) push(e protocol.MachineEvent) []byte {
	e.Sequence = s.next
	s.next++
	line := lineOf(e)
	s.entries = append(s.entries, entry{event: e, size: int64(len(line))})
	s.bytes += int64(len(line))
	return line
}

// bound gives events up until there is room again, with some to spare so that
// it does not happen at every event. It reports whether it did. Until the file is
// written anew it has them still, and whoever opens it gives them up again.
func (s *Spool) bound() bool {
	if len(s.entries) <= s.cfg.Events && s.bytes <= s.cfg.Bytes {
		return false
	}
	left, gone := shrink(s.entries, s.cfg.Events-s.cfg.Events/10, s.cfg.Bytes-s.cfg.Bytes/10)
	s.entries = left
	for _, x := range gone {
		s.bytes -= x.size
		s.dropped[x.event.Type]++
	}
	return true
}

// ripen offers the events now, or when the gathering time is over.
func (s *Spool) ripen() {
	switch {
	case s.ripe:
	case s.cfg.Gather == 0 || len(s.entries) >= MaxBatch:
		s.ripe = true
		s.wake()
	case s.waiting:
	default:
		s.waiting = true
		time.AfterFunc(s.cfg.Gather, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.waiting, s.ripe = false, len(s.entries) > 0
			s.wake()
		})
	}
}

func (s *Spool) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Poke wakes whoever waits for news.
func (s *Spool) Poke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	s.wake()
}

// News is the number of times that Poke was called.
func (s *Spool) News() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}

// State says how full the queue is.
func (s *Spool) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := State{Waiting: len(s.entries), Trouble: s.trouble}
	for _, n := range s.dropped {
		st.Dropped += n
	}
	return st
}

// Take forgets what the server has and returns at most limit (zero: MaxBatch) of
// the rest that are ripe, oldest first, with a channel that closes when more are.
func (s *Spool) Take(have []string, limit int) ([]protocol.MachineEvent, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(have) > 0 && s.forget(have) {
		// What came while the report was under way is gathered anew.
		s.ripe = len(s.entries) >= MaxBatch
		if len(s.entries) > 0 {
			s.ripen()
		}
	}
	if !s.ripe {
		return nil, s.changed
	}
	s.tell()
	if limit <= 0 || limit > MaxBatch {
		limit = MaxBatch
	}
	var batch []protocol.MachineEvent
	var size int64
	for _, x := range s.entries[:min(len(s.entries), limit)] {
		if size += x.size; size > batchBytes && len(batch) > 0 {
			break
		}
		batch = append(batch, x.event)
	}
	return batch, s.changed
}

func (s *Spool) forget(have []string) bool {
	before := len(s.entries)
	s.entries = slices.DeleteFunc(s.entries, func(x entry) bool {
		if !slices.Contains(have, x.event.ID) {
			return false
		}
		s.bytes -= x.size
		return true
	})
	if len(s.entries) == before {
		return false
	}
	// A kill before the file is written anew offers them again; the server knows them.
	s.renew()
	return true
}

// tell turns the count of what was given up into an event, once the server is
// there to hear it.
func (s *Spool) tell() {
	if len(s.dropped) == 0 {
		return
	}
	total, kinds := int64(0), []string{}
	for kind, n := range s.dropped {
		total += n
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, n))
	}
	slices.Sort(kinds)
	text := strings.Join(kinds, ", ")
	e, ok := s.fault(map[string]string{"reason": "the queue was full, or a part of its file could not be read", "dropped": strconv.FormatInt(total, 10), "kinds": text[:min(len(text), 512)]})
	if !ok {
		return
	}
	s.dropped = dropped{}
	s.append(s.push(e))
	s.renew()
}

func (s *Spool) fault(detail map[string]string) (protocol.MachineEvent, bool) {
	if s.cfg.Make == nil {
		return protocol.MachineEvent{}, false
	}
	e, err := s.cfg.Make(kindFault, detail)
	if err != nil {
		s.cfg.Log("event queue: %v", err)
	}
	return e, err == nil
}
