package machine

import (
	"crypto"
	"encoding/json"
	"maps"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/machine/protocol"
)

// Who says that an event happened: the root part, which signs with the host key
// that the machine has proven to hold, or only whoever holds the machine's key.
const (
	proofHostKey = "hostKey"
	proofNone    = "none"
)

// batch is the events of one report.
type batch struct {
	events []protocol.MachineEvent
	proof  string
}

// openBatch takes the events out of their envelope. A signature that does not
// verify costs no event: the host key may have been replaced since it was proven.
// It is recorded what stands behind them.
func openBatch(m Machine, r protocol.Report) (batch, error) {
	if r.Batch == nil {
		return batch{events: r.Events, proof: proofNone}, nil
	}
	if len(r.Events) > 0 {
		return batch{}, errReport("it has events beside the signed ones")
	}
	b := batch{proof: proofNone}
	if key := hostKey(m.ProvenKey); key != nil {
		if _, err := r.Batch.Open(key, protocol.TypeEvents); err == nil {
			b.proof = proofHostKey
		}
	}
	var d protocol.EventsDocument
	if err := protocol.Decode(r.Batch.Payload, &d); err != nil {
		return b, errReport("its signed events cannot be read")
	}
	if d.MachineID != m.ID {
		return b, errReport("its signed events are another machine's")
	}
	b.events = d.Events
	return b, nil
}

// hostKey parses a key in authorized_keys form; nil for none.
func hostKey(line string) crypto.PublicKey {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return nil
	}
	if k, ok := key.(ssh.CryptoPublicKey); ok {
		return k.CryptoPublicKey()
	}
	return nil
}

// Stream is how far a machine's events have come.
type Stream struct {
	Thumbprint string // the machine's key; another one begins a new stream
	Sequence   int64  // the highest number in the order of arrival
}

// events audits those that are new, each once however often the machine repeats
// it, and what their numbers say about those that did not come.
func (s *Service) events(t Tx, by audit.By, m Machine, b batch) error {
	if len(b.events) == 0 {
		return nil
	}
	was, err := t.EventStream(m.ID)
	if err != nil {
		return err
	}
	now := was
	if now.Thumbprint != m.Thumbprint {
		now = Stream{Thumbprint: m.Thumbprint}
	}
	for _, e := range b.events {
		fresh, err := t.TakeMachineEvent(m.ID, e.ID, t.Now())
		if err != nil {
			return err
		}
		if !fresh {
			continue
		}
		if err := sessionEnded(t, m.ID, e); err != nil {
			return err
		}
		if told, ok := now.follow(e.Sequence); ok {
			told.Target, told.Detail["machineId"], told.Detail["proof"] = m.ResourceID.String(), m.ID, b.proof
			if err := t.Audit(by, told); err != nil {
				return err
			}
		}
		one := by
		one.CorrelationID = e.CorrelationID
		if err := t.Audit(one, auditEvent(m, e, b.proof)); err != nil {
			return err
		}
	}
	if now == was {
		return nil
	}
	return t.PutEventStream(m.ID, now)
}

// follow takes over the next number and says what is wrong with it. Machines
// that do not number their events, and the first event of a key, prove nothing.
func (x *Stream) follow(n int64) (audit.Event, bool) {
	last := x.Sequence
	if n == 0 {
		return audit.Event{}, false
	}
	x.Sequence = n
	numbers := map[string]string{"last": strconv.FormatInt(last, 10), "next": strconv.FormatInt(n, 10)}
	switch {
	case last == 0 || n == last+1:
		return audit.Event{}, false
	case n > last:
		numbers["missing"] = strconv.FormatInt(n-last-1, 10)
		return audit.Event{Type: "machine.eventGap", Outcome: audit.Failure, Detail: numbers}, true
	}
	return audit.Event{Type: "machine.eventRewind", Outcome: audit.Failure, Detail: numbers}, true
}

// auditEvent puts a machine's event into the words of the audit. Time, object id
// and detail are the machine's words and are marked as such by the record's type
// and principal. An event that this server does not know, of a newer agent say,
// keeps what it says as one fact.
func auditEvent(m Machine, e protocol.MachineEvent, proof string) audit.Event {
	event := audit.Event{Type: "machine.other", Outcome: audit.Success, Target: m.ResourceID.String(), Detail: maps.Clone(e.Detail)}
	switch {
	case strings.HasSuffix(e.Type, ".deny"):
		event.Outcome = audit.Denied
	case strings.HasSuffix(e.Type, ".fail"):
		event.Outcome = audit.Failure
	}
	if event.Detail == nil {
		event.Detail = map[string]string{}
	}
	own := map[string]string{"objectId": e.ObjectID, "login": e.LoginName, "machineTime": e.Time.UTC().Format(time.RFC3339Nano)}
	if e.Sequence > 0 {
		own["sequence"], own["proof"] = strconv.FormatInt(e.Sequence, 10), proof
	}
	maps.Copy(event.Detail, own)
	known := event
	known.Type = "machine." + e.Type
	if audit.Declared(known) == nil && known.Type != event.Type {
		return known
	}
	facts, err := json.Marshal(e.Detail)
	if err != nil {
		facts = nil // texts always marshal
	}
	event.Detail = own
	event.Detail["event"], event.Detail["facts"] = e.Type, string(facts)
	return event
}
