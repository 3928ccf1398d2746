package rbac

import (
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
)

// StandingTx reads, inside a write, what a decision of the index rested on.
type StandingTx interface {
	RoleAssignmentByID(id string) (Assignment, bool, error)
	RoleDefinitionByID(id string) (Definition, bool, error)
	// GroupsHolding lists the groups that hold a principal directly.
	GroupsHolding(memberID string) ([]string, error)
}

// errMeanwhile refuses a write whose right went away between the question and
// the commit. Another assignment may still give the right: repeating finds out.
func errMeanwhile() error {
	return fault.New(fault.Conflict, "AuthorizationChanged", "your rights changed while this request was under way; nothing was changed.").WithRemedy("Repeat the request.")
}

// Stands confirms inside a write what the index, which is a moment behind, has
// allowed: the very assignment is still there, its role still grants the action,
// and by is still in the group that holds it. Whoever changes rights asks it, so
// that of two writes that take each other's right away only one succeeds.
func Stands(tx StandingTx, by audit.By, q Query, d Decision) error {
	if !d.Allowed || d.Assignment == nil {
		return errMeanwhile()
	}
	a, ok, err := tx.RoleAssignmentByID(d.Assignment.ID)
	if err != nil {
		return err
	}
	if !ok || a.Scope.Key() != d.Assignment.Scope.Key() || !strings.EqualFold(a.RoleID, d.Assignment.RoleID) || !strings.EqualFold(a.PrincipalID, d.Assignment.PrincipalID) {
		return errMeanwhile()
	}
	if !d.Role.BuiltIn {
		now, ok, err := tx.RoleDefinitionByID(a.RoleID)
		if err != nil {
			return err
		}
		if !ok || !compile(now).allows(strings.ToLower(q.Action), q.Data) {
			return errMeanwhile()
		}
	}
	return reaches(tx, by.Principal, a.PrincipalID)
}

// reaches confirms that a principal is another, or in it through groups.
func reaches(tx StandingTx, from, to string) error {
	seen := map[string]bool{}
	for queue := []string{strings.ToLower(from)}; len(queue) > 0; queue = queue[1:] {
		if strings.EqualFold(queue[0], to) {
			return nil
		}
		groups, err := tx.GroupsHolding(queue[0])
		if err != nil {
			return err
		}
		for _, g := range groups {
			if !seen[g] {
				seen[g] = true
				queue = append(queue, g)
			}
		}
	}
	return errMeanwhile()
}
