package machine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
)

// Step is one condition of a login, in the order in which it is looked at.
type Step struct {
	Name    string `json:"step"`
	Passed  bool   `json:"passed"`
	Message string `json:"message"`
}

// Weighed is one assignment of an account, with what it gives on the machine.
type Weighed struct {
	Through
	Counts bool            `json:"counts"`
	Access protocol.Access `json:"access"` // none unless it counts
	Why    string          `json:"why"`
}

// Explanation is why an account gets into a machine, or does not.
type Explanation struct {
	Principal   Account   `json:"principal"`
	Machine     string    `json:"machine"`
	Steps       []Step    `json:"steps"`
	Assignments []Weighed `json:"assignments"`
	Hidden      int       `json:"hiddenAssignments"` // elsewhere, where the asker may not look
	Verdict     Verdict   `json:"verdict"`
}

// Verdict is what the next login meets. Reason is the agent's own word for it, or
// "policy" where the server issues no certificate to come with.
type Verdict struct {
	Access  protocol.Access `json:"access"`
	Reason  string          `json:"reason"`
	Message string          `json:"message"`
}

// Question asks about one account at one machine. Visible says where the asker
// may see assignments; those that reach the machine are shown in any case. Asker
// is for what is not everybody's to read: nobody may read it where it is not set.
type Question struct {
	Who        string // user principal name or object id
	MachineID  string
	ResourceID scope.ID
	Visible    func(scope.ID) bool
	Asker      audit.By
}

// awayAfter is how long an agent may be silent: twice its longest poll.
const awayAfter = 2 * maxWait

// Explain shows each step of the decision. The accesses are those of Derive,
// run for this one account; the steps about the machine are the fields of the
// same document and the machine's last poll.
func (a Access) Explain(q Question) (Explanation, error) {
	who, err := a.find(q.Who)
	if err != nil {
		return Explanation{}, err
	}
	desired, ok := a.Service.cfg.Resources.Desired(q.MachineID)
	if !ok {
		desired = Desired{ResourceID: q.ResourceID}
	}
	state, joined := a.Service.State(q.MachineID)
	in := a.Service.grants(state.Machine, desired)
	in.Capability = protocol.Capability // of an older agent the extension's own state says more
	if u, ok := a.People.User(who.ID); ok {
		in.Users = []directory.User{u}
	} else if p, ok := a.People.ServicePrincipal(who.ID); ok {
		in.ServicePrincipals = []directory.ServicePrincipal{p}
	}
	doc := Derive(in)
	e := Explanation{Principal: who, Machine: q.ResourceID.String()}
	groups := a.groups(who.ID)
	a.weigh(&e, q, who.ID, groups)
	e.Steps = append(e.Steps, accountStep(who), a.groupStep(who.ID, groups), roleStep(e, doc))
	e.Steps = append(e.Steps, machineSteps(doc)...)
	e.Steps = append(e.Steps, a.agentStep(state, joined), snapshotStep(state, joined))
	e.Verdict = a.verdict(e, doc, state, joined)
	return e, nil
}

// find accepts a user principal name, or the object id of a user or service
// principal.
func (a Access) find(who string) (Account, error) {
	id := strings.ToLower(who)
	if u, ok := a.People.UserByUPN(id); ok {
		id = u.ID
	}
	if found, ok := a.account(id); ok {
		return found, nil
	}
	if len(who) > 120 {
		who = who[:120]
	}
	if _, ok := a.People.Group(id); ok {
		return Account{}, fault.New(fault.Invalid, "NotAnAccount", "%s is a group, and a group does not log in", who).
			WithRemedy("Name a member of it: sally ad group member list").WithTarget("principal")
	}
	return Account{}, fault.New(fault.NotFound, "PrincipalNotFound", "Principal %s does not exist in the directory %s.", who, a.Service.cfg.Directory.Tenant().ID).
		WithRemedy("Give a user principal name or an object id: sally ad user list").WithTarget("principal")
}

// groups lists every group that holds the account, through others too, sorted.
func (a Access) groups(id string) []string {
	var all []string
	for queue := []string{id}; len(queue) > 0; queue = queue[1:] {
		for _, g := range a.People.GroupsDirectlyOf(queue[0]) {
			if !slices.Contains(all, g) {
				all, queue = append(all, g), append(queue, g)
			}
		}
	}
	slices.Sort(all)
	return all
}

// weigh shows every assignment of the account and its groups. What gives admin
// is asked first, because it includes login.
func (a Access) weigh(e *Explanation, q Question, id string, groups []string) {
	of := actionsAt(q.ResourceID)
	query := rbac.Query{Principals: append([]string{id}, groups...), Scope: q.ResourceID, Data: true, Action: of.admin}
	admin := map[string]bool{}
	for _, c := range a.Roles.Consider(query) {
		admin[c.Assignment.ID] = c.Counts
	}
	query.Action = of.login
	e.Assignments = []Weighed{}
	for _, c := range a.Roles.Consider(query) {
		if c.Assignment.Scope == scope.Directory() {
			continue // directory roles are about the directory
		}
		if !c.Applies && !q.Visible(c.Assignment.Scope) {
			e.Hidden++
			continue
		}
		w := Weighed{Through: a.through(c.Assignment, c.Role, a.path(id, c.Assignment.PrincipalID)), Counts: c.Counts || admin[c.Assignment.ID], Access: protocol.None, Why: c.Why}
		if w.Counts {
			w.Access, _ = decide(true, admin[c.Assignment.ID], true, false)
		}
		e.Assignments = append(e.Assignments, w)
	}
}

