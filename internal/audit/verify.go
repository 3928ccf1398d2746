package audit

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Checkpoint stands for the records of a writer up to Sequence, which were
// deleted when their time was over. The audit key signs it before the first of
// them goes.
type Checkpoint struct {
	Writer   string    `json:"writer"`
	Sequence int64     `json:"sequence"` // of the last record that may be gone
	Hash     []byte    `json:"hash"`     // of that record
	Count    int64     `json:"count"`    // of records up to it, since the chain began
	Before   time.Time `json:"before"`   // everything older might go
	Time     time.Time `json:"time"`
}

// Bytes returns what the audit key signs.
func (c Checkpoint) Bytes() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		return nil // texts, numbers and times of this era always marshal
	}
	return b
}

// Claim is a head that somebody vouches for: the chain must hold this very
// record. Who checks it has verified its signature.
type Claim struct {
	Head   Head
	Source string // for people: "the server", "machine ..."
	// Lost says that the record may be missing, because the deployment was
	// restored from a backup after the head was signed. It may not be another: the
	// numbers of lost records are not given again.
	Lost bool
}

// Broken is what is wrong with a chain, with the first record where it shows.
type Broken struct {
	Writer   string
	Sequence int64
	Reason   string
}

// Error names the record and what is wrong with it.
func (b *Broken) Error() string {
	return fmt.Sprintf("record %s/%d %s", b.Writer, b.Sequence, b.Reason)
}

// Verdict is what a walk over all chains found.
type Verdict struct {
	Records  int64
	Heads    []Head
	Starts   []Start  // chains that begin behind a checkpoint
	Compared int      // claims that the chains were held to
	Notes    []string // what could not be compared, and why
}

// Start is where a chain begins when older records were deleted.
type Start struct {
	Writer     string
	Sequence   int64 // of the first record that is there
	Checkpoint Checkpoint
}

// Verifier walks chains. Records come in the order of their sequence numbers;
// those of different writers may be mixed.
type Verifier struct {
	chains  map[string]*walk
	verdict Verdict
}

// walk is one chain on its way.
type walk struct {
	last        Record
	checkpoints []Checkpoint
	claims      map[int64][]Claim
	owed        int64 // a checkpoint that the chain must reach: records below it may be gone
	gaps        []gap
}

// gap is the numbers that the record of a restore leaves out.
type gap struct {
	first, last int64
	at          time.Time
}

// NewVerifier makes a verifier that holds the chains to checkpoints and claims
// whose signatures the caller has verified.
func NewVerifier(checkpoints []Checkpoint, claims []Claim) *Verifier {
	v := &Verifier{chains: map[string]*walk{}}
	for _, c := range checkpoints {
		w := v.of(c.Writer)
		w.checkpoints = append(w.checkpoints, c)
		claims = append(claims, Claim{Head: Head{Writer: c.Writer, Sequence: c.Sequence, Hash: c.Hash}, Source: "the checkpoint of " + c.Time.UTC().Format(time.RFC3339)})
	}
	for _, c := range claims {
		w := v.of(c.Head.Writer)
		w.claims[c.Head.Sequence] = append(w.claims[c.Head.Sequence], c)
	}
	return v
}

func (v *Verifier) of(writer string) *walk {
	w := v.chains[writer]
	if w == nil {
		w = &walk{claims: map[int64][]Claim{}}
		v.chains[writer] = w
	}
	return w
}

// Add checks the next record. The error is a *Broken.
func (v *Verifier) Add(r Record) error {
	w := v.of(r.Writer)
	if w.last.Sequence == 0 {
		linked, err := v.begin(w, r)
		if err != nil {
			return err
		}
		if !linked {
			return v.accept(w, r)
		}
	}
	switch want := w.last.Sequence + 1; {
	case r.Sequence > want && r.resumes(w.last):
		w.gaps = append(w.gaps, gap{want, r.Sequence - 1, r.Time})
		v.verdict.Notes = append(v.verdict.Notes, fmt.Sprintf("the deployment was restored from a backup at %s: what %s recorded after record %d and before the restore is lost", r.Time.UTC().Format(time.RFC3339), r.Writer, w.last.Sequence))
	case r.Sequence > want:
		return &Broken{r.Writer, want, fmt.Sprintf("is missing: %d follows %d", r.Sequence, w.last.Sequence)}
	case r.Sequence < want:
		return &Broken{r.Writer, r.Sequence, fmt.Sprintf("is there again after %d", w.last.Sequence)}
	}
	if err := r.Verify(w.last); err != nil {
		return &Broken{r.Writer, r.Sequence, "was altered, or the one before it was replaced: its hash does not match"}
	}
	return v.accept(w, r)
}

