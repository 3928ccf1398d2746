package machine

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/machine/protocol"
)

const (
	maxEvents   = 256
	maxListed   = 64
	maxText     = 1024
	maxDetail   = 16
	maxEventKey = 64
	maxSequence = 1 << 53
)

// Report stores what a machine has reached and audits its events, each once
// however often the machine repeats it. by.Principal is the machine. Nothing is
// written when nothing is new.
func (s *Service) Report(ctx context.Context, by audit.By, r protocol.Report) error {
	m, ok := s.cfg.Machines.ByID(by.Principal)
	if !ok {
		return errUnknownMachine()
	}
	batch, err := openBatch(m, r)
	if err != nil {
		return err
	}
	r.Events = batch.events
	if err := checkReport(r); err != nil {
		return err
	}
	s.seen(by.Principal)
	done, err := s.inTurn(ctx, m.ID)
	if err != nil {
		return err
	}
	defer done()
	heads := s.fresh(m.ID, r.Witnessed)
	stored, sessions, moved, err := s.stands(ctx, m.ID, r)
	if err != nil {
		return err
	}
	if same(stored, reported(stored, r)) && len(r.Events) == 0 && len(heads) == 0 && !moved {
		return nil
	}
	thumbprint := m.Thumbprint
	err = s.cfg.Write(ctx, func(t Tx) error {
		m, ok, err := t.MachineByID(by.Principal)
		if err != nil {
			return err
		}
		if !ok || m.Thumbprint != thumbprint {
			return errUnknownMachine()
		}
		if next := reported(m, r); !same(m, next) {
			next.Report.At = t.Now()
			if err := t.PutMachine(next); err != nil {
				return err
			}
		}
		if err := s.events(t, by, m, batch); err != nil {
			return err
		}
		for _, h := range heads {
			if err := t.PutWitness(m.ID, h); err != nil {
				return err
			}
		}
		if !moved {
			return nil
		}
		return putSessions(t, m.ID, sessions)
	})
	if err == nil {
		s.stored(m.ID, heads)
	}
	return err
}

