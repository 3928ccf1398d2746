package machine

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// maxSkew is how far another server's clock may be ahead; machines accept as much.
const maxSkew = 5 * time.Minute

// maxWait is the longest that a poll may wait.
const maxWait = time.Minute

func errUnknownMachine() error {
	return fault.New(fault.Unauthenticated, "MachineUnknown", "no machine has joined with this key, or it was removed").
		WithRemedy("Join again with a new token: sally agent join --token-file FILE.")
}

// Poll answers at once when the machine lacks the newest manifest or snapshot,
// else when a change makes a newer one or the wait ends. by.Principal is the
// machine. What the machine says it holds counts as its acknowledgement.
func (s *Service) Poll(ctx context.Context, by audit.By, r protocol.PollRequest) (protocol.PollAnswer, error) {
	if r.Capability < 1 || r.Capability > protocol.Capability || r.WaitMillis < 0 || r.Version < 0 || r.Epoch < 0 {
		return protocol.PollAnswer{}, fault.New(fault.Invalid, "InvalidPoll", "the poll's capability, version or wait is out of range")
	}
	s.acknowledge(by.Principal, r)
	if err := s.acknowledgeManifest(ctx, by.Principal, r); err != nil {
		return protocol.PollAnswer{}, err
	}
	s.reach(ctx, r)
	wait, cancel := context.WithTimeout(ctx, min(time.Duration(r.WaitMillis)*time.Millisecond, maxWait, s.resign()))
	defer cancel()
	// Each poll derives once, whatever is known of the changes: what a touch
	// forgot is found within one wait. One that follows its answer at once does not.
	derived := s.justDerived(by.Principal, r)
	leave := func() {}
	defer func() { leave() }()
	for {
		leave()
		// The position is read before the indexes: a document may be newer than
		// its version says, never older.
		var moved <-chan struct{}
		moved, leave = s.waiters.wait(s.cfg.Feed)
		position := s.cfg.Feed.Position()
		accounts, err := s.accountsAt(ctx)
		if err != nil {
			return protocol.PollAnswer{}, err
		}
		// The store may know of changes that the indexes do not show yet: a table
		// that is made now does not have them.
		accounts = max(min(accounts, position), 1)
		waiting := s.held() != nil
		if derived < 0 || s.stale(by.Principal, derived, position, accounts, r) {
			var answer protocol.PollAnswer
			err := s.deep(ctx, func() (err error) {
				answer, err = s.newer(ctx, by.Principal, waiting, position, accounts, r)
				return err
			})
			if err != nil || answer.Snapshot != nil || answer.Manifest != nil || answer.Accounts != nil {
				return answer, err
			}
		}
		derived = position
		if !waiting { // else it is told nothing, so that it lacks nothing proves nothing
			s.through(by.Principal, position)
		}
		select {
		case <-moved:
		case <-wait.Done():
			s.seen(by.Principal)
			return protocol.PollAnswer{Now: s.cfg.Now().UTC()}, ctx.Err()
		}
	}
}

// rederive is after how long a machine is derived anew although no touch says so.
const rederive = 30 * time.Second

// justDerived is the position that a machine's document was derived at a moment
// ago, when it holds that document; -1 when it has to be derived.
func (s *Service) justDerived(machineID string, r protocol.PollRequest) int64 {
	_, m := s.cfg.Keys.Manifest()
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.of(machineID)
	switch {
	case apart(r) && r.AccountsEpoch != m.Epoch, l.derived <= 0 || l.issuedAt.IsZero() || now.Sub(l.derivedAt) >= rederive || now.Before(l.derivedAt),
		r.Epoch != m.Epoch || r.Version != l.version || !r.IssuedAt.Equal(l.issuedAt), now.Sub(l.issuedAt) >= s.cfg.Resign:
		return -1
	}
	return l.derived
}

