package machine

import (
	"context"
	"slices"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/scope"
)

// RevocationMemory is how long a revocation can be shown.
const RevocationMemory = 30 * 24 * time.Hour

// Revocation is a change that takes something away from people who may be on
// machines. A machine that holds everything up to its position has acknowledged
// it: logins that it ends are refused there, and what it ends is being ended.
type Revocation struct {
	ID            string // of its audit record: the writer and its number
	Position      int64  // of the feed
	At            time.Time
	Type          string // of the audit record
	Target        string
	What          string // more about it
	By, ByName    string
	CorrelationID string
	Reach         string // which machines it concerns
}

// RevocationPlace is a place in the list of revocations, newest first; the zero
// one is its beginning. A transaction may hold several of one position.
type RevocationPlace struct {
	Position int64
	ID       string
}

// RevocationTx reads the revocations, which the store keeps as it audits them.
type RevocationTx interface {
	// Revocations returns revocations behind a place in the list, newest first, and
	// after a time.
	Revocations(behind RevocationPlace, after time.Time, limit int) ([]Revocation, error)
	RevocationByID(id string) (r Revocation, found bool, err error)
}

// The forms of a reach. A reach that is not understood concerns every machine.
const (
	reachAll     = "all"
	reachScope   = "scope:"
	reachGroup   = "group:"
	reachMachine = "machine:"
)

// Revokes says whether an audited change takes something away from people on
// machines, what it is and which machines it concerns. It names too much rather
// than too little: a role that is taken away may be one that lets nobody log in.
func Revokes(e audit.Event) (reach, what string, ok bool) {
	if e.Outcome != audit.Success {
		return "", "", false
	}
	switch e.Type {
	case "user.delete", "user.revokeSessions", "user.resetPassword", "user.changePassword", "servicePrincipal.delete", "servicePrincipal.revokeSessions", "roleDefinition.write", "roleDefinition.delete":
		return reachAll, e.Detail["userPrincipalName"], true
	case "user.update":
		const disabled = "accountEnabled=false"
		return reachAll, disabled, slices.Contains(strings.Fields(e.Detail["properties"]), disabled)
	case "servicePrincipal.update":
		return reachAll, "accountEnabled=false", e.Detail["accountEnabled"] == "false"
	case "certificate.revoke":
		return reachAll, "serial " + e.Detail["serial"], true
	case "group.removeMember":
		return reachGroup + strings.ToLower(e.Target), "member " + e.Detail["member"], true
	case "group.delete":
		return reachAll, e.Detail["displayName"], true
	case "roleAssignment.delete":
		return reachScope + e.Target, "principal " + e.Detail["principal"], true
	case "subscription.move":
		return reachScope + e.Target, "under " + e.Detail["parent"], true
	case "managementGroup.write":
		return reachScope + e.Target, "under " + e.Detail["parent"], true
	case "resource.write", "resource.delete":
		vm, isMachine := machineIn(e.Target)
		return reachScope + vm, e.Detail["type"], isMachine && e.Detail["created"] != "true"
	case "resource.move":
		// Whoever had a role at the old group or at the machine itself has lost it.
		vm, isMachine := machineIn(e.Target)
		return reachScope + vm, "from " + e.Detail["from"], isMachine && vm == e.Target
	case EventSessionEnd:
		return reachMachine + e.Detail["machineId"], "session " + e.Detail["session"], true
	}
	return "", "", false
}