func accountStep(who Account) Step {
	s := Step{Name: "account", Passed: who.Enabled && who.posix, Message: who.Name + " is enabled"}
	if !who.Enabled {
		s.Message = who.Name + " is disabled"
	} else if !who.posix {
		s.Message = who.Name + " has no POSIX identity, so it has no account on any machine"
	}
	return s
}

func (a Access) groupStep(id string, groups []string) Step {
	s := Step{Name: "groups", Passed: true, Message: "in no group"}
	var ways []string
	for _, g := range groups {
		var names []string
		for _, n := range a.path(id, g) {
			names = append(names, n.Name)
		}
		ways = append(ways, strings.Join(names, " > "))
	}
	if len(ways) > 0 {
		s.Message = "in " + strings.Join(ways, ", ")
	}
	return s
}

// told is what the document says about its one account.
func told(doc protocol.SnapshotDocument) (protocol.Access, string) {
	if len(doc.Principals) != 1 {
		return protocol.None, protocol.ReasonDeleted
	}
	return doc.Principals[0].Access, doc.Principals[0].Reason
}

func roleStep(e Explanation, doc protocol.SnapshotDocument) Step {
	access, reason := told(doc)
	counting := 0
	for _, w := range e.Assignments {
		if w.Counts {
			counting++
		}
	}
	s := Step{Name: "role", Passed: counting > 0, Message: fmt.Sprintf("%d of %d role assignments open this machine", counting, len(e.Assignments)+e.Hidden)}
	switch {
	case access != protocol.None:
		s.Message += ": " + string(access)
	case reason == protocol.ReasonOwner:
		s.Message += ": Owner and Contributor manage the machine, and that alone opens no login"
	}
	return s
}

func machineSteps(doc protocol.SnapshotDocument) []Step {
	kind, install := "vm", "vm extension set"
	if id, err := scope.Parse(doc.ResourceID); err == nil && strings.EqualFold(id.Type(), "Microsoft.HybridCompute/machines") {
		kind, install = "machine", "machine extension create"
	}
	identity := Step{Name: "identity", Passed: doc.Identity, Message: "the machine has its system-assigned identity"}
	if !doc.Identity {
		identity.Message = "the machine has no system-assigned identity; turn it on with: sally " + kind + " identity assign"
	}
	extension := Step{Name: "extension", Passed: doc.LoginEnabled, Message: "AADSSHLoginForLinux is installed"}
	switch {
	case !doc.LoginEnabled:
		extension.Message = "AADSSHLoginForLinux is not installed; install it with: sally " + install
	case doc.Preview:
		extension.Message = "AADLoginForLinux, the preview, is installed: it lets people in by a web page and not with certificates"
	}
	return []Step{identity, extension}
}

func (a Access) agentStep(s State, joined bool) Step {
	silent := a.Service.cfg.Now().Sub(s.LastSeen)
	switch {
	case !joined:
		return Step{Name: "agent", Message: "no agent has joined as this machine"}
	case s.LastSeen.IsZero():
		return Step{Name: "agent", Message: "the agent has not asked since this server started"}
	case silent > awayAfter:
		return Step{Name: "agent", Message: "the agent was last seen " + silent.Round(time.Second).String() + " ago"}
	}
	return Step{Name: "agent", Passed: true, Message: "the agent is connected"}
}

func snapshotStep(s State, joined bool) Step {
	switch {
	case !joined || s.Version == 0:
		return Step{Name: "snapshot", Message: "nothing was sent to the machine since this server started"}
	case s.Acknowledged < s.Version:
		return Step{Name: "snapshot", Message: fmt.Sprintf("the machine holds version %d of its grants and has not acknowledged version %d", s.Acknowledged, s.Version)}
	}
	return Step{Name: "snapshot", Passed: true, Message: fmt.Sprintf("the machine holds the newest version of its grants, %d", s.Version)}
}

// verdict follows the agent's order: the machine, the account, the role, how
// fresh the grants are. A test
// compares it with the agent's own decision.
func (a Access) verdict(e Explanation, doc protocol.SnapshotDocument, s State, joined bool) Verdict {
	access, reason := told(doc)
	v := Verdict{Access: protocol.None}
	switch {
	case !joined:
		v.Reason, v.Message = "no-snapshot", "refused: no agent has joined as this machine"
	case !doc.LoginEnabled:
		v.Reason, v.Message = "extension-off", "refused: sign-in with directory accounts is off on this machine"
	case !doc.Identity:
		v.Reason, v.Message = "identity-removed", "refused: the machine has no system-assigned managed identity"
	case len(doc.Principals) == 0:
		v.Reason, v.Message = "unknown", "refused: "+e.Principal.Name+" has no account on machines"
	case reason == protocol.ReasonDisabled:
		v.Reason, v.Message = "disabled", "refused: the account is disabled"
	case reason == protocol.ReasonOwner:
		v.Reason, v.Message = "owner-only", "refused: Owner or Contributor alone opens no login; Virtual Machine Administrator Login or Virtual Machine User Login is needed"
	case access == protocol.None:
		v.Reason, v.Message = "no-role", "refused: neither Virtual Machine Administrator Login nor Virtual Machine User Login reaches this machine"
	case !s.LastSeen.IsZero() && a.Service.cfg.Now().Sub(s.LastSeen) > time.Duration(doc.UserStale)*time.Second:
		v.Reason, v.Message = "stale", "refused: the machine has not heard from the server for longer than grants hold without it"
	default:
		v.Access, v.Reason, v.Message = access, "granted", "allowed, without sudo"
		if access == protocol.Admin {
			v.Message = "allowed, with sudo"
		}
	}
	if joined && s.Acknowledged < s.Version {
		v.Message += "; the machine has not taken over its newest grants yet, and until then decides by the older ones"
	}
	return v
}
