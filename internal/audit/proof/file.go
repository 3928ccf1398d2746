package proof

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"sallyport/internal/audit"
	"sallyport/internal/machine/protocol"
)

// maxLine bounds one line of an export. A proof with the witnesses of ten
// thousand machines stays below it.
const maxLine = 64 << 20

// line is one line of an export: a record, or a proof under its own name.
type line struct {
	audit.Record
	Proof *Proof `json:"proof,omitempty"`
}

// ParseLine reads one line of an export: a record, or else a proof.
func ParseLine(b []byte) (audit.Record, *Proof, error) {
	var l line
	if err := protocol.Decode(b, &l); err != nil {
		return audit.Record{}, nil, err
	}
	switch {
	case l.Proof != nil && l.Writer != "":
		return audit.Record{}, nil, errors.New("it is a record and a proof")
	case l.Proof == nil && (l.Writer == "" || l.Sequence < 1 || len(l.Hash) == 0):
		return audit.Record{}, nil, errors.New("it is neither a record nor a proof")
	}
	return l.Record, l.Proof, nil
}

// ProofLine is the line of a proof.
func ProofLine(p Proof) ([]byte, error) {
	b, err := json.Marshal(struct {
		Proof Proof `json:"proof"`
	}{p})
	return append(b, '\n'), err
}

// RecordLine is the line of a record.
func RecordLine(r audit.Record) ([]byte, error) {
	b, err := json.Marshal(r)
	return append(b, '\n'), err
}

// Scan reads an export line by line. whole is the number of bytes up to the end
// of the last whole line: what follows it was cut off while it was written.
func Scan(r io.Reader, each func(audit.Record, *Proof) error) (whole int64, err error) {
	in := bufio.NewReaderSize(r, 1<<16)
	for n := 1; ; n++ {
		text, err := readLine(in)
		if errors.Is(err, io.EOF) {
			return whole, nil // with or without the beginning of a line
		}
		if err != nil {
			return whole, fmt.Errorf("line %d: %w", n, err)
		}
		record, proof, err := ParseLine(bytes.TrimSuffix(text, []byte("\n")))
		if err != nil {
			return whole, fmt.Errorf("line %d: %w", n, err)
		}
		if err := each(record, proof); err != nil {
			return whole, err
		}
		whole += int64(len(text))
	}
}

// readLine returns a line with its end; io.EOF when there is no whole one.
func readLine(in *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		part, err := in.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case err == nil:
			return text, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(text) > maxLine:
			return nil, errors.New("the line is too long")
		}
	}
}

// Result is what the check of an export found.
type Result struct {
	audit.Verdict
	Proofs int      // how many proofs the file held
	Signed bool     // the end of every chain is signed
	Notes  []string // what does not count, and why
}

// Check verifies an export: the chains, and what the proofs in it and the
// witnesses beside it say. open verifies the manifest of a proof; the file
// itself is not trusted. The file is read twice, because a proof stands behind
// the records that it is about.
func Check(file io.ReadSeeker, open func(protocol.SignedManifest) (protocol.Manifest, error), beside []Witness) (Result, error) {
	var result Result
	var evidence Evidence
	var newest protocol.Manifest
	whole, err := Scan(file, func(_ audit.Record, p *Proof) error {
		if p == nil {
			return nil
		}
		m, err := open(p.Manifest)
		if err != nil {
			return fmt.Errorf("the manifest in the file: %w", err)
		}
		e, err := p.Open(m)
		if err != nil {
			return err
		}
		if result.Proofs == 0 || m.Newer(newest) {
			newest = m
		}
		result.Proofs++
		evidence.Checkpoints = append(evidence.Checkpoints, e.Checkpoints...)
		evidence.Claims = append(evidence.Claims, e.Claims...)
		evidence.Notes = append(evidence.Notes, e.Notes...)
		return nil
	})
	if err != nil {
		return result, err
	}
	if result.Proofs == 0 {
		return result, errors.New("the file holds no proof: it is not a whole export")
	}
	for _, w := range beside {
		evidence.Add(w, newest)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return result, err
	}
	v := audit.NewVerifier(evidence.Checkpoints, evidence.Claims)
	heads := signedHeads(evidence.Claims)
	_, err = Scan(io.LimitReader(file, whole), func(r audit.Record, p *Proof) error {
		if p != nil {
			return nil
		}
		return v.Add(r)
	})
	if err != nil {
		return result, err
	}
	result.Verdict, err = v.Finish()
	result.Notes = append(evidence.Notes, result.Verdict.Notes...)
	result.Signed = len(result.Heads) > 0
	for _, h := range result.Heads {
		result.Signed = result.Signed && heads[h.Writer] >= h.Sequence
	}
	return result, err
}

// signedHeads is how far each chain is vouched for.
func signedHeads(claims []audit.Claim) map[string]int64 {
	heads := map[string]int64{}
	for _, c := range claims {
		heads[c.Head.Writer] = max(heads[c.Head.Writer], c.Head.Sequence)
	}
	return heads
}
