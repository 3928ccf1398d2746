package store

import (
	"fmt"

	"sallyport/internal/directory"
)

// grants reads the permission grants that match a condition.
func (t *Tx) grants(where string, args []any, f func(directory.PermissionGrant) error) error {
	return t.query(`SELECT id, client, resource, principal, scopes, created_at FROM permission_grant `+where, args, func(scan func(...any) error) error {
		var g directory.PermissionGrant
		var scopes string
		var created int64
		if err := scan(&g.ID, &g.ClientID, &g.ResourceID, &g.PrincipalID, &scopes, &created); err != nil {
			return err
		}
		g.CreatedAt = fromMicros(created)
		if err := fromJSON(scopes, &g.Scopes); err != nil {
			return err
		}
		return f(g)
	})
}

// EachPermissionGrant walks over all grants of delegated permissions.
func (t *Tx) EachPermissionGrant(f func(directory.PermissionGrant) error) error {
	return t.grants("", nil, f)
}

// PermissionGrantByID reads a grant.
func (t *Tx) PermissionGrantByID(id string) (directory.PermissionGrant, bool, error) {
	return one(func(f func(directory.PermissionGrant) error) error { return t.grants(`WHERE id = $1`, []any{id}, f) })
}

// PermissionGrantOf reads the grant of a client at a resource for a principal,
// "" for everybody.
func (t *Tx) PermissionGrantOf(client, resource, principal string) (directory.PermissionGrant, bool, error) {
	return one(func(f func(directory.PermissionGrant) error) error {
		return t.grants(`WHERE client = $1 AND resource = $2 AND principal = $3`, []any{client, resource, principal}, f)
	})
}

// PutPermissionGrant writes a grant; only its scopes can change later.
func (t *Tx) PutPermissionGrant(g directory.PermissionGrant) error {
	scopes, err := jsonText(g.Scopes)
	if err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO permission_grant (id, client, resource, principal, scopes, created_at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (id) DO UPDATE SET scopes = excluded.scopes`, g.ID, g.ClientID, g.ResourceID, g.PrincipalID, scopes, micros(g.CreatedAt)); err != nil {
		return fmt.Errorf("permission grant: %w", err)
	}
	return t.changed("permissionGrant", g.ID)
}

// DeletePermissionGrant removes a grant.
func (t *Tx) DeletePermissionGrant(id string) (existed bool, err error) {
	n, err := t.exec(`DELETE FROM permission_grant WHERE id = $1`, id)
	if err != nil || n == 0 {
		return false, err
	}
	return true, t.changed("permissionGrant", id)
}

func (t *Tx) appRoles(where string, args []any, f func(directory.AppRoleAssignment) error) error {
	return t.query(`SELECT id, principal, resource, role, created_at FROM app_role_assignment `+where, args, func(scan func(...any) error) error {
		var a directory.AppRoleAssignment
		var created int64
		if err := scan(&a.ID, &a.PrincipalID, &a.ResourceID, &a.RoleID, &created); err != nil {
			return err
		}
		a.CreatedAt = fromMicros(created)
		return f(a)
	})
}

// EachAppRoleAssignment walks over all application permissions that were given.
func (t *Tx) EachAppRoleAssignment(f func(directory.AppRoleAssignment) error) error {
	return t.appRoles("", nil, f)
}

// AppRoleAssignmentByID reads one.
func (t *Tx) AppRoleAssignmentByID(id string) (directory.AppRoleAssignment, bool, error) {
	return one(func(f func(directory.AppRoleAssignment) error) error {
		return t.appRoles(`WHERE id = $1`, []any{id}, f)
	})
}

// AppRoleAssignmentsOf reads those of one service principal.
func (t *Tx) AppRoleAssignmentsOf(principal string) ([]directory.AppRoleAssignment, error) {
	var list []directory.AppRoleAssignment
	err := t.appRoles(`WHERE principal = $1`, []any{principal}, func(a directory.AppRoleAssignment) error { list = append(list, a); return nil })
	return list, err
}

// PutAppRoleAssignment gives an application permission.
func (t *Tx) PutAppRoleAssignment(a directory.AppRoleAssignment) error {
	if _, err := t.exec(`INSERT INTO app_role_assignment (id, principal, resource, role, created_at) VALUES ($1, $2, $3, $4, $5)`,
		a.ID, a.PrincipalID, a.ResourceID, a.RoleID, micros(a.CreatedAt)); err != nil {
		return fmt.Errorf("app role assignment: %w", err)
	}
	return t.changed("appRoleAssignment", a.ID)
}

// DeleteAppRoleAssignment takes it away.
func (t *Tx) DeleteAppRoleAssignment(id string) (existed bool, err error) {
	n, err := t.exec(`DELETE FROM app_role_assignment WHERE id = $1`, id)
	if err != nil || n == 0 {
		return false, err
	}
	return true, t.changed("appRoleAssignment", id)
}

const consentPolicy = "consent"

// ConsentPolicy reads the tenant's switch for consent; the zero value where none
// was set.
func (t *Tx) ConsentPolicy() (p directory.ConsentPolicy, err error) {
	var text string
	found, err := t.row(`SELECT value FROM directory_policy WHERE name = $1`, []any{consentPolicy}, &text)
	if err != nil || !found {
		return p, err
	}
	return p, fromJSON(text, &p)
}

// PutConsentPolicy sets it.
func (t *Tx) PutConsentPolicy(p directory.ConsentPolicy) error {
	text, err := jsonText(p)
	if err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO directory_policy (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, consentPolicy, text); err != nil {
		return err
	}
	return t.changed("consentPolicy", consentPolicy)
}

// forgetConsents removes what refers to a principal that goes away: as client,
// as resource or as the person.
func (t *Tx) forgetConsents(id string) error {
	var grants, roles []string
	if err := t.grants(`WHERE client = $1 OR resource = $1 OR principal = $1`, []any{id}, func(g directory.PermissionGrant) error { grants = append(grants, g.ID); return nil }); err != nil {
		return err
	}
	if err := t.appRoles(`WHERE principal = $1 OR resource = $1`, []any{id}, func(a directory.AppRoleAssignment) error { roles = append(roles, a.ID); return nil }); err != nil {
		return err
	}
	for _, g := range grants {
		if _, err := t.DeletePermissionGrant(g); err != nil {
			return err
		}
	}
	for _, a := range roles {
		if _, err := t.DeleteAppRoleAssignment(a); err != nil {
			return err
		}
	}
	return nil
}