// machineIn is the machine that a resource is, or is part of; for a scale set, all
// of its instances.
func machineIn(resourceID string) (string, bool) {
	const sets, instance = "/providers/microsoft.compute/virtualmachinescalesets/", "virtualmachines"
	if at := strings.Index(strings.ToLower(resourceID), sets); at >= 0 {
		parts := strings.Split(resourceID[at+len(sets):], "/")
		n := 1
		if len(parts) > 2 && strings.EqualFold(parts[1], instance) {
			n = 3
		}
		return resourceID[:at+len(sets)] + strings.Join(parts[:n], "/"), parts[n-1] != ""
	}
	for _, kind := range []string{"/providers/microsoft.compute/virtualmachines/", "/providers/microsoft.hybridcompute/machines/"} {
		if at := strings.Index(strings.ToLower(resourceID), kind); at >= 0 {
			name, _, _ := strings.Cut(resourceID[at+len(kind):], "/")
			return resourceID[:at+len(kind)] + name, name != ""
		}
	}
	return "", false
}

// through notes that a machine holds everything up to a position.
func (s *Service) through(machineID string, position int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.of(machineID)
	l.current = max(l.current, position)
}

// HoldsUntil is up to which position, at most now, a machine is known to hold
// everything that concerns it.
func (s *Service) HoldsUntil(machineID string, now int64) int64 {
	s.mu.Lock()
	held := int64(0)
	if l := s.live[machineID]; l != nil {
		held = max(l.current, l.elsewhere.Current)
	}
	s.mu.Unlock()
	if held > 0 && held < now && !s.Concerned(machineID, held, now, true) {
		return now
	}
	return min(held, now)
}

// reaches reports whether a revocation concerns a machine, as far as that can be
// told now.
func (s *Service) reaches(r Revocation, m Machine) bool {
	what, value, _ := strings.Cut(r.Reach, ":")
	at := m.ResourceID
	if d, ok := s.cfg.Resources.Desired(m.ID); ok {
		at = d.ResourceID
	}
	switch what + ":" {
	case reachMachine:
		return value == m.ID
	case reachScope:
		top, err := scope.Parse(value)
		return err != nil || s.cfg.Roles.Encloses(top, at)
	case reachGroup:
		groups := append([]string{value}, s.groupsOf(value)...)
		return s.cfg.Roles.HeldBy(at, groups)
	}
	return true
}

func (s *Service) groupsOf(id string) []string {
	if s.cfg.GroupsOf == nil {
		return nil
	}
	return s.cfg.GroupsOf(id)
}

// Pending is a revocation with the machines that have not acknowledged it.
type Pending struct {
	Revocation
	Machines []string // ids
}

// Revocations lists revocations, newest first, each with the machines that it
// concerns and that have not acknowledged it. No row is kept per machine: positions are
// compared.
func (s *Service) Revocations(ctx context.Context, behind RevocationPlace, after time.Time, limit int) ([]Pending, error) {
	var list []Revocation
	if err := s.cfg.Read(ctx, func(t Tx) (err error) {
		list, err = t.Revocations(behind, after, limit)
		return err
	}); err != nil || len(list) == 0 {
		return nil, err
	}
	return s.pending(list), nil
}

// RevocationByID finds one revocation; concerned is how many machines it concerns.
func (s *Service) RevocationByID(ctx context.Context, id string) (p Pending, concerned int, found bool, err error) {
	err = s.cfg.Read(ctx, func(t Tx) error {
		p.Revocation, found, err = t.RevocationByID(id)
		return err
	})
	if err != nil || !found {
		return p, 0, false, err
	}
	for _, m := range s.cfg.Machines.All() {
		if s.reaches(p.Revocation, m) {
			concerned++
		}
	}
	return s.pending([]Revocation{p.Revocation})[0], concerned, true, nil
}

func (s *Service) pending(list []Revocation) []Pending {
	newest, out := int64(0), make([]Pending, len(list))
	for i, r := range list {
		newest, out[i].Revocation = max(newest, r.Position), r
	}
	now := max(s.cfg.Feed.Position(), newest)
	for _, m := range s.cfg.Machines.All() {
		held := s.HoldsUntil(m.ID, now)
		if held >= newest {
			continue
		}
		for i, r := range list {
			if held < r.Position && s.reaches(r, m) {
				out[i].Machines = append(out[i].Machines, m.ID)
			}
		}
	}
	return out
}
