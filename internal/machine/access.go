package machine

import (
	"cmp"
	"slices"
	"strings"

	"sallyport/internal/directory"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
)

// People finds accounts and what groups hold them. *directory.Index satisfies it.
type People interface {
	User(id string) (directory.User, bool)
	UserByUPN(upn string) (directory.User, bool)
	ServicePrincipal(id string) (directory.ServicePrincipal, bool)
	Group(id string) (directory.Group, bool)
	GroupsDirectlyOf(principalID string) []string
}

// Considerer answers for every assignment of somebody. *rbac.Index satisfies it.
type Considerer interface {
	Consider(rbac.Query) []rbac.Considered
}

// Access explains who gets in where, and why. It decides nothing: every answer
// is taken from what Derive tells machines.
type Access struct {
	Service *Service
	People  People
	Roles   Considerer
}

// Account is somebody who may sign in to machines.
type Account struct {
	ID      string `json:"id"`
	Type    string `json:"type"` // User or ServicePrincipal
	Name    string `json:"name"` // user principal name, or display name
	Enabled bool   `json:"-"`
	posix   bool
}

// Through is the assignment that lets somebody in.
type Through struct {
	AssignmentID string   `json:"roleAssignmentId"`
	RoleID       string   `json:"roleDefinitionId"`
	RoleName     string   `json:"roleName"`
	Scope        string   `json:"scope"`
	Groups       []NameID `json:"groups"` // from the assignment's group down to the one that holds the account; empty for an assignment to itself
}

// NameID is a group in a path.
type NameID struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Entrant is one account that gets in, by one assignment.
type Entrant struct {
	Principal Account         `json:"principal"`
	Access    protocol.Access `json:"access"`
	Through   Through         `json:"through"`
}

// WhoCanLogIn lists who may log in at a scope, so at every machine at or below
// it, with each assignment that says so: by name, then nearest assignment first.
// Accounts that are disabled or have no POSIX identity get in nowhere and are
// left out, as are assignments whose principal no longer exists.
func (a Access) WhoCanLogIn(at scope.ID) []Entrant {
	list, admins := a.letIn(at)
	out := []Entrant{}
	for _, h := range list {
		for _, id := range a.Service.members(h.PrincipalID) {
			who, ok := a.account(id)
			if !ok || !who.posix {
				continue
			}
			access, _ := decide(who.Enabled, admins[h.Assignment.ID], true, false)
			if access != protocol.None {
				out = append(out, Entrant{Principal: who, Access: access, Through: a.through(h.Assignment, h.Role, a.path(id, h.PrincipalID))})
			}
		}
	}
	slices.SortStableFunc(out, func(x, y Entrant) int {
		return cmp.Or(strings.Compare(x.Principal.Name, y.Principal.Name), strings.Compare(x.Principal.ID, y.Principal.ID), away(x.Through.Scope)-away(y.Through.Scope))
	})
	return out
}

// letIn lists the assignments that let somebody in, and which of them as
// administrator: at a machine by the actions of its kind, anywhere else by those
// of either kind, because machines of both may lie below.
func (a Access) letIn(at scope.ID) (list []rbac.Holder, admins map[string]bool) {
	kinds := []actions{machineActions(), hybridActions()}
	if _, isMachine := machineIn(at.String()); isMachine {
		kinds = []actions{actionsAt(at)}
	}
	admins = map[string]bool{}
	seen := map[string]bool{}
	collect := func(action string, admin bool) {
		for _, h := range a.Service.cfg.Roles.WhoCan(at, action, true) {
			admins[h.Assignment.ID] = admins[h.Assignment.ID] || admin
			if !seen[h.Assignment.ID] {
				seen[h.Assignment.ID] = true
				list = append(list, h)
			}
		}
	}
	for _, of := range kinds {
		collect(of.admin, true)
	}
	for _, of := range kinds {
		collect(of.login, false)
	}
	return list, admins
}

// away orders the scopes that enclose one place, nearest first: what lies in a
// subscription by length, then management groups, then the root.
func away(s string) int {
	switch {
	case strings.HasPrefix(s, "/subscriptions/"):
		return -len(s)
	case s == "/":
		return 2
	}
	return 1
}

func (a Access) account(id string) (Account, bool) {
	if u, ok := a.People.User(id); ok {
		return Account{ID: u.ID, Type: "User", Name: u.UPN, Enabled: u.Enabled, posix: u.UID != 0}, true
	}
	if p, ok := a.People.ServicePrincipal(id); ok {
		return Account{ID: p.ID, Type: "ServicePrincipal", Name: p.DisplayName, Enabled: p.Enabled, posix: p.UID != 0}, true
	}
	return Account{}, false
}

func (a Access) through(x rbac.Assignment, r rbac.Definition, groups []NameID) Through {
	prefix := strings.TrimSuffix(x.Scope.String(), "/")
	return Through{AssignmentID: prefix + "/providers/Microsoft.Authorization/roleAssignments/" + x.ID, RoleID: r.ID, RoleName: r.Name, Scope: x.Scope.String(), Groups: groups}
}

// path is a shortest way from a group down to a member of it; empty where the
// two are one.
func (a Access) path(member, group string) []NameID {
	out := []NameID{}
	if strings.EqualFold(member, group) {
		return out
	}
	below := map[string]string{}
	for queue := []string{member}; len(queue) > 0; queue = queue[1:] {
		for _, up := range a.People.GroupsDirectlyOf(queue[0]) {
			if _, seen := below[up]; seen {
				continue
			}
			below[up] = queue[0]
			if !strings.EqualFold(up, group) {
				queue = append(queue, up)
				continue
			}
			for ; up != member; up = below[up] {
				g, _ := a.People.Group(up)
				out = append(out, NameID{ID: up, Name: g.DisplayName})
			}
			return out
		}
	}
	return out
}