// inTurn waits until no report of the machine is being stored. A machine that has
// waited too long for an answer reports anew, and what it said first must not be
// stored after that.
func (s *Service) inTurn(ctx context.Context, machineID string) (done func(), err error) {
	s.mu.Lock()
	reports := s.of(machineID).reports
	s.mu.Unlock()
	select {
	case reports <- struct{}{}:
		return func() { <-reports }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// witnessEvery is how often what a machine has seen of one writer is stored.
const witnessEvery = time.Hour

// fresh returns the heads that are due to be stored: signed by the audit key,
// and none of the same writer within the hour. What does not verify, for its
// key has been replaced or never was ours, is no evidence and is left out.
func (s *Service) fresh(machineID string, seen []protocol.Witnessed) []protocol.Witnessed {
	_, m := s.cfg.Keys.Manifest()
	now := s.cfg.Now()
	s.mu.Lock()
	last := maps.Clone(s.of(machineID).witnessed)
	s.mu.Unlock()
	var out []protocol.Witnessed
	for _, h := range seen {
		if at, ok := last[h.Head.Writer]; ok && now.Sub(at) < witnessEvery || !audit.ValidWriter(h.Head.Writer) || h.Epoch < 1 || h.Epoch > m.Epoch {
			continue
		}
		if h.Check(m.For(protocol.Audit)) == nil {
			out = append(out, h)
		}
	}
	return out
}

func (s *Service) stored(machineID string, heads []protocol.Witnessed) {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.of(machineID)
	for _, h := range heads {
		if l.witnessed == nil {
			l.witnessed = map[string]time.Time{}
		}
		l.witnessed[h.Head.Writer] = now
	}
}

func reported(m Machine, r protocol.Report) Machine {
	m.Agent = r.Agent
	m.HostKeys = nil
	for _, line := range r.HostKeys {
		if k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err == nil {
			m.HostKeys = append(m.HostKeys, keyText(k))
		}
	}
	slices.Sort(m.HostKeys)
	m.Report = Reached{Revision: r.Revision, Provisioned: r.Provisioned, ExitCode: r.ExitCode, Message: r.Message, Addresses: slices.Sorted(slices.Values(r.Addresses)), At: m.Report.At, Upgrade: r.Upgrade}
	return m
}

func same(a, b Machine) bool {
	return a.Agent == b.Agent && slices.Equal(a.HostKeys, b.HostKeys) && a.Report.Revision == b.Report.Revision && a.Report.Provisioned == b.Report.Provisioned &&
		a.Report.ExitCode == b.Report.ExitCode && a.Report.Message == b.Report.Message && slices.Equal(a.Report.Addresses, b.Report.Addresses) && sameUpgrade(a.Report.Upgrade, b.Report.Upgrade)
}

func sameUpgrade(a, b *protocol.UpgradeState) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func errReport(what string) error {
	return fault.New(fault.Invalid, "InvalidReport", "the machine's report is refused: %s", what)
}

func checkReport(r protocol.Report) error {
	switch {
	case r.Capability < 1 || r.Capability > protocol.Capability:
		return errReport("its capability is unknown")
	case !short(r.Agent) || !text(r.Message):
		return errReport("agent or message is too long or not printable")
	case r.Provisioned != "Succeeded" && r.Provisioned != "Failed" && r.Provisioned != "Transitioning" && r.Provisioned != "":
		return errReport("provisioned is none of Succeeded, Failed, Transitioning")
	case r.Revision < 0 || len(r.Addresses) > maxListed || len(r.HostKeys) > maxListed || len(r.Events) > maxEvents || len(r.Witnessed) > protocol.MaxWitnessed:
		return errReport("a number or list is out of range")
	}
	for _, a := range r.Addresses {
		if ip, err := netip.ParseAddr(a); err != nil || ip.Zone() != "" { // a zone may hold any byte
			return errReport("an address is not an IP address")
		}
	}
	for _, k := range r.HostKeys {
		if _, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(k)); err != nil || len(rest) > 0 {
			return errReport("a host key cannot be read")
		}
	}
	for _, e := range r.Events {
		if err := checkEvent(e); err != nil {
			return err
		}
	}
	if u := r.Upgrade; u != nil && (r.Capability < protocol.UpgradeCapability || u.Check() != nil || !text(u.Reason)) {
		return errReport("its upgrade is none, or its capability has none")
	}
	return checkSessions(r)
}

func checkSessions(r protocol.Report) error {
	if len(r.Sessions) > protocol.MaxSessions || r.MoreSessions < 0 || r.Capability < 3 && (len(r.Sessions) > 0 || r.MoreSessions > 0) {
		return errReport("its sessions are too many, or its capability has none")
	}
	seen := map[string]bool{}
	for _, n := range r.Sessions {
		if err := n.Check(); err != nil {
			return errReport(err.Error())
		}
		if seen[n.ID] {
			return errReport("a session is there twice")
		}
		seen[n.ID] = true
	}
	return nil
}

func errEvent(what string) error {
	return fault.New(fault.Invalid, protocol.CodeEvent, "the machine's report is refused: %s", what)
}

func checkEvent(e protocol.MachineEvent) error {
	if !guid.Valid(e.ID) || !guid.Valid(e.CorrelationID) || e.ObjectID != "" && !guid.Valid(e.ObjectID) {
		return errEvent("an event's ids are not GUIDs")
	}
	if e.Type == "" || len(e.Type) > maxEventKey || strings.Trim(e.Type, "abcdefghijklmnopqrstuvwxyz.ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return errEvent("an event's type is not area.verb")
	}
	if e.Sequence < 0 || e.Sequence > maxSequence {
		return errEvent("an event's number is out of range")
	}
	if !text(e.LoginName) || len(e.Detail) > maxDetail {
		return errEvent("an event's login name or detail is too long")
	}
	for k, v := range e.Detail {
		if len(k) > maxEventKey || !text(k) || !text(v) {
			return errEvent("an event's detail is too long or not printable")
		}
	}
	return nil
}

// text accepts printable UTF-8 of at most maxText bytes; no control characters,
// so that a record cannot paint on the terminal of whoever reads it.
func text(v string) bool {
	return len(v) <= maxText && strings.IndexFunc(v, func(r rune) bool { return r < ' ' || r >= 0x7f && r <= 0x9f || r == 0xfffd }) < 0
}
