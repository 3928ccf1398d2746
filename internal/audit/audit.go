package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// PrincipalType says what kind of identity acts.
type PrincipalType string

// The principal types, with Azure's names where Azure has them.
const (
	Anonymous        PrincipalType = ""
	User             PrincipalType = "User"
	ServicePrincipal PrincipalType = "ServicePrincipal"
	Machine          PrincipalType = "Machine"
	Task             PrincipalType = "Task"
)

// By says who asks. It is made once per request, passed as an explicit argument
// and never changed; At is the one time of the whole request.
type By struct {
	Principal       string // object id; empty for an anonymous caller
	Type            PrincipalType
	Name            string   // UPN, application id, machine resource id or task name, for people
	Groups          []string // object ids, transitive
	Client          string   // OAuth client id, empty for machines and tasks
	Permissions     []string // what the token allows at the surface it is for: delegated ones of the client, or the application's own
	Address         string   // the caller's IP address; "unknown" behind a forwarder
	CorrelationID   string   // ours, a GUID, never the client's
	ClientRequestID string   // the client's own, shown back and logged apart
	Session         string   // sign-in session id, empty without one
	At              time.Time
}

// Principals returns the object ids whose role assignments count: the caller's
// own and those of its groups.
func (b By) Principals() []string {
	if b.Principal == "" {
		return nil
	}
	return append([]string{b.Principal}, b.Groups...)
}

// Outcome of an event.
type Outcome string

// The outcomes: Denied is a decision, Failure is an error.
const (
	Success Outcome = "success"
	Denied  Outcome = "denied"
	Failure Outcome = "failure"
)

// Event is one thing that happened. Type is "area.verb" ("certificate.issue",
// "roleAssignment.write", "signin.password"). Target is the resource id or
// object id acted upon. Detail holds short facts, never a secret.
type Event struct {
	Type    string            `json:"type"`
	Outcome Outcome           `json:"outcome"`
	Target  string            `json:"target,omitempty"`
	Detail  map[string]string `json:"detail,omitempty"`
}

// Record is an event as stored: with who and when, its place in its writer's
// chain and the hash over both.
type Record struct {
	Writer          string            `json:"writer"` // one chain per server process lineage
	Sequence        int64             `json:"sequence"`
	Time            time.Time         `json:"time"` // microsecond precision, UTC
	CorrelationID   string            `json:"correlationId"`
	Principal       string            `json:"principalId,omitempty"`
	PrincipalType   PrincipalType     `json:"principalType,omitempty"`
	PrincipalName   string            `json:"principalName,omitempty"`
	Client          string            `json:"clientId,omitempty"`
	Address         string            `json:"address,omitempty"`
	ClientRequestID string            `json:"clientRequestId,omitempty"`
	Type            string            `json:"type"`
	Outcome         Outcome           `json:"outcome"`
	Target          string            `json:"target,omitempty"`
	Detail          map[string]string `json:"detail,omitempty"`
	Hash            []byte            `json:"hash"` // SHA-256 over the previous hash and this record without Hash
}

// NewRecord joins an event with who caused it. The store sets Writer, Sequence
// and Hash through Seal.
func NewRecord(by By, e Event) Record {
	return Record{
		Time: by.At.UTC().Truncate(time.Microsecond), CorrelationID: by.CorrelationID, Principal: by.Principal,
		PrincipalType: by.Type, PrincipalName: by.Name, Client: by.Client, Address: by.Address,
		ClientRequestID: by.ClientRequestID, Type: e.Type, Outcome: e.Outcome, Target: e.Target, Detail: e.Detail,
	}
}

// Seal gives the record its place in the writer's chain.
func (r Record) Seal(writer string, sequence int64, previous []byte) Record {
	r.Writer, r.Sequence = writer, sequence
	r.Hash = r.digest(previous)
	return r
}

// digest hashes previous and every field, each with its length, in a fixed
// order; Detail by sorted key.
func (r Record) digest(previous []byte) []byte {
	h := sha256.New()
	put := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	put([]byte("sallyport audit v1"))
	put(previous)
	for _, s := range []string{r.Writer, fmt.Sprint(r.Sequence), fmt.Sprint(r.Time.UnixMicro()), r.CorrelationID, r.Principal, string(r.PrincipalType), r.PrincipalName,
		r.Client, r.Address, r.ClientRequestID, r.Type, string(r.Outcome), r.Target} {
		put([]byte(s))
	}
	keys := make([]string, 0, len(r.Detail))
	for k := range r.Detail {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		put([]byte(k))
		put([]byte(r.Detail[k]))
	}
	return h.Sum(nil)
}

// Restored is the type of the record by which a chain goes on after a backup was
// restored. The numbers that it leaves out belong to records that were written
// after the backup and lost with it; it says after which one, and its hash covers
// that one's. Nothing else may leave a number out.
const Restored = "server.restore"

// LastSequence is the fact of such a record that names the last one before it.
const LastSequence = "lastSequence"

// Verify reports whether r follows previous in its chain: the next sequence
// number, or those left out explained, and a hash that matches. The first record
// of a chain follows the zero Record of that writer.
func (r Record) Verify(previous Record) error {
	if r.Sequence != previous.Sequence+1 && !r.resumes(previous) {
		return fmt.Errorf("record %s/%d does not follow %d: records are missing", r.Writer, r.Sequence, previous.Sequence)
	}
	if got := r.digest(previous.Hash); !slices.Equal(got, r.Hash) {
		return fmt.Errorf("record %s/%d was altered: its hash does not match", r.Writer, r.Sequence)
	}
	return nil
}

// resumes reports whether the record says that it goes on after previous.
func (r Record) resumes(previous Record) bool {
	return r.Type == Restored && r.Sequence > previous.Sequence && r.Detail[LastSequence] == strconv.FormatInt(previous.Sequence, 10)
}

// Head is the signed end of a chain, carried in grants snapshots so that
// machines witness it.
type Head struct {
	Writer   string `json:"writer"`
	Sequence int64  `json:"sequence"`
	Hash     []byte `json:"hash"`
}

// Bytes returns what the audit key signs.
func (h Head) Bytes() []byte {
	b, err := json.Marshal(h)
	if err != nil {
		return nil // strings, an integer and bytes always marshal
	}
	return append([]byte("sallyport audit head v1\n"), b...)
}
