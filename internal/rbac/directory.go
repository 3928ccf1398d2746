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

// ActionAssign is what it takes to give or take roles at a scope.
const ActionAssign = "Microsoft.Authorization/roleAssignments/write"

// actionAssignDirectory is the same for directory roles.
const actionAssignDirectory = "microsoft.directory/roleAssignments/allProperties/allTasks"

// DirectoryAuthority implements directory.Authority on the index.
type DirectoryAuthority struct{ Index *Index }

// May reports whether by holds the directory action through a directory role.
func (d DirectoryAuthority) May(by audit.By, action string) bool {
	return d.Index.Check(Query{Principals: by.Principals(), Scope: scope.Directory(), Action: action}).Allowed
}

// Covers returns nil when by holds every right that the principals hold: for
// each of their assignments he has, at that scope or above, a role that
// includes theirs, or may assign roles there, which amounts to it. A Global
// Administrator covers everybody: he can give himself any role. Without this
// check, who may reset passwords or add secrets could become anybody.
func (d DirectoryAuthority) Covers(by audit.By, principals []string) error {
	if d.May(by, actionAssignDirectory) {
		return nil
	}
	mine := d.Index.Assignments(Filter{Principals: append([]string{}, by.Principals()...)})
	for _, theirs := range d.Index.Assignments(Filter{Principals: append([]string{}, principals...)}) {
		if d.covered(by, mine, theirs) {
			continue
		}
		return denied("insufficient privileges to complete the operation: the account holds %s at %s, which is more than you hold.", d.name(theirs), theirs.Scope).
			WithRemedy("Ask a Global Administrator to do it.")
	}
	return nil
}

func (d DirectoryAuthority) covered(by audit.By, mine []Assignment, theirs Assignment) bool {
	directoryRole := theirs.Scope == scope.Directory()
	if !directoryRole && d.Index.Check(Query{Principals: by.Principals(), Scope: theirs.Scope, Action: ActionAssign}).Allowed {
		return true
	}
	for _, m := range mine {
		if (m.Scope == scope.Directory()) == directoryRole && d.Index.below(theirs.Scope, m.Scope) && d.Index.includes(m.RoleID, theirs.RoleID) {
			return true
		}
	}
	return false
}

// MayChangeGroups returns nil when by may write every role assignment that the
// groups hold: to change who is in such a group is to assign the role.
func (d DirectoryAuthority) MayChangeGroups(by audit.By, groups []string) error {
	if d.May(by, actionAssignDirectory) {
		return nil
	}
	for _, a := range d.Index.Assignments(Filter{Principals: append([]string{}, groups...)}) {
		if a.Scope != scope.Directory() && d.Index.Check(Query{Principals: by.Principals(), Scope: a.Scope, Action: ActionAssign}).Allowed {
			continue
		}
		return denied("insufficient privileges to complete the operation: the group gives its members %s at %s.", d.name(a), a.Scope).
			WithRemedy("Only who may assign roles there, or a Global Administrator, changes this group.")
	}
	return nil
}

func (d DirectoryAuthority) name(a Assignment) string {
	if r, ok := d.Index.Definition(a.RoleID); ok {
		return "the role " + r.Name
	}
	return "a role"
}

func denied(format string, args ...any) *fault.Error {
	return fault.New(fault.Forbidden, "Authorization_RequestDenied", format, args...)
}

// includes reports whether role a grants everything that role b grants. It may
// say no where the truth is yes, never the other way round: a permission block
// of a that subtracts anything counts only for a itself. A pattern of b is
// included when a pattern of a matches its text, because then every star of b
// lies under a star of a.
func (x *Index) includes(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	ra, rb := x.roles[strings.ToLower(a)], x.roles[strings.ToLower(b)]
	if ra == nil || rb == nil {
		return false
	}
	for _, p := range rb.Permissions {
		for _, action := range p.Actions {
			if !ra.includesPattern(strings.ToLower(action), false) {
				return false
			}
		}
		for _, action := range p.DataActions {
			if !ra.includesPattern(strings.ToLower(action), true) {
				return false
			}
		}
	}
	return true
}

func (r *role) includesPattern(pattern string, data bool) bool {
	short := strings.ReplaceAll(pattern, "/*/", "/")
	for i, p := range r.Permissions {
		m := &r.blocks[i].actions
		if data {
			m = &r.blocks[i].data
		}
		if len(p.NotActions) == 0 && len(p.NotDataActions) == 0 && m.match(pattern) && m.match(short) {
			return true
		}
	}
	return false
}

// DirectoryTx is the transaction that directory role assignments need.
type DirectoryTx interface {
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
type DirectoryRoles struct{ cfg DirectoryRolesConfig }

// NewDirectoryRoles returns the service.
func NewDirectoryRoles(cfg DirectoryRolesConfig) *DirectoryRoles { return &DirectoryRoles{cfg: cfg} }

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
	if err := d.permit(ctx, by, event); err != nil {
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
	if err := d.permit(ctx, by, event); err != nil {
		return err
	}
	a, ok := d.cfg.Index.Assignment(id)
	if !ok || a.Scope != scope.Directory() {
		return directory.NotFound(id)
	}
	event.Target, event.Detail = a.PrincipalID, map[string]string{"role": a.RoleID}
	if a.RoleID == GlobalAdministrator && !d.administratorBeside(a.ID) {
		return fault.New(fault.Conflict, "Request_BadRequest", "this is the last Global Administrator of the tenant.").WithRemedy("Give the role to somebody else first.")
	}
	return d.cfg.Write(ctx, func(tx DirectoryTx) error {
		if existed, err := tx.DeleteRoleAssignment(a.ID); err != nil {
			return err
		} else if !existed {
			return directory.NotFound(id)
		}
		event.Outcome = audit.Success
		return tx.Audit(by, event)
	})
}

// administratorBeside reports whether an enabled person is Global Administrator
// through another assignment than this one.
func (d *DirectoryRoles) administratorBeside(id string) bool {
	for _, a := range d.Assignments("") {
		if a.ID == id || a.RoleID != GlobalAdministrator {
			continue
		}
		if u, ok := d.cfg.Directory.User(a.PrincipalID); ok && u.Enabled {
			return true
		}
		for _, m := range d.cfg.Directory.MembersOf(a.PrincipalID, true) {
			if u, ok := d.cfg.Directory.User(m.ID); ok && u.Enabled {
				return true
			}
		}
	}
	return false
}

func (d *DirectoryRoles) permit(ctx context.Context, by audit.By, event audit.Event) error {
	if (DirectoryAuthority{d.cfg.Index}).May(by, actionAssignDirectory) {
		return nil
	}
	event.Outcome = audit.Denied
	if err := d.cfg.Write(ctx, func(tx DirectoryTx) error { return tx.Audit(by, event) }); err != nil {
		return err
	}
	return denied("insufficient privileges to complete the operation: it changes directory roles.").WithRemedy("Ask a Global Administrator.")
}
