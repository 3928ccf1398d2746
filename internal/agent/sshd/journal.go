package sshd

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"sallyport/internal/agent/durable"
	"sallyport/internal/machine/protocol"
)

func uitoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// phase of the journal.
type phase string

const (
	idle      phase = ""          // nothing of ours is configured
	changing  phase = "changing"  // a change is under way: undone at the next start
	installed phase = "installed" // configured and tested
	removing  phase = "removing"  // a removal is under way: finished at the next start
)

// entry is what the journal knows of one file.
type entry struct {
	Path     string `json:"path"`
	Original string `json:"original"` // name of the kept file without us; "" when there was none
	Before   string `json:"before"`   // name of the kept file before this change; "" when there was none
	Written  string `json:"written"`  // digest of what we wrote
	attributes
}

// journal is the state of the wiring, durable before every change.
type journal struct {
	Phase phase   `json:"phase"`
	Prior phase   `json:"prior,omitempty"` // while changing: what an undo goes back to
	Files []entry `json:"files"`
	// Goal is what was wanted when this was installed. As long as it is the same,
	// a file that somebody changed is drift and is not written again.
	Goal string `json:"goal,omitempty"`
}

func (w *Wiring) journalPath() string { return filepath.Join(w.at(StateFolder), "journal.json") }

func (w *Wiring) load() (journal, error) {
	var j journal
	b, err := durable.Read(w.journalPath(), w.cfg.Owner, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return j, fmt.Errorf("wiring journal: %w", err)
	}
	if err := protocol.Decode(b, &j); err != nil {
		return j, fmt.Errorf("wiring journal: %w", err)
	}
	return j, nil
}

func (w *Wiring) save(j journal) error {
	b, err := json.Marshal(j)
	if err != nil {
		return err
	}
	if err := durable.Write(w.journalPath(), b, 0o600); err != nil {
		return fmt.Errorf("wiring journal: %w", err)
	}
	return nil
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// keep copies text into the state folder, named by its content: a kept file is
// never overwritten by another.
func (w *Wiring) keep(text string) (string, error) {
	name := digest(text)
	path := filepath.Join(w.at(StateFolder), name)
	if _, err := os.Lstat(path); err == nil {
		return name, nil
	}
	return name, durable.Write(path, []byte(text), 0o600)
}

func (w *Wiring) kept(name string) (string, error) {
	b, err := durable.Read(filepath.Join(w.at(StateFolder), name), w.cfg.Owner, 16<<20)
	if err == nil && digest(string(b)) != name {
		err = fmt.Errorf("the kept file %s was altered", name)
	}
	return string(b), err
}

// record makes the journal's entry for a file that is about to change.
func (w *Wiring) record(f file, known map[string]entry) (entry, error) {
	if err := w.step("1 keep " + f.Path); err != nil {
		return entry{}, err
	}
	e := entry{Path: f.Path, Written: digest(f.Content), attributes: attributes{Mode: f.Mode, UID: int(w.cfg.Owner), GID: os.Getegid()}}
	a, err := attributesOf(w.at(f.Path))
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if errors.Is(err, errNotRegular) {
		return e, conflict("%s is not a regular file", f.Path).WithRemedy("Make it one, then set the extension again.")
	}
	if err != nil {
		return e, err
	}
	e.attributes = a
	text, err := w.text(f.Path)
	if err != nil {
		return e, err
	}
	if e.Before, err = w.keep(text); err != nil {
		return e, err
	}
	if old, ok := known[f.Path]; ok && digest(text) == old.Written {
		e.Original = old.Original // unchanged since we wrote it: the first original stands
		return e, nil
	}
	if f.Ours {
		return e, nil
	}
	e.Original, err = w.keep(without(f.Path, text))
	return e, err
}

// without is the text of a file without us.
func without(path, text string) string {
	if path == nssPath {
		return stripNSS(text)
	}
	return strip(text)
}
