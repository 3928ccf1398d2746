package store

import (
	"fmt"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
)

const definitionColumns = `id, name, document, created_at, created_by, updated_at, updated_by`

// roleDocument is the part of a custom role that nothing is looked up by.
type roleDocument struct {
	Description      string            `json:"description"`
	Permissions      []rbac.Permission `json:"permissions"`
	AssignableScopes []string          `json:"assignableScopes"`
}

func scanDefinition(scan func(...any) error) (rbac.Definition, error) {
	var d rbac.Definition
	var text string
	var created, updated int64
	if err := scan(&d.ID, &d.Name, &text, &created, &d.CreatedBy, &updated, &d.UpdatedBy); err != nil {
		return d, err
	}
	var doc roleDocument
	if err := fromJSON(text, &doc); err != nil {
		return d, fmt.Errorf("role definition %s: %w", d.ID, err)
	}
	d.Description, d.Permissions, d.AssignableScopes = doc.Description, doc.Permissions, doc.AssignableScopes
	d.CreatedAt, d.UpdatedAt = fromMicros(created), fromMicros(updated)
	return d, nil
}

func (t *Tx) definitions(where string, args []any, f func(rbac.Definition) error) error {
	return t.query(`SELECT `+definitionColumns+` FROM role_definition `+where+` ORDER BY id`, args, func(scan func(...any) error) error {
		d, err := scanDefinition(scan)
		if err != nil {
			return err
		}
		return f(d)
	})
}

// EachRoleDefinition calls f with every custom role, by id.
func (t *Tx) EachRoleDefinition(f func(rbac.Definition) error) error {
	return t.definitions("", nil, f)
}

// RoleDefinitionByID finds a custom role by its GUID.
func (t *Tx) RoleDefinitionByID(id string) (found rbac.Definition, ok bool, err error) {
	err = t.definitions(`WHERE id = $1`, []any{strings.ToLower(id)}, func(d rbac.Definition) error { found, ok = d, true; return nil })
	return found, ok, err
}

// PutRoleDefinition stores a custom role, new or changed. A second one of the
// same name, in any case, is fault.Conflict with code
// RoleDefinitionWithSameNameExists.
func (t *Tx) PutRoleDefinition(d rbac.Definition) error {
	d.ID = strings.ToLower(d.ID)
	text, err := jsonText(roleDocument{d.Description, d.Permissions, d.AssignableScopes})
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO role_definition (`+definitionColumns+`, name_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, name_key = excluded.name_key, document = excluded.document, updated_at = excluded.updated_at, updated_by = excluded.updated_by`,
		d.ID, d.Name, text, micros(d.CreatedAt), d.CreatedBy, micros(d.UpdatedAt), d.UpdatedBy, strings.ToLower(d.Name))
	if unique(err) {
		return fault.Wrap(err, fault.Conflict, "RoleDefinitionWithSameNameExists", "A custom role with the same name already exists in this directory. Use a different name.")
	}
	if err != nil {
		return fmt.Errorf("role definition: %w", err)
	}
	return t.changed("roleDefinition", d.ID)
}

// DeleteRoleDefinition removes a custom role; existed is false when there was
// none. The caller has made sure that it is not assigned.
func (t *Tx) DeleteRoleDefinition(id string) (existed bool, err error) {
	id = strings.ToLower(id)
	n, err := t.exec(`DELETE FROM role_definition WHERE id = $1`, id)
	if err != nil || n == 0 {
		return false, err
	}
	return true, t.changed("roleDefinition", id)
}

// CountRoleDefinitions counts the custom roles.
func (t *Tx) CountRoleDefinitions() (n int, err error) {
	_, err = t.row(`SELECT count(*) FROM role_definition`, nil, &n)
	return n, err
}

// RoleAssignmentsOfRole lists every assignment of a role, by scope and id.
func (t *Tx) RoleAssignmentsOfRole(role string) (list []rbac.Assignment, err error) {
	err = t.assignments(`WHERE role = $1`, []any{strings.ToLower(role)}, func(a rbac.Assignment) error { list = append(list, a); return nil })
	return list, err
}

// CountRoleAssignmentsIn counts the assignments at a scope and at what its id
// encloses.
func (t *Tx) CountRoleAssignmentsIn(s scope.ID) (n int, err error) {
	_, err = t.row(`SELECT count(*) FROM role_assignment WHERE scope_key = $1 OR (scope_key > $2 AND scope_key < $3)`, []any{s.Key(), s.Key() + "/", s.Key() + "0"}, &n)
	return n, err
}
