package rbac

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/scope"
)

// DirectoryTx is the transaction that directory role assignments need.
type DirectoryTx interface {
	StandingTx
	directory.AdministratorTx
	AppRoleAssignmentsOf(principalID string) ([]directory.AppRoleAssignment, error)
	PutRoleAssignment(a Assignment) error
	DeleteRoleAssignment(id string) (existed bool, err error)
	Now() time.Time
	Audit(by audit.By, e audit.Event) error
}

// DirectoryRolesConfig is what DirectoryRoles is made of; every field is
// required.
type DirectoryRolesConfig struct {
	Write     func(context.Context, func(DirectoryTx) error) error
	Index     *Index
	Directory *directory.Index
	Rand      io.Reader
}

// DirectoryRoles gives and takes directory roles. Only a Global Administrator
// may.
type DirectoryRoles struct {
	cfg       DirectoryRolesConfig
	authority DirectoryAuthority
}

// NewDirectoryRoles returns the service.
func NewDirectoryRoles(cfg DirectoryRolesConfig) *DirectoryRoles {
	return &DirectoryRoles{cfg: cfg, authority: NewDirectoryAuthority(cfg.Index, cfg.Directory)}
}

// Assignments lists the directory role assignments: all, or those of one
// principal.
func (d *DirectoryRoles) Assignments(principalID string) []Assignment {
	f := Filter{Scope: scope.Directory()}
	if principalID != "" {
		f.Principals = []string{principalID}
	}
	return d.cfg.Index.Assignments(f)
}

// Definitions lists the directory roles, by name.
func (d *DirectoryRoles) Definitions() []Definition {
	var list []Definition
	for _, def := range d.cfg.Index.Definitions() {
		if def.Directory {
			list = append(list, def)
		}
	}
	return list
}

// Assign gives a directory role to a user, group or service principal.
func (d *DirectoryRoles) Assign(ctx context.Context, by audit.By, roleID, principalID string) (Assignment, error) {
	event := audit.Event{Type: "directoryRole.assign", Target: principalID, Detail: map[string]string{"role": roleID}}
	stands, err := d.permit(ctx, by, event)
	if err != nil {
		return Assignment{}, err
	}
	def, ok := d.cfg.Index.Definition(roleID)
	if !ok || !def.Directory {
		return Assignment{}, fault.New(fault.Invalid, "Request_BadRequest", "there is no directory role with this roleDefinitionId.").WithTarget("roleDefinitionId").
			WithRemedy("List them with: GET /v1.0/roleManagement/directory/roleDefinitions.")
	}
	kind, ok := d.cfg.Directory.TypeOf(principalID)
	if !ok {
		return Assignment{}, directory.NotFound(principalID)
	}
	if g, isGroup := d.cfg.Directory.Group(principalID); isGroup && !g.RoleAssignable {
		return Assignment{}, fault.New(fault.Invalid, "Request_BadRequest", "the group '%s' cannot have a directory role assigned: its property isAssignableToRole is not true.", g.DisplayName).WithTarget("principalId").
			WithRemedy("Make a new group for it: sally ad group create --is-assignable-to-role. The property cannot be set on a group that exists.")
	}
	principalID = strings.ToLower(principalID)
	for _, a := range d.Assignments(principalID) {
		if strings.EqualFold(a.RoleID, roleID) {
			return Assignment{}, fault.New(fault.Invalid, "Request_BadRequest", "a conflicting object with one or more of the specified property values is present in the directory: the principal has this role.").
				WithRemedy("Nothing needs to be done.")
		}
	}
	id, err := guid.New(d.cfg.Rand)
	if err != nil {
		return Assignment{}, fmt.Errorf("directory role assignment: %w", err)
	}
	names := map[directory.MemberType]string{directory.MemberUser: "User", directory.MemberGroup: "Group", directory.MemberServicePrincipal: "ServicePrincipal"}
	a := Assignment{ID: id, Scope: scope.Directory(), RoleID: def.ID, PrincipalID: principalID, PrincipalType: names[kind], CreatedBy: by.Principal, UpdatedBy: by.Principal}
	err = d.cfg.Write(ctx, func(tx DirectoryTx) error {
		if err := stands(tx); err != nil {
			return err
		}
		a.CreatedAt, a.UpdatedAt = tx.Now(), tx.Now()
		if err := tx.PutRoleAssignment(a); err != nil {
			return err
		}
		event.Outcome = audit.Success
		return tx.Audit(by, event)
	})
	return a, err
}

// Remove takes a directory role assignment away. The last one that makes an
// enabled person Global Administrator stays.
func (d *DirectoryRoles) Remove(ctx context.Context, by audit.By, id string) error {
	event := audit.Event{Type: "directoryRole.remove", Target: id}
	stands, err := d.permit(ctx, by, event)
	if err != nil {
		return err
	}
	a, ok := d.cfg.Index.Assignment(id)
	if !ok || a.Scope != scope.Directory() {
		return directory.NotFound(id)
	}
	event.Target, event.Detail = a.PrincipalID, map[string]string{"role": a.RoleID}
	return d.cfg.Write(ctx, func(tx DirectoryTx) error {
		if err := stands(tx); err != nil {
			return err
		}
		if err := directory.KeepAdministrator(tx, func() error {
			existed, err := tx.DeleteRoleAssignment(a.ID)
			if err == nil && !existed {
				err = directory.NotFound(id)
			}
			return err
		}); err != nil {
			return err
		}
		event.Outcome = audit.Success
		return tx.Audit(by, event)
	})
}

// permit refuses who may not change directory roles, and returns the check that
// the write repeats inside.
func (d *DirectoryRoles) permit(ctx context.Context, by audit.By, event audit.Event) (func(DirectoryTx) error, error) {
	if d.authority.May(by, actionAssignDirectory) {
		return func(tx DirectoryTx) error { return d.stands(tx, by) }, nil
	}
	event.Outcome = audit.Denied
	if err := d.cfg.Write(ctx, func(tx DirectoryTx) error { return tx.Audit(by, event) }); err != nil {
		return nil, err
	}
	return nil, denied("insufficient privileges to complete the operation: it changes directory roles.").WithRemedy("Ask a Global Administrator.")
}

// stands confirms inside a write that by may still change directory roles: by
// the role that allowed it or, as an application, by its permission.
func (d *DirectoryRoles) stands(tx DirectoryTx, by audit.By) error {
	if decision := d.authority.decide(by, actionAssignDirectory); decision.Allowed {
		return Stands(tx, by, Query{Action: actionAssignDirectory}, decision)
	}
	held, err := tx.AppRoleAssignmentsOf(by.Principal)
	if err != nil {
		return err
	}
	for _, a := range held {
		for _, p := range directory.Permissions(directory.GraphAppID) {
			if a.RoleID == p.ApplicationID && d.authority.permissions[p.Value].match(strings.ToLower(actionAssignDirectory)) {
				return nil
			}
		}
	}
	return errMeanwhile()
}
