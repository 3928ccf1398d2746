package root

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"sallyport/internal/agent/durable"
	"sallyport/internal/agent/names"
	"sallyport/internal/agent/pin"
	"sallyport/internal/machine/protocol"
)

// The parts of the kept state without which nobody of ours is let in.
const (
	partHeld     = "held"
	partManifest = "manifest"
	partNames    = "names"
)

// putAside is the end of the name of what could not be read.
const putAside = ".damaged"

// breaks notes that a part of the kept state is damaged: this part starts all the
// same, refuses ours, and says in the status how to mend it.
func (s *Service) breaks(part, format string, args ...any) {
	text := printableSentence(fmt.Sprintf(format, args...))
	s.cfg.Log("kept state: %s", text)
	s.mu.Lock()
	if s.broken == nil {
		s.broken = map[string]string{}
	}
	s.broken[part] = text
	s.mu.Unlock()
	s.stateEvent("state.fail", part, text)
}

// mends takes that back.
func (s *Service) mends(part string) {
	s.mu.Lock()
	text, was := s.broken[part]
	delete(s.broken, part)
	s.mu.Unlock()
	if was {
		s.cfg.Log("kept state: %s is whole again", part)
		s.stateEvent("state.heal", part, text)
	}
}

func (s *Service) stateEvent(kind, part, text string) {
	if id, err := s.guid(); err == nil {
		s.event(kind, id, "", "", map[string]string{"part": part, "reason": text})
	}
}

// damage says what is damaged, and how each is mended.
func (s *Service) damage() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []string
	for _, part := range slices.Sorted(maps.Keys(s.broken)) {
		list = append(list, s.broken[part])
	}
	return list
}

func printableSentence(text string) string { return readable(text, maxMessage) }

// restoreHeld reads the counters and the snapshot. What cannot be read is put
// aside, and made anew by the next snapshot that is fresh: without the counters
// nothing else tells an old one.
func (s *Service) restoreHeld() held {
	var h held
	path := s.at(heldPath)
	b, err := durable.Read(path, s.cfg.Owner, 2*protocol.MaxDocument)
	if err == nil {
		err = protocol.Decode(b, &h)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		_, aside := os.Lstat(path + putAside)
		h = held{Rebuild: aside == nil} // a kill came before the next lines
	case err != nil:
		h = held{Rebuild: true}
		if err := os.Rename(path, path+putAside); err != nil {
			s.cfg.Log("kept state: %v", err)
		}
		if err := s.save(h); err != nil {
			s.cfg.Log("kept state: %v", err)
		}
	}
	if h.Rebuild {
		s.breaks(partHeld, "%s could not be read and was put aside as %s. It is made anew as soon as the server sends a snapshot; if that does not come within a minute, look whether the server can be reached and the clock is right. %s",
			heldPath, heldPath+putAside, cause(err))
	}
	return h
}

func cause(err error) string {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return "(" + err.Error() + ")"
}

// rebuilding refuses a snapshot that is not fresh while the counters are lost.
func (s *Service) rebuilding(h held, doc protocol.SnapshotDocument) error {
	if !h.Rebuild {
		return nil
	}
	if age := s.cfg.Now().Sub(doc.IssuedAt); age > resign || age < -clockOff {
		return refused("the kept state was damaged, so that only a fresh snapshot is taken, and this one was signed at %s: it is an old one, or the machine's clock is wrong", doc.IssuedAt.UTC().Format(time.RFC3339))
	}
	return nil
}

// restoreManifest reads the kept manifest, which must not be older than one that
// was seen.
func (s *Service) restoreManifest(h held) (protocol.SignedManifest, protocol.Manifest, bool) {
	signed, manifest, err := s.cfg.Pins.LoadManifest(s.cfg.Root, s.cfg.Owner)
	if err == nil && h.seen(manifest) {
		err = fmt.Errorf("version %d of epoch %d is older than one that this machine has seen", manifest.Version, manifest.Epoch)
	}
	if err != nil {
		s.breaks(partManifest, "%s, which says whom this machine trusts, cannot be used. Put it back from a backup and start the root part again, or join again: sally agent join --token-file FILE (%v)", pin.ManifestPath, err)
	}
	return signed, manifest, err == nil
}

// seen reports whether a newer manifest than this was seen.
func (h held) seen(m protocol.Manifest) bool {
	return m.Epoch < h.ManifestEpoch || m.Epoch == h.ManifestEpoch && m.Version < h.ManifestVersion
}

// openNames opens the list of whose each name is. Nothing can make it anew.
func (s *Service) openNames() {
	var err error
	if s.names, err = names.Open(s.at(namesPath), s.cfg.Owner); err != nil {
		s.breaks(partNames, "%s, which says whose each name and home folder is, cannot be read, and nothing can make it anew. Put it back from a backup; without one, see whom the folders in /home belong to, move the file away, and start the root part again. (%v)", namesPath, err)
	}
}
