package machine

import (
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/machine/protocol"
)

// Reader is what the index loads itself from.
type Reader interface {
	MachineByID(id string) (Machine, bool, error)
	EachMachine(f func(Machine) error) error
	EndingsOf(machineID string) ([]Ending, error)
	EachEnding(f func(Ending) error) error
}

// Index holds all machine records in memory. It is safe for concurrent use and
// lags the store by what Refresh has not been told yet.
type Index struct {
	mu   sync.RWMutex
	byID map[string]Machine
	keys map[string]string // key thumbprint -> machine id
	host map[string]int    // SHA256 fingerprint of a proven host key -> machines that hold it
	ends map[string][]Ending
}

// NewIndex returns an empty index.
func NewIndex() *Index {
	return &Index{byID: map[string]Machine{}, keys: map[string]string{}, host: map[string]int{}, ends: map[string][]Ending{}}
}

// Load replaces the whole content.
func (x *Index) Load(r Reader) error {
	fresh := NewIndex()
	if err := r.EachMachine(func(m Machine) error { fresh.put(m); return nil }); err != nil {
		return err
	}
	if err := r.EachEnding(func(e Ending) error { fresh.ends[e.MachineID] = append(fresh.ends[e.MachineID], e); return nil }); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.byID, x.keys, x.host, x.ends = fresh.byID, fresh.keys, fresh.host, fresh.ends
	return nil
}

// Refresh follows one entry of the change feed; kinds other than "machine" and
// "machineSession" are ignored.
func (x *Index) Refresh(r Reader, kind, key string) error {
	switch kind {
	case "machine":
	case "machineSession":
		return x.refreshEndings(r, key)
	default:
		return nil
	}
	m, ok, err := r.MachineByID(key)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.drop(key)
	if ok {
		x.put(m)
	}
	return nil
}

func (x *Index) refreshEndings(r Reader, machineID string) error {
	list, err := r.EndingsOf(machineID)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ends[machineID] = list; len(list) == 0 {
		delete(x.ends, machineID)
	}
	return nil
}

// Ended lists the sessions that a machine is told to end at a time.
func (x *Index) Ended(machineID string, at time.Time) []protocol.EndedSession {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var list []protocol.EndedSession
	for _, e := range x.ends[machineID] {
		if e.told(at) {
			list = append(list, protocol.EndedSession{ID: e.Session.ID, CorrelationID: e.CorrelationID})
		}
	}
	slices.SortFunc(list, func(a, b protocol.EndedSession) int { return strings.Compare(a.ID, b.ID) })
	return list
}

func (x *Index) put(m Machine) {
	x.byID[m.ID] = m
	x.keys[m.Thumbprint] = m.ID
	if f := fingerprint(m.ProvenKey); f != "" {
		x.host[f]++
	}
}

func (x *Index) drop(id string) {
	old, ok := x.byID[id]
	if !ok {
		return
	}
	delete(x.byID, id)
	if x.keys[old.Thumbprint] == id {
		delete(x.keys, old.Thumbprint)
	}
	if f := fingerprint(old.ProvenKey); x.host[f] > 1 {
		x.host[f]--
	} else {
		delete(x.host, f)
	}
}

// ByID returns a machine by its id.
func (x *Index) ByID(id string) (Machine, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	m, ok := x.byID[id]
	return m, ok
}

// ByKey returns the machine that joined with a key.
func (x *Index) ByKey(thumbprint string) (Machine, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	m, ok := x.byID[x.keys[thumbprint]]
	return m, ok && thumbprint != ""
}

// IsHostKey reports whether the key with this fingerprint ("SHA256:...") is some
// machine's host key: such a key gets no user certificate. What a machine only
// says does not count: it would lock out whoever's public key it has seen.
func (x *Index) IsHostKey(fingerprint string) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	_, ok := x.host[fingerprint]
	return ok
}

// All returns every machine, ordered by id.
func (x *Index) All() []Machine {
	x.mu.RLock()
	all := make([]Machine, 0, len(x.byID))
	for _, m := range x.byID {
		all = append(all, m)
	}
	x.mu.RUnlock()
	slices.SortFunc(all, func(a, b Machine) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// fingerprint names a stored host key; "" for one that cannot be read, which no
// fingerprint equals.
func fingerprint(line string) string {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return ""
	}
	return ssh.FingerprintSHA256(key)
}

// keyText is a key in authorized_keys form: type and base64.
func keyText(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}