// begin finds where a chain may start: at its first record, or behind a
// checkpoint. linked is false when the record before r is gone and unknown,
// because a deletion has not come to its end.
func (v *Verifier) begin(w *walk, r Record) (linked bool, err error) {
	if r.Sequence == 1 {
		return true, nil
	}
	for _, c := range slices.Backward(w.checkpoints) {
		if c.Sequence < r.Sequence-1 {
			continue
		}
		v.verdict.Starts = append(v.verdict.Starts, Start{Writer: r.Writer, Sequence: r.Sequence, Checkpoint: c})
		if c.Sequence == r.Sequence-1 {
			w.last = Record{Writer: r.Writer, Sequence: c.Sequence, Hash: c.Hash}
			return true, nil
		}
		w.owed = max(w.owed, c.Sequence)
		return false, nil
	}
	first := int64(1)
	for _, c := range w.checkpoints {
		first = max(first, c.Sequence+1)
	}
	return false, &Broken{r.Writer, first, fmt.Sprintf("is missing: the chain begins at %d and no signed checkpoint accounts for what was before", r.Sequence)}
}

// accept takes a record that is in its place and holds it to what others have
// seen there.
func (v *Verifier) accept(w *walk, r Record) error {
	for _, c := range w.claims[r.Sequence] {
		v.verdict.Compared++
		if !slices.Equal(c.Head.Hash, r.Hash) {
			return &Broken{r.Writer, r.Sequence, "or one before it was replaced: " + c.Source + " has seen another"}
		}
	}
	delete(w.claims, r.Sequence)
	w.last = r
	v.verdict.Records++
	return nil
}

// Finish is called after the last record: what somebody has seen and is not
// there was cut off. The error is a *Broken.
func (v *Verifier) Finish() (Verdict, error) {
	for _, name := range sortedKeys(v.chains) {
		w := v.chains[name]
		if w.last.Sequence > 0 && w.last.Hash != nil {
			v.verdict.Heads = append(v.verdict.Heads, Head{Writer: name, Sequence: w.last.Sequence, Hash: w.last.Hash})
		}
		if w.owed > w.last.Sequence {
			return v.verdict, &Broken{name, w.last.Sequence + 1, "is missing: the records up to the checkpoint at " + fmt.Sprint(w.owed) + " are neither all there nor all gone"}
		}
		for _, seq := range sortedKeys(w.claims) {
			for _, c := range w.claims[seq] {
				if err := v.unmet(w, c); err != nil {
					return v.verdict, err
				}
			}
		}
	}
	return v.verdict, nil
}

// unmet judges a claim for which there was no record.
func (v *Verifier) unmet(w *walk, c Claim) error {
	h := c.Head
	if i := slices.IndexFunc(w.gaps, func(g gap) bool { return g.first <= h.Sequence && h.Sequence <= g.last }); i >= 0 {
		if !c.Lost {
			return &Broken{h.Writer, h.Sequence, "is missing: " + c.Source + " has seen it, and the restore that leaves it out was before"}
		}
		v.verdict.Notes = append(v.verdict.Notes, fmt.Sprintf("%s has seen record %s/%d, which was lost with the restore of %s", c.Source, h.Writer, h.Sequence, w.gaps[i].at.UTC().Format(time.RFC3339)))
		return nil
	}
	switch {
	case h.Sequence <= w.last.Sequence:
		// Deleted behind a checkpoint: begin has seen that.
		if i := slices.IndexFunc(w.checkpoints, func(k Checkpoint) bool { return k.Sequence == h.Sequence }); i >= 0 {
			v.verdict.Compared++
			if !slices.Equal(w.checkpoints[i].Hash, h.Hash) {
				return &Broken{h.Writer, h.Sequence, "was another when the checkpoint was made: " + c.Source + " has seen it"}
			}
		}
		return nil
	case c.Lost && w.last.Sequence == 0: // a server that began after the backup; the others' chains go on behind their restore
		v.verdict.Notes = append(v.verdict.Notes, fmt.Sprintf("records %s/%d to %d are not there: %s has seen them before the deployment was restored from a backup", h.Writer, w.last.Sequence+1, h.Sequence, c.Source))
		return nil
	}
	return &Broken{h.Writer, w.last.Sequence + 1, fmt.Sprintf("is missing: the chain ends before it, and %s has seen it reach %d", c.Source, h.Sequence)}
}

func sortedKeys[K interface{ ~string | ~int64 }, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
