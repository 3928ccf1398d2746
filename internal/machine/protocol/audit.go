package protocol

import (
	"crypto"
	"errors"
	"io"
	"time"

	"sallyport/internal/audit"
)

// TypeCheckpoint is the payload type of an audit checkpoint.
const TypeCheckpoint = "application/vnd.sallyport.audit-checkpoint.v1+json"

// SignedHead is the end of an audit chain, signed by the audit key. Machines
// get it in their snapshots and keep it: a chain that is cut or rewritten later
// contradicts what they hold.
type SignedHead struct {
	Head      audit.Head `json:"head"`
	KeyID     string     `json:"keyId"`
	Signature []byte     `json:"sig"`
}

// SignHead signs a head with the audit key.
func SignHead(rand io.Reader, key crypto.Signer, h audit.Head) (SignedHead, error) {
	e, err := Sign(rand, key, TypeAudit, h.Bytes())
	return SignedHead{Head: h, KeyID: e.KeyID, Signature: e.Signature}, err
}

var errAuditKey = errors.New("it is signed by a key that the manifest does not list for the audit")

// Check verifies the signature with the key that KeyID names among keys.
func (h SignedHead) Check(keys []crypto.PublicKey) error {
	if h.Head.Writer == "" || h.Head.Sequence < 1 || len(h.Head.Hash) == 0 {
		return errors.New("the audit head is incomplete")
	}
	_, err := openWith(Envelope{PayloadType: TypeAudit, Payload: h.Head.Bytes(), KeyID: h.KeyID, Signature: h.Signature}, keys, TypeAudit)
	return err
}

// MaxWitnessed is how many heads one report may carry.
const MaxWitnessed = 64

// Witnessed is a head that a machine has seen, with the epoch of the manifest
// at that time.
type Witnessed struct {
	SignedHead
	Epoch int64     `json:"epoch"`
	At    time.Time `json:"at"` // the machine's time
}

// OpenCheckpoint verifies a checkpoint of an audit chain.
func OpenCheckpoint(e Envelope, keys []crypto.PublicKey) (audit.Checkpoint, error) {
	payload, err := openWith(e, keys, TypeCheckpoint)
	if err != nil {
		return audit.Checkpoint{}, err
	}
	var c audit.Checkpoint
	if err := Decode(payload, &c); err != nil {
		return audit.Checkpoint{}, err
	}
	if c.Writer == "" || c.Sequence < 1 || len(c.Hash) == 0 || c.Count < 1 {
		return audit.Checkpoint{}, errors.New("the checkpoint is incomplete")
	}
	return c, nil
}

// openWith opens an envelope with the key that it names.
func openWith(e Envelope, keys []crypto.PublicKey, payloadType string) ([]byte, error) {
	for _, pub := range keys {
		if id, err := Thumbprint(pub); err == nil && id == e.KeyID {
			return e.Open(pub, payloadType)
		}
	}
	return nil, errAuditKey
}
