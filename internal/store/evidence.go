package store

import (
	"encoding/base64"
	"fmt"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/machine/protocol"
)

const (
	// witnessEvery is how often what one machine has seen of one writer is
	// stored; ten thousand machines then cost three rows a second.
	witnessEvery = time.Hour
	// witnessKept is how many heads of one writer are kept for one machine. The
	// machine itself keeps more.
	witnessKept = 8
)

// PutWitness stores a head that a machine has seen and whose signature the
// caller has verified. It keeps the newest few, and stores nothing when it has
// stored one of the same writer within the hour.
func (t *Tx) PutWitness(machineID string, w protocol.Witnessed) error {
	var last, newest int64
	if _, err := t.row(`SELECT at, sequence FROM audit_witness WHERE machine_id = $1 AND writer = $2 ORDER BY at DESC, sequence DESC LIMIT 1`, []any{machineID, w.Head.Writer}, &last, &newest); err != nil {
		return err
	}
	if newest >= w.Head.Sequence && last != 0 || last > micros(t.now.Add(-witnessEvery)) {
		return nil
	}
	if _, err := t.exec(`INSERT INTO audit_witness (machine_id, writer, sequence, epoch, hash, key_id, signature, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (machine_id, writer, sequence, epoch, hash) DO NOTHING`, machineID, w.Head.Writer, w.Head.Sequence, w.Epoch, base64.StdEncoding.EncodeToString(w.Head.Hash),
		w.KeyID, base64.StdEncoding.EncodeToString(w.Signature), micros(t.now)); err != nil {
		return err
	}
	_, err := t.exec(`DELETE FROM audit_witness WHERE machine_id = $1 AND writer = $2 AND at < (
		SELECT MIN(at) FROM (SELECT at FROM audit_witness WHERE machine_id = $1 AND writer = $2 ORDER BY at DESC LIMIT $3) AS kept)`, machineID, w.Head.Writer, witnessKept)
	return err
}

// EachWitness calls f with what machines have seen, the time being the
// server's when it was stored.
func (t *Tx) EachWitness(f func(machineID string, w protocol.Witnessed) error) error {
	return t.query(`SELECT machine_id, writer, sequence, epoch, hash, key_id, signature, at FROM audit_witness ORDER BY machine_id, writer, sequence, at`, nil, func(scan func(...any) error) error {
		var machineID, hash, signature string
		var w protocol.Witnessed
		var at int64
		err := scan(&machineID, &w.Head.Writer, &w.Head.Sequence, &w.Epoch, &hash, &w.KeyID, &signature, &at)
		if err == nil {
			w.Head.Hash, err = base64.StdEncoding.DecodeString(hash)
		}
		if err == nil {
			w.Signature, err = base64.StdEncoding.DecodeString(signature)
		}
		if err != nil {
			return fmt.Errorf("witness %s: %w", machineID, err)
		}
		w.At = fromMicros(at)
		return f(machineID, w)
	})
}

// PutAuditCheckpoint stores a signed checkpoint, or a new signature of one.
func (t *Tx) PutAuditCheckpoint(c audit.Checkpoint, e protocol.Envelope) error {
	text, err := jsonText(e)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO audit_checkpoint (writer, sequence, envelope, at) VALUES ($1, $2, $3, $4) ON CONFLICT (writer, sequence) DO UPDATE SET envelope = excluded.envelope`,
		c.Writer, c.Sequence, text, micros(t.now))
	return err
}

// AuditCheckpoints returns every checkpoint, the oldest of each writer first.
func (t *Tx) AuditCheckpoints() ([]protocol.Envelope, error) {
	var out []protocol.Envelope
	err := t.query(`SELECT envelope FROM audit_checkpoint ORDER BY writer, sequence`, nil, func(scan func(...any) error) error {
		var text string
		if err := scan(&text); err != nil {
			return err
		}
		var e protocol.Envelope
		if err := fromJSON(text, &e); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		out = append(out, e)
		return nil
	})
	return out, err
}
