package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/durable"
	"sallyport/internal/machine/protocol"
)

// The file: one line of JSON for each event, and first of all, where the file
// was written anew, a line that says how the numbers go on and what was given up.
type header struct {
	Spool   int     `json:"spool"` // version of the form, 1
	Next    int64   `json:"next"`
	Dropped dropped `json:"dropped,omitempty"`
}

// maxFile bounds what is read: a full queue is far below.
const maxFile = 64 << 20

// unreadable counts lines that are no events.
const unreadable = "unreadable"

func lineOf(e protocol.MachineEvent) []byte {
	line, err := json.Marshal(e)
	if err != nil {
		return nil // texts and a time always marshal
	}
	return append(line, '\n')
}

// load reads the file. A line that cannot be read, as the last one may be that a
// loss of power has torn, counts as given up.
func (s *Spool) load() error {
	b, err := durable.Read(s.cfg.Path, s.cfg.Owner, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		s.cfg.Log("the event queue cannot be read, and begins anew beside what was there: %v", err)
		if err := os.Rename(s.cfg.Path, s.cfg.Path+".damaged"); err != nil {
			return fmt.Errorf("event queue: %w", err)
		}
		s.dropped[unreadable]++
		return nil
	}
	for line := range bytes.Lines(b) {
		s.line(line)
	}
	return nil
}

func (s *Spool) line(line []byte) {
	var e protocol.MachineEvent
	if protocol.Decode(line, &e) == nil && e.ID != "" {
		if e.Sequence == 0 { // of an agent that did not number its events
			e.Sequence = s.next
		}
		s.next = max(s.next, e.Sequence+1)
		s.entries = append(s.entries, entry{event: e, size: int64(len(lineOf(e)))})
		s.bytes += s.entries[len(s.entries)-1].size
		return
	}
	var h header
	if protocol.Decode(line, &h) == nil && h.Spool == 1 {
		s.next = max(s.next, h.Next)
		for kind, n := range h.Dropped {
			s.dropped[kind] += n
		}
		return
	}
	s.dropped[unreadable]++
}

// append writes one line. A line that was cut short is never followed by
// another: the file is written anew first.
func (s *Spool) append(line []byte) {
	if s.file == nil {
		s.later(healDelay)
		return
	}
	if _, err := s.file.Write(line); err != nil {
		s.failed(err)
		return
	}
	s.dirty = true
	s.later(syncDelay)
}

// write makes the file hold exactly what is kept, on the disk.
func (s *Spool) write() {
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
	var b bytes.Buffer
	first, err := json.Marshal(header{Spool: 1, Next: s.next, Dropped: s.dropped})
	if err == nil {
		b.Write(append(first, '\n'))
		for _, x := range s.entries {
			b.Write(lineOf(x.event))
		}
		err = durable.Write(s.cfg.Path, b.Bytes(), 0o600)
	}
	if err == nil {
		s.file, err = os.OpenFile(s.cfg.Path, os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0)
	}
	if err != nil {
		s.failed(err)
		return
	}
	if s.trouble != "" {
		s.cfg.Log("the event queue is on the disk again")
	}
	s.dirty, s.trouble = false, ""
}

// failed notes that events are in memory alone, and tells it once.
func (s *Spool) failed(err error) {
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
	s.later(healDelay)
	if s.trouble != "" {
		return
	}
	s.trouble = err.Error()
	s.cfg.Log("the event queue cannot be written, events are kept in memory: %v", err)
	if e, ok := s.fault(map[string]string{"reason": "events cannot be written to the disk of the machine and are kept in memory: " + cause(err)}); ok {
		s.add(e) // file is nil, so this only keeps it
	}
}

// cause is the system's own words, without the path.
func cause(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return "unknown"
}

// later has the file synced, or written anew, after a time. Whoever adds an
// event does not wait for the disk.
func (s *Spool) later(d time.Duration) {
	if s.timer {
		return
	}
	s.timer = true
	time.AfterFunc(d, s.flush)
}

// flush puts on the disk what is not there. Syncing needs no lock: a descriptor
// that was closed meanwhile belongs to a file that has been replaced.
func (s *Spool) flush() {
	s.mu.Lock()
	s.timer = false
	if s.closed {
		s.mu.Unlock()
		return
	}
	if s.file == nil {
		s.write()
		s.mu.Unlock()
		return
	}
	file, dirty := s.file, s.dirty
	s.dirty = false
	s.mu.Unlock()
	if !dirty {
		return
	}
	if err := file.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		s.mu.Lock()
		s.failed(err)
		s.mu.Unlock()
	}
}

// Close puts everything on the disk.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.file == nil {
		return nil
	}
	err := errors.Join(s.file.Sync(), s.file.Close())
	s.file = nil
	return err
}
