package rbac

import (
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/scope"
)

// ActionAssign is what it takes to give or take roles at a scope.
const ActionAssign = "Microsoft.Authorization/roleAssignments/write"

// actionAssignDirectory is the same for directory roles.
const actionAssignDirectory = "microsoft.directory/roleAssignments/allProperties/allTasks"

// DirectoryAuthority implements directory.Authority on the indexes.
type DirectoryAuthority struct {
	index       *Index
	directory   *directory.Index
	permissions map[string]*matcher // of Microsoft Graph's permissions, by value
}

// NewDirectoryAuthority joins both indexes.
func NewDirectoryAuthority(x *Index, dir *directory.Index) DirectoryAuthority {
	d := DirectoryAuthority{index: x, directory: dir, permissions: map[string]*matcher{}}
	for _, p := range directory.Permissions(directory.GraphAppID) {
		m := newMatcher(p.Actions)
		d.permissions[p.Value] = &m
	}
	return d
}

// May reports whether by may do the directory action: a person by a directory
// role, through a client that was given a permission for it; an application by
// a permission of its own or a directory role.
func (d DirectoryAuthority) May(by audit.By, action string) bool {
	role := d.decide(by, action).Allowed
	if by.Type == audit.User {
		return role && d.given(by, action)
	}
	return role || by.Type == audit.ServicePrincipal && d.given(by, action)
}

// Client reports whether the client that by uses may ask for the action.
func (d DirectoryAuthority) Client(by audit.By, action string) bool {
	if by.Type == audit.User {
		return d.given(by, action)
	}
	return d.May(by, action)
}

// given reports whether one of the permissions that by came with covers the
// action.
func (d DirectoryAuthority) given(by audit.By, action string) bool {
	action = strings.ToLower(action)
	for _, p := range by.Permissions {
		if m := d.permissions[p]; m != nil && m.match(action) {
			return true
		}
	}
	return false
}

func (d DirectoryAuthority) decide(by audit.By, action string) Decision {
	return d.index.Check(Query{Principals: by.Principals(), Scope: scope.Directory(), Action: action})
}

// sovereign reports whether by could give himself any right in the directory.
func (d DirectoryAuthority) sovereign(by audit.By) bool {
	return d.decide(by, actionAssignDirectory).Allowed || by.Type == audit.ServicePrincipal && d.given(by, actionAssignDirectory)
}

// CoversPermission returns nil when by holds every action of an application
// permission: a person by a directory role through a client that was given as
// much, an application by a directory role or permissions of its own.
func (d DirectoryAuthority) CoversPermission(by audit.By, value string) error {
	p, ok := directory.PermissionOf(directory.GraphAppID, value)
	for _, action := range p.Actions {
		ok = ok && d.holdsPattern(by, strings.ToLower(action))
	}
	if !ok { // nor is what is no permission covered
		return denied("insufficient privileges to complete the operation: the permission %s is more than you hold.", value).WithRemedy("Ask a Global Administrator to do it.")
	}
	return nil
}

func (d DirectoryAuthority) holdsPattern(by audit.By, pattern string) bool {
	given := d.given(by, pattern) && d.given(by, strings.ReplaceAll(pattern, "/*/", "/"))
	if by.Type == audit.User && !given {
		return false
	}
	for _, a := range d.index.Assignments(Filter{Principals: append([]string{}, by.Principals()...), Scope: scope.Directory()}) {
		if d.index.grantsPattern(a.RoleID, pattern) {
			return true
		}
	}
	return by.Type == audit.ServicePrincipal && given
}

// Covers returns nil when by holds every right that the principals hold: for
// each of their assignments he has, at that scope or above, a role that
// includes theirs, or may assign roles there, which amounts to it. A directory
// role is covered by the very same one alone: that is Entra's table of who may
// reset whose password, for the roles that there are here. Whoever is in a group
// that can be given directory roles is covered like one that has them. A Global
// Administrator covers everybody: he can give himself any role. Without this
// check, who may reset passwords or add secrets could become anybody.
func (d DirectoryAuthority) Covers(by audit.By, principals []string) error {
	if d.sovereign(by) {
		return nil
	}
	for _, id := range principals {
		for _, p := range d.directory.ApplicationPermissions(id) {
			if err := d.CoversPermission(by, p); err != nil {
				return err
			}
		}
		if g, ok := d.directory.Group(id); ok && g.RoleAssignable {
			return denied("insufficient privileges to complete the operation: the account is in %s, a group that directory roles can be assigned to.", g.DisplayName).
				WithRemedy("Ask a Global Administrator to do it.")
		}
	}
	mine := d.index.Assignments(Filter{Principals: append([]string{}, by.Principals()...)})
	for _, theirs := range d.index.Assignments(Filter{Principals: append([]string{}, principals...)}) {
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
	if !directoryRole && d.index.Check(Query{Principals: by.Principals(), Scope: theirs.Scope, Action: ActionAssign}).Allowed {
		return true
	}
	for _, m := range mine {
		switch {
		case (m.Scope == scope.Directory()) != directoryRole:
		case directoryRole && strings.EqualFold(m.RoleID, theirs.RoleID):
			return true
		case !directoryRole && d.index.below(theirs.Scope, m.Scope) && d.index.includes(m.RoleID, theirs.RoleID):
			return true
		}
	}
	return false
}

// MayChangeGroups returns nil when by may write every role assignment that the
// groups hold: to change who is in such a group is to assign the role. A group
// that directory roles can be assigned to is the Global Administrator's, whether
// or not one is assigned now, and then through a client that may assign them.
func (d DirectoryAuthority) MayChangeGroups(by audit.By, groups []string) error {
	if d.May(by, actionAssignDirectory) {
		return nil
	}
	const remedy = "Only who may assign roles there, or a Global Administrator, changes this group."
	for _, id := range groups {
		if g, ok := d.directory.Group(id); ok && g.RoleAssignable {
			return denied("insufficient privileges to complete the operation: directory roles can be assigned to the group %s.", g.DisplayName).WithRemedy(remedy)
		}
	}
	for _, a := range d.index.Assignments(Filter{Principals: append([]string{}, groups...)}) {
		if a.Scope != scope.Directory() && (d.sovereign(by) || d.index.Check(Query{Principals: by.Principals(), Scope: a.Scope, Action: ActionAssign}).Allowed) {
			continue
		}
		return denied("insufficient privileges to complete the operation: the group gives its members %s at %s.", d.name(a), a.Scope).WithRemedy(remedy)
	}
	return nil
}

func (d DirectoryAuthority) name(a Assignment) string {
	if r, ok := d.index.Definition(a.RoleID); ok {
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

// grantsPattern reports whether a role grants everything that a lower-cased
// pattern of actions matches.
func (x *Index) grantsPattern(roleID, pattern string) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	r := x.roles[strings.ToLower(roleID)]
	return r != nil && r.includesPattern(pattern, false)
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