// reach waits until this server knows as much as the machine does from another.
func (s *Service) reach(ctx context.Context, r protocol.PollRequest) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Behind)
	defer cancel()
	for {
		moved := s.cfg.Feed.Moved()
		if _, m := s.cfg.Keys.Manifest(); !future(r, m.Epoch, s.cfg.Feed.Position()) {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

// future reports whether a machine holds what was made behind a position of an
// epoch.
func future(r protocol.PollRequest, epoch, position int64) bool {
	return r.Epoch == epoch && r.Version > position || r.AccountsEpoch == epoch && r.Accounts > position
}

// stale reports whether a machine that has been looked at may be told something
// new: the manifest changed, or a change concerns it.
func (s *Service) stale(machineID string, derived, position, accounts int64, r protocol.PollRequest) bool {
	if _, manifest := s.cfg.Keys.Manifest(); lacks(r, manifest) || apart(r) && r.Accounts < accounts {
		return true
	}
	return s.Concerned(machineID, derived, position, !apart(r))
}

// apart reports whether a machine holds accounts and grants apart.
func apart(r protocol.PollRequest) bool { return r.Capability >= 2 }

func (s *Service) acknowledge(machineID string, r protocol.PollRequest) {
	at := s.cfg.Now()
	_, manifest := s.cfg.Keys.Manifest()
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.of(machineID)
	l.lastSeen, l.acknowledged, l.accounts = at, r.Version, -1
	if apart(r) {
		if l.accounts = r.Accounts; r.AccountsEpoch != manifest.Epoch {
			l.accounts = 0
		}
	}
	if r.Epoch != manifest.Epoch {
		l.acknowledged = 0 // a version of another epoch says nothing about this one's
	}
}

// acknowledgeManifest stores which manifest a machine has in force, when that
// changed. A machine of the first protocol version means what it holds.
func (s *Service) acknowledgeManifest(ctx context.Context, machineID string, r protocol.PollRequest) error {
	said := [2]int64{r.AppliedEpoch, r.AppliedManifest}
	if r.Capability < 2 {
		_, m := s.cfg.Keys.Manifest()
		if said = [2]int64{m.Epoch, r.Manifest}; r.Epoch != 0 {
			said[0] = r.Epoch
		}
	}
	s.mu.Lock()
	known := s.of(machineID).manifest == said
	s.mu.Unlock()
	if _, joined := s.cfg.Machines.ByID(machineID); known || !joined || said[1] == 0 {
		return nil
	}
	err := s.deep(ctx, func() error {
		var stored [2]int64
		err := s.cfg.Read(ctx, func(t Tx) (err error) {
			stored[0], stored[1], err = t.AcknowledgedManifest(machineID)
			return err
		})
		if err == nil && stored != said {
			err = s.cfg.Write(ctx, func(t Tx) error { return t.AcknowledgeManifest(machineID, said[0], said[1]) })
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("acknowledgement of the manifest: %w", err)
	}
	s.mu.Lock()
	s.of(machineID).manifest = said
	s.mu.Unlock()
	return nil
}

// lacks reports whether a machine holds an older manifest. One that holds a newer
// one has it from a replica that is ahead of this one.
func lacks(r protocol.PollRequest, m protocol.Manifest) bool {
	held := r.ManifestEpoch
	if r.Capability < 2 {
		held = r.Epoch
	}
	return held < m.Epoch || held == m.Epoch && r.Manifest < m.Version
}

// newer returns what the machine does not hold yet; waiting says that machines are
// given nothing new.
func (s *Service) newer(ctx context.Context, machineID string, waiting bool, position, accounts int64, r protocol.PollRequest) (protocol.PollAnswer, error) {
	answer := protocol.PollAnswer{Now: s.cfg.Now().UTC()}
	signed, manifest := s.cfg.Keys.Manifest()
	// A machine of capability 1 does not say which epoch its manifest has.
	told := waiting && r.Capability < 2 && r.Manifest == manifest.Version
	if lacks(r, manifest) && !told {
		answer.Manifest = &signed
		r.IssuedAt = time.Time{} // the held snapshot's key may have gone: both come together
	}
	m, ok := s.cfg.Machines.ByID(machineID)
	if !ok {
		return answer, errUnknownMachine()
	}
	if waiting {
		return answer, nil // it waits; the change that lifts this wakes it
	}
	d, ok := s.cfg.Resources.Desired(machineID)
	if !ok {
		if _, known := s.cfg.Machines.ByID(machineID); !known {
			return answer, errUnknownMachine() // both went since: a quarantine, which shuts nobody out
		}
		d = Desired{ResourceID: m.ResourceID} // deleted: nobody may log in any more
	}
	if future(r, manifest.Epoch, position) {
		return answer, fault.New(fault.Conflict, "SnapshotFromTheFuture", "the machine holds version %d and accounts of version %d, and this server is at %d: the server's data is older than the machine's", r.Version, r.Accounts, position).
			WithRemedy("After restoring a backup, raise the epoch on the server.")
	}
	if !apart(r) {
		var err error
		answer.Snapshot, err = s.snapshot(Derive(s.inputs(m, d)), [sha256.Size]byte{}, manifest.Epoch, position, r, 0)
		return answer, err
	}
	var err error
	if answer.Accounts, err = s.accountsFor(ctx, manifest, accounts, r); err != nil {
		return answer, err
	}
	in := s.inputsOf(m, d)
	if r.Capability >= 3 {
		in.Capability = r.Capability
		in.Ended = s.cfg.Machines.Ended(machineID, s.cfg.Now())
		if s.cfg.LongestSession != nil {
			in.SessionMax = s.cfg.LongestSession()
		}
	}
	if r.Capability >= protocol.UpgradeCapability && s.cfg.Upgrade != nil {
		in.Upgrade = s.cfg.Upgrade(machineID)
	}
	grants, err := s.grantsAt(d.ResourceID, position)
	if err != nil {
		return answer, err
	}
	doc := frame(in)
	doc.Grants = grants.grants
	// A snapshot demands the accounts of its time, so that whoever carries both
	// cannot withhold one of them.
	answer.Snapshot, err = s.snapshot(doc, grants.digest, manifest.Epoch, position, r, accounts)
	return answer, err
}

// snapshot signs the document when the machine needs it: it holds another
// version, or the held one was signed too long ago.
func (s *Service) snapshot(doc protocol.SnapshotDocument, grants [sha256.Size]byte, epoch, position int64, r protocol.PollRequest, accounts int64) (*protocol.Envelope, error) {
	doc.Epoch = epoch
	digest, err := digestOf(doc, grants)
	if err != nil {
		return nil, err
	}
	at := s.cfg.Now().UTC()
	head, signed := s.cfg.Keys.AuditHead()
	s.mu.Lock()
	l := s.of(doc.MachineID)
	if r.Epoch == epoch && r.Version > l.version {
		// Another server signed what it holds: versions and times go on from there.
		l.version, l.digest = position, [32]byte{}
	}
	if ahead := r.IssuedAt.Sub(at); r.Epoch == epoch && r.IssuedAt.After(l.issuedAt) && ahead < maxSkew {
		l.issuedAt = r.IssuedAt
	}
	l.derived, l.derivedAt = position, at
	if digest != l.digest || l.issuedAt.IsZero() {
		l.digest, l.version = digest, position
	} else if held := r.Epoch == epoch && r.Version == l.version && r.IssuedAt.Equal(l.issuedAt); held && at.Sub(l.issuedAt) < s.resign() {
		s.mu.Unlock()
		return nil, nil
	}
	if !at.After(l.issuedAt) {
		at = l.issuedAt.Add(time.Microsecond)
	}
	l.issuedAt = at.Truncate(time.Microsecond)
	doc.Version, doc.IssuedAt, doc.Accounts = l.version, l.issuedAt, accounts
	// Two polls side by side must not show the machine a head that goes back.
	if signed && (head.Head.Writer != l.head.Head.Writer || head.Head.Sequence > l.head.Head.Sequence) {
		l.head = head
	}
	if l.head.KeyID != "" {
		h := l.head
		doc.AuditHead, doc.AuditKeyID, doc.AuditSig = &h.Head, h.KeyID, h.Signature
	}
	s.mu.Unlock()
	return s.sign(doc)
}

func (s *Service) sign(doc protocol.SnapshotDocument) (*protocol.Envelope, error) {
	doc.GoodUntil = doc.IssuedAt.Add(time.Duration(max(doc.UserStale, doc.AdminStale)) * time.Second)
	payload, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	e, err := s.cfg.Keys.Sign(protocol.TypeSnapshot, payload)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return &e, nil
}
