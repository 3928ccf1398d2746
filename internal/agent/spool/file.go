package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	if s.anew {
		s.since = append(s.since, line...)
	}
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

// renew has the file written anew.
func (s *Spool) renew() {
	s.stale = true
	s.later(syncDelay)
}

// failed notes that events are in memory alone, and tells it once.
func (s *Spool) failed(err error) {
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
	s.stale = true
	s.later(healDelay)
	if s.trouble != "" {
		return
	}
	s.trouble = err.Error()
	s.cfg.Log("the event queue cannot be written, events are kept in memory: %v", err)
	if e, ok := s.fault(map[string]string{"reason": "events cannot be written to the disk of the machine and are kept in memory: " + cause(err)}); ok {
		s.append(s.push(e)) // there is no file, so this only keeps it
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

// flush puts on the disk what is not there. No lock is held while the disk works:
// a login that adds an event does not wait for it.
func (s *Spool) flush() {
	s.mu.Lock()
	s.timer = false
	switch {
	case s.closed || s.anew:
		s.mu.Unlock()
	case s.stale:
		s.anew, s.stale, s.since = true, false, nil
		text := s.text()
		s.mu.Unlock()
		s.rewrite(text)
	default:
		file, dirty := s.file, s.dirty
		s.dirty = false
		s.mu.Unlock()
		if !dirty || file == nil {
			return
		}
		// A descriptor that was closed meanwhile belongs to a file that was replaced.
		if err := file.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
			s.mu.Lock()
			s.failed(err)
			s.mu.Unlock()
		}
	}
}

// text is what the file has to hold.
func (s *Spool) text() []byte {
	first, err := json.Marshal(header{Spool: 1, Next: s.next, Dropped: s.dropped})
	if err != nil {
		return nil // numbers and texts always marshal
	}
	b := append(make([]byte, 0, int64(len(first))+1+s.bytes), append(first, '\n')...)
	for _, x := range s.entries {
		b = append(b, lineOf(x.event)...)
	}
	return b
}

// rewrite replaces the file: a new one beside it, synced, completed with what was
// added meanwhile (the old one has that too, until then), renamed, synced again.
func (s *Spool) rewrite(text []byte) {
	fresh := s.cfg.Path + ".new"
	file, err := create(fresh, text)
	s.mu.Lock()
	s.anew = false
	if err == nil && len(s.since) > 0 {
		_, err = file.Write(s.since)
	}
	if err == nil {
		err = os.Rename(fresh, s.cfg.Path)
	}
	s.since = nil
	if err != nil {
		if file != nil {
			_ = file.Close()
		}
		_ = os.Remove(fresh) // room for what is there
		s.failed(err)
		s.mu.Unlock()
		return
	}
	if s.file != nil {
		_ = s.file.Close()
	}
	if s.trouble != "" {
		s.cfg.Log("the event queue is on the disk again")
	}
	s.file, s.trouble, s.dirty = file, "", false
	if s.stale {
		s.later(syncDelay)
	}
	s.mu.Unlock()
	if err := errors.Join(file.Sync(), durable.SyncFolder(filepath.Dir(s.cfg.Path))); err != nil && !errors.Is(err, os.ErrClosed) {
		s.mu.Lock()
		s.failed(err)
		s.mu.Unlock()
	}
}

// create makes a file of root's alone that holds text, on the disk.
func create(path string, text []byte) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = file.Write(text); err == nil {
		err = file.Sync()
	}
	return file, err
}

// Close puts everything on the disk. What is added later is kept in memory alone.
func (s *Spool) Close() error {
	s.flush() // writes anew what is stale
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
