package root

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"sallyport/internal/agent/durable"
	"sallyport/internal/audit"
	"sallyport/internal/machine/protocol"
)

// witnessPath holds the heads of the server's audit chains that this machine
// has seen.
const witnessPath = stateFolder + "/witness.json"

// witnessKept is how many heads of one writer are kept: the newest half of them
// as they came, the others ever more sparsely back to the first.
const witnessKept = 48

// testimony is what this machine can say about the server's audit chains. A
// chain that is cut or rewritten contradicts it.
type testimony struct {
	Heads []protocol.Witnessed `json:"heads"` // by epoch and writer, in the order of their sequence
	Alarm string               `json:"alarm,omitempty"`
	Since time.Time            `json:"since,omitzero"`
}

// witness keeps testimony on disk.
type witness struct {
	path string
	mu   sync.Mutex
	told testimony
}

// openWitness reads what was seen. What cannot be read is put aside, and is an
// alarm: somebody who has cut the log would also take away what shows it.
func openWitness(path string, owner uint32, now time.Time) (*witness, error) {
	w := &witness{path: path}
	b, err := durable.Read(path, owner, 16<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err == nil {
		err = protocol.Decode(b, &w.told)
	}
	if err != nil {
		w.told = testimony{Alarm: "what was witnessed before could not be read", Since: now.UTC()}
		return w, errors.Join(fmt.Errorf("what was witnessed of the audit log: %w", err), os.Rename(path, path+putAside), w.save())
	}
	return w, nil
}

// see judges the head that came with a snapshot. A head that is refused changes
// nothing but the alarm; whoever is let in does not depend on it.
func (w *witness) see(h protocol.Witnessed, check func(protocol.SignedHead) error) (alarm map[string]string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	held, reason := w.judge(h, check)
	if reason == "" {
		if held != nil && held.Head.Sequence == h.Head.Sequence {
			return nil, nil
		}
		w.told.Heads = thin(append(w.told.Heads, h), h)
		return nil, w.save()
	}
	text := fmt.Sprintf("the head %d of %s %s", h.Head.Sequence, h.Head.Writer, reason)
	if w.told.Alarm == text {
		return nil, nil
	}
	w.told.Alarm, w.told.Since = text, h.At
	alarm = map[string]string{"reason": text, "writer": printable(h.Head.Writer), "headSequence": strconv.FormatInt(h.Head.Sequence, 10), "hash": hex.EncodeToString(h.Head.Hash[:min(len(h.Head.Hash), 64)])}
	if held != nil {
		alarm["heldSequence"], alarm["heldHash"] = strconv.FormatInt(held.Head.Sequence, 10), hex.EncodeToString(held.Head.Hash)
	}
	return alarm, w.save()
}

// judge returns the head that h is compared with and what is wrong with h.
// Chains may go back when the manifest key has raised the epoch: the server was
// restored from a backup then.
func (w *witness) judge(h protocol.Witnessed, check func(protocol.SignedHead) error) (held *protocol.Witnessed, reason string) {
	if err := check(h.SignedHead); err != nil {
		return nil, "is refused: " + err.Error()
	}
	for i := range w.told.Heads {
		o := &w.told.Heads[i]
		if o.Head.Writer != h.Head.Writer || o.Epoch != h.Epoch {
			continue
		}
		if o.Head.Sequence == h.Head.Sequence && !slices.Equal(o.Head.Hash, h.Head.Hash) {
			return o, "is another than the one that this machine has seen: the log was rewritten"
		}
		if held == nil || o.Head.Sequence > held.Head.Sequence {
			held = o
		}
	}
	if held != nil && held.Head.Sequence > h.Head.Sequence {
		return held, fmt.Sprintf("is behind %d, which this machine has seen: the log was cut", held.Head.Sequence)
	}
	return held, ""
}

// thin drops every second of the older half when there are too many of one
// writer.
func thin(heads []protocol.Witnessed, like protocol.Witnessed) []protocol.Witnessed {
	same := func(h protocol.Witnessed) bool { return h.Head.Writer == like.Head.Writer && h.Epoch == like.Epoch }
	n := 0
	for _, h := range heads {
		if same(h) {
			n++
		}
	}
	if n <= witnessKept {
		return heads
	}
	i := 0
	return slices.DeleteFunc(heads, func(h protocol.Witnessed) bool {
		if !same(h) {
			return false
		}
		i++
		return i <= witnessKept/2 && i%2 == 0
	})
}

func (w *witness) save() error {
	b, err := json.Marshal(w.told)
	if err != nil {
		return err
	}
	return durable.Write(w.path, b, 0o600)
}

// tell returns everything that is held, and the alarm.
func (w *witness) tell() ([]protocol.Witnessed, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	alarm := w.told.Alarm
	if alarm != "" {
		alarm = w.told.Since.UTC().Format(time.RFC3339) + ": " + alarm
	}
	return slices.Clone(w.told.Heads), alarm
}

// witnessHead looks at the audit head of a snapshot that was accepted.
func (s *Service) witnessHead(doc protocol.SnapshotDocument, m protocol.Manifest) {
	if doc.AuditHead == nil {
		return
	}
	h := protocol.Witnessed{SignedHead: protocol.SignedHead{Head: *doc.AuditHead, KeyID: doc.AuditKeyID, Signature: doc.AuditSig}, Epoch: doc.Epoch, At: s.cfg.Now().UTC().Truncate(time.Second)}
	alarm, err := s.witness.see(h, func(h protocol.SignedHead) error {
		if !audit.ValidWriter(h.Head.Writer) {
			return errors.New("its writer's name is none")
		}
		return h.Check(m.For(protocol.Audit))
	})
	if err != nil {
		s.cfg.Log("what was witnessed of the audit log cannot be kept: %v", err)
	}
	if alarm == nil {
		return
	}
	s.cfg.Log("the server's audit log: %s", alarm["reason"])
	if id, err := s.guid(); err == nil {
		s.event("auditHead.fail", id, "", "", alarm)
	}
}
