package store

import (
	"fmt"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
)

const assignmentColumns = `id, scope, role, principal, principal_type, description, created_at, created_by, updated_at, updated_by`

// places parses the text of a scope once and shares the result: many assignments
// are at one scope.
type places map[string]scope.ID

func (p places) parse(text string) (scope.ID, error) {
	if id, ok := p[text]; ok {
		return id, nil
	}
	id, err := scope.Parse(text)
	if err == nil {
		p[text] = id
	}
	return id, err
}

func scanAssignment(scan func(...any) error, at places) (rbac.Assignment, error) {
	var a rbac.Assignment
	var where string
	var created, updated int64
	if err := scan(&a.ID, &where, &a.RoleID, &a.PrincipalID, &a.PrincipalType, &a.Description, &created, &a.CreatedBy, &updated, &a.UpdatedBy); err != nil {
		return a, err
	}
	a.CreatedAt, a.UpdatedAt = fromMicros(created), fromMicros(updated)
	var err error
	if a.Scope, err = at.parse(where); err != nil {
		return a, fmt.Errorf("role assignment %s: %w", a.ID, err)
	}
	return a, nil
}

func (t *Tx) assignments(rest string, args []any, f func(rbac.Assignment) error) error {
	at := places{}
	return t.query(`SELECT `+assignmentColumns+` FROM role_assignment `+rest, args, func(scan func(...any) error) error {
		a, err := scanAssignment(scan, at)
		if err != nil {
			return err
		}
		return f(a)
	})
}

// EachRoleAssignment calls f with every assignment, in no order.
func (t *Tx) EachRoleAssignment(f func(rbac.Assignment) error) error {
	return t.assignments("", nil, f)
}

// RoleAssignmentByID finds an assignment by its GUID.
func (t *Tx) RoleAssignmentByID(id string) (found rbac.Assignment, ok bool, err error) {
	err = t.assignments(`WHERE id = $1`, []any{strings.ToLower(id)}, func(a rbac.Assignment) error { found, ok = a, true; return nil })
	return found, ok, err
}

// Administrators lists whom the directory role Global Administrator is assigned
// to.
func (t *Tx) Administrators() ([]string, error) {
	var list []string
	err := t.assignments(`WHERE role = $1 AND scope_key = $2`, []any{rbac.GlobalAdministrator, scope.Directory().Key()}, func(a rbac.Assignment) error {
		list = append(list, a.PrincipalID)
		return nil
	})
	return list, err
}

// PutRoleAssignment stores an assignment; ids of role and principal are stored
// lower-cased. A second one of the same role to the same principal at the same
// scope is fault.Conflict with code RoleAssignmentExists.
func (t *Tx) PutRoleAssignment(a rbac.Assignment) error {
	a.ID = strings.ToLower(a.ID)
	_, err := t.exec(`INSERT INTO role_assignment (`+assignmentColumns+`, scope_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (id) DO UPDATE SET description = excluded.description, updated_at = excluded.updated_at, updated_by = excluded.updated_by`,
		a.ID, a.Scope.String(), strings.ToLower(a.RoleID), strings.ToLower(a.PrincipalID), a.PrincipalType, a.Description,
		micros(a.CreatedAt), a.CreatedBy, micros(a.UpdatedAt), a.UpdatedBy, a.Scope.Key())
	if unique(err) {
		return fault.Wrap(err, fault.Conflict, "RoleAssignmentExists", "The role assignment already exists.")
	}
	if err != nil {
		return fmt.Errorf("role assignment: %w", err)
	}
	return t.changed("roleAssignment", a.ID)
}

// DeleteRoleAssignment removes an assignment; existed is false when there was
// none.
func (t *Tx) DeleteRoleAssignment(id string) (existed bool, err error) {
	id = strings.ToLower(id)
	n, err := t.exec(`DELETE FROM role_assignment WHERE id = $1`, id)
	if err != nil || n == 0 {
		return false, err
	}
	return true, t.changed("roleAssignment", id)
}

// DeleteRoleAssignmentsOf removes every assignment of a principal, so that none
// outlives it.
func (t *Tx) DeleteRoleAssignmentsOf(principal string) error {
	return t.deleteAssignments(`WHERE principal = $1`, strings.ToLower(principal))
}

// DeleteRoleAssignmentsUnder removes every assignment at a scope and at what its
// id encloses, so that a new resource of an old name begins without grants.
func (t *Tx) DeleteRoleAssignmentsUnder(s scope.ID) error {
	// '0' is the character after '/': the range is the prefix.
	return t.deleteAssignments(`WHERE scope_key = $1 OR (scope_key > $2 AND scope_key < $3)`, s.Key(), s.Key()+"/", s.Key()+"0")
}

func (t *Tx) deleteAssignments(where string, args ...any) error {
	var ids []string
	if err := t.assignments(where, args, func(a rbac.Assignment) error { ids = append(ids, a.ID); return nil }); err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := t.DeleteRoleAssignment(id); err != nil {
			return err
		}
	}
	return nil
}
