package proof

import (
	"crypto"
	"fmt"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/machine/protocol"
)

// Witness is a head that a machine has reported to the server.
type Witness struct {
	MachineID string `json:"machineId"`
	protocol.Witnessed
}

// Proof is the evidence beside the records.
type Proof struct {
	Manifest    protocol.SignedManifest `json:"manifest"`
	Heads       []protocol.SignedHead   `json:"heads"`
	Checkpoints []protocol.Envelope     `json:"checkpoints"`
	Witnesses   []Witness               `json:"witnesses"`
}

// Evidence is a proof whose signatures were verified.
type Evidence struct {
	Checkpoints []audit.Checkpoint
	Claims      []audit.Claim
	Notes       []string // what does not count, and why
}

// Open verifies the signatures of a proof with the keys of a manifest that the
// caller trusts. A signature that does not verify is evidence of nothing and
// becomes a note, except of the newest head and of checkpoints: those are the
// server's own words.
func (p Proof) Open(m protocol.Manifest) (Evidence, error) {
	var e Evidence
	keys := m.For(protocol.Audit)
	for _, h := range p.Heads {
		if err := h.Check(keys); err != nil {
			return e, fmt.Errorf("the signed head of %s: %w", h.Head.Writer, err)
		}
		e.Claims = append(e.Claims, audit.Claim{Head: h.Head, Source: "the signed head"})
	}
	for _, envelope := range p.Checkpoints {
		c, err := protocol.OpenCheckpoint(envelope, keys)
		if err != nil {
			e.Notes = append(e.Notes, fmt.Sprintf("a checkpoint does not count: %v", err))
			continue
		}
		e.Checkpoints = append(e.Checkpoints, c)
	}
	for _, w := range p.Witnesses {
		e.witness(w, m, keys)
	}
	return e, nil
}

// Add takes what a machine itself shows, past the server.
func (e *Evidence) Add(w Witness, m protocol.Manifest) { e.witness(w, m, m.For(protocol.Audit)) }

func (e *Evidence) witness(w Witness, m protocol.Manifest, keys []crypto.PublicKey) {
	if err := w.Check(keys); err != nil {
		e.Notes = append(e.Notes, fmt.Sprintf("what machine %s has seen of %s/%d does not count: %v", w.MachineID, w.Head.Writer, w.Head.Sequence, err))
		return
	}
	source := "machine " + w.MachineID
	if !w.At.IsZero() {
		source += " (" + w.At.UTC().Format(time.RFC3339) + ")"
	}
	e.Claims = append(e.Claims, audit.Claim{Head: w.Head, Source: source, Lost: w.Epoch < m.Epoch})
}
