package store

import (
	"fmt"

	"sallyport/internal/directory"
	"sallyport/internal/fault"
)

// TenantRecord reads the tenant.
func (t *Tx) TenantRecord() (directory.Tenant, bool, error) {
	var v directory.Tenant
	var domains string
	var created int64
	found, err := t.row(`SELECT id, display_name, domains, created_at FROM tenant WHERE one = 1`, nil, &v.ID, &v.DisplayName, &domains, &created)
	if err != nil || !found {
		return v, false, err
	}
	v.CreatedAt = fromMicros(created)
	return v, true, fromJSON(domains, &v.Domains)
}

// PutTenant writes the tenant.
func (t *Tx) PutTenant(v directory.Tenant) error {
	domains, err := jsonText(v.Domains)
	if err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO tenant (one, id, display_name, domains, created_at) VALUES (1, $1, $2, $3, $4)
		ON CONFLICT (one) DO UPDATE SET id = excluded.id, display_name = excluded.display_name, domains = excluded.domains, created_at = excluded.created_at`,
		v.ID, v.DisplayName, domains, micros(v.CreatedAt)); err != nil {
		return err
	}
	return t.changed("tenant", v.ID)
}

// NextPOSIXID gives the next id of the block and never the same again.
func (t *Tx) NextPOSIXID() (uint32, error) {
	var next int64
	if _, err := t.row(`INSERT INTO posix_counter (one, next) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET next = posix_counter.next + 1 RETURNING next`,
		[]any{int64(directory.FirstPOSIXID)}, &next); err != nil {
		return 0, fmt.Errorf("posix id: %w", err)
	}
	if next < directory.FirstPOSIXID || next > directory.LastPOSIXID {
		return 0, fault.New(fault.Exhausted, "PosixIdsExhausted", "all POSIX ids of the tenant have been given.").WithRemedy("Ids are never given twice: a new tenant is needed.")
	}
	return uint32(next), nil
}

const userColumns = `id, upn, uid, display_name, given_name, surname, mail, job_title, mail_nickname, mobile_phone, enabled, not_before, created_at`

// users reads the users that match a condition.
func (t *Tx) users(where string, args []any, f func(directory.User) error) error {
	return t.query(`SELECT `+userColumns+` FROM directory_user `+where, args, func(scan func(...any) error) error {
		var u directory.User
		var uid, enabled, notBefore, created int64
		if err := scan(&u.ID, &u.UPN, &uid, &u.DisplayName, &u.GivenName, &u.Surname, &u.Mail, &u.JobTitle, &u.MailNickname, &u.MobilePhone, &enabled, &notBefore, &created); err != nil {
			return err
		}
		u.UID, u.Enabled, u.NotBefore, u.CreatedAt = uint32(uid), enabled != 0, fromMicros(notBefore), fromMicros(created)
		return f(u)
	})
}

// EachUser walks over all users.
func (t *Tx) EachUser(f func(directory.User) error) error { return t.users("", nil, f) }

// UserByID reads a user by object id.
func (t *Tx) UserByID(id string) (directory.User, bool, error) {
	return one(func(f func(directory.User) error) error { return t.users(`WHERE id = $1`, []any{id}, f) })
}

// UserByUPN reads a user by lower-case UPN.
func (t *Tx) UserByUPN(upn string) (directory.User, bool, error) {
	return one(func(f func(directory.User) error) error { return t.users(`WHERE upn = $1`, []any{upn}, f) })
}

// one returns the single value that a walk yields.
func one[T any](walk func(func(T) error) error) (v T, found bool, err error) {
	err = walk(func(x T) error { v, found = x, true; return nil })
	return v, found, err
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// PutUser writes a user. The POSIX id of an existing one stays what it is.
func (t *Tx) PutUser(u directory.User) error {
	if _, err := t.exec(`INSERT INTO directory_user (`+userColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (id) DO UPDATE SET upn = excluded.upn, display_name = excluded.display_name, given_name = excluded.given_name, surname = excluded.surname,
		mail = excluded.mail, job_title = excluded.job_title, mail_nickname = excluded.mail_nickname, mobile_phone = excluded.mobile_phone,
		enabled = excluded.enabled, not_before = excluded.not_before`,
		u.ID, u.UPN, int64(u.UID), u.DisplayName, u.GivenName, u.Surname, u.Mail, u.JobTitle, u.MailNickname, u.MobilePhone,
		flag(u.Enabled), micros(u.NotBefore), micros(u.CreatedAt)); err != nil {
		return err
	}
	return t.changed("user", u.ID)
}

// DeleteUser removes a user with memberships, ownerships and credentials.
func (t *Tx) DeleteUser(id string) error {
	if err := t.forgetCredentials(id); err != nil {
		return err
	}
	if err := t.forgetMember(id); err != nil {
		return err
	}
	if err := t.forgetOwner(id); err != nil {
		return err
	}
	if err := t.forgetConsents(id); err != nil {
		return err
	}
	if _, err := t.exec(`DELETE FROM directory_user WHERE id = $1`, id); err != nil {
		return err
	}
	return t.changed("user", id)
}

func (t *Tx) groups(where string, args []any, f func(directory.Group) error) error {
	return t.query(`SELECT id, display_name, description, mail_nickname, role_assignable, created_at FROM directory_group `+where, args, func(scan func(...any) error) error {
		var g directory.Group
		var assignable, created int64
		if err := scan(&g.ID, &g.DisplayName, &g.Description, &g.MailNickname, &assignable, &created); err != nil {
			return err
		}
		g.RoleAssignable = assignable != 0
		g.CreatedAt = fromMicros(created)
		return f(g)
	})
}

// EachGroup walks over all groups.
func (t *Tx) EachGroup(f func(directory.Group) error) error { return t.groups("", nil, f) }

// GroupByID reads a group by object id.
func (t *Tx) GroupByID(id string) (directory.Group, bool, error) {
	return one(func(f func(directory.Group) error) error { return t.groups(`WHERE id = $1`, []any{id}, f) })
}

// PutGroup writes a group. Whether directory roles can be assigned to it is
// decided once, when it is made.
func (t *Tx) PutGroup(g directory.Group) error {
	if _, err := t.exec(`INSERT INTO directory_group (id, display_name, description, mail_nickname, role_assignable, created_at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (id) DO UPDATE SET display_name = excluded.display_name, description = excluded.description, mail_nickname = excluded.mail_nickname`,
		g.ID, g.DisplayName, g.Description, g.MailNickname, flag(g.RoleAssignable), micros(g.CreatedAt)); err != nil {
		return err
	}
	return t.changed("group", g.ID)
}

// DeleteGroup removes a group, its members, its owners and its memberships.
func (t *Tx) DeleteGroup(id string) error {
	if err := t.forgetMember(id); err != nil {
		return err
	}
	if err := t.forgetOwnersOf(id); err != nil {
		return err
	}
	if _, err := t.exec(`DELETE FROM group_member WHERE group_id = $1`, id); err != nil {
		return err
	}
	if err := t.changed("member", id); err != nil {
		return err
	}
	if _, err := t.exec(`DELETE FROM directory_group WHERE id = $1`, id); err != nil {
		return err
	}
	return t.changed("group", id)
}

func (t *Tx) memberships(where string, args []any, f func(directory.Member) error) error {
	return t.query(`SELECT group_id, member_id, member_type FROM group_member `+where, args, func(scan func(...any) error) error {
		var m directory.Member
		var kind string
		if err := scan(&m.GroupID, &m.ID, &kind); err != nil {
			return err
		}
		m.Type = directory.MemberType(kind)
		return f(m)
	})
}

// EachMember walks over all memberships.
func (t *Tx) EachMember(f func(directory.Member) error) error { return t.memberships("", nil, f) }

// MembersOfGroup lists the direct members of a group.
func (t *Tx) MembersOfGroup(groupID string) ([]directory.Member, error) {
	var list []directory.Member
	err := t.memberships(`WHERE group_id = $1`, []any{groupID}, func(m directory.Member) error { list = append(list, m); return nil })
	return list, err
}

// GroupsHolding lists the groups that hold a principal directly.
func (t *Tx) GroupsHolding(memberID string) ([]string, error) {
	var list []string
	err := t.memberships(`WHERE member_id = $1`, []any{memberID}, func(m directory.Member) error { list = append(list, m.GroupID); return nil })
	return list, err
}

// AddMember adds a membership; false when it is there already.
func (t *Tx) AddMember(m directory.Member) (bool, error) {
	n, err := t.exec(`INSERT INTO group_member (group_id, member_id, member_type) VALUES ($1, $2, $3) ON CONFLICT (group_id, member_id) DO NOTHING`, m.GroupID, m.ID, string(m.Type))
	if err != nil || n == 0 {
		return false, err
	}
	return true, t.changed("member", m.GroupID)
}

// RemoveMember ends a membership; false when there is none.
func (t *Tx) RemoveMember(groupID, memberID string) (bool, error) {
	n, err := t.exec(`DELETE FROM group_member WHERE group_id = $1 AND member_id = $2`, groupID, memberID)
	if err != nil || n == 0 {
		return false, err
	}
	return true, t.changed("member", groupID)
}

// forgetMember ends every membership of a principal.
func (t *Tx) forgetMember(id string) error {
	var of []string
	if err := t.memberships(`WHERE member_id = $1`, []any{id}, func(m directory.Member) error { of = append(of, m.GroupID); return nil }); err != nil {
		return err
	}
	for _, g := range of {
		if _, err := t.RemoveMember(g, id); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tx) applications(where string, args []any, f func(directory.Application) error) error {
	return t.query(`SELECT id, app_id, display_name, public, redirect_uris, built_in, owners, created_at FROM application `+where, args, func(scan func(...any) error) error {
		var a directory.Application
		var public, builtIn, created int64
		var redirects, owners string
		if err := scan(&a.ID, &a.AppID, &a.DisplayName, &public, &redirects, &builtIn, &owners, &created); err != nil {
			return err
		}
		a.Public, a.BuiltIn, a.CreatedAt = public != 0, builtIn != 0, fromMicros(created)
		if err := fromJSON(redirects, &a.RedirectURIs); err != nil {
			return err
		}
		if err := fromJSON(owners, &a.Owners); err != nil {
			return err
		}
		return f(a)
	})
}

// EachApplication walks over all applications.
func (t *Tx) EachApplication(f func(directory.Application) error) error {
	return t.applications("", nil, f)
}

// ApplicationByID reads an application by object id.
func (t *Tx) ApplicationByID(id string) (directory.Application, bool, error) {
	return one(func(f func(directory.Application) error) error { return t.applications(`WHERE id = $1`, []any{id}, f) })
}

// ApplicationByAppID reads an application by application id.
func (t *Tx) ApplicationByAppID(appID string) (directory.Application, bool, error) {
	return one(func(f func(directory.Application) error) error {
		return t.applications(`WHERE app_id = $1`, []any{appID}, f)
	})
}

// PutApplication writes an application; its application id never changes.
func (t *Tx) PutApplication(a directory.Application) error {
	redirects, err := jsonText(a.RedirectURIs)
	if err != nil {
		return err
	}
	owners, err := jsonText(a.Owners)
	if err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO application (id, app_id, display_name, public, redirect_uris, built_in, owners, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (id) DO UPDATE SET display_name = excluded.display_name, public = excluded.public, redirect_uris = excluded.redirect_uris, owners = excluded.owners`,
		a.ID, a.AppID, a.DisplayName, flag(a.Public), redirects, flag(a.BuiltIn), owners, micros(a.CreatedAt)); err != nil {
		return err
	}
	return t.changed("application", a.ID)
}

// DeleteApplication removes an application and its credentials.
func (t *Tx) DeleteApplication(id string) error {
	if err := t.forgetCredentials(id); err != nil {
		return err
	}
	if _, err := t.exec(`DELETE FROM application WHERE id = $1`, id); err != nil {
		return err
	}
	return t.changed("application", id)
}

func (t *Tx) servicePrincipals(where string, args []any, f func(directory.ServicePrincipal) error) error {
	return t.query(`SELECT id, app_id, uid, display_name, type, names, resource_id, enabled, not_before, created_at FROM service_principal `+where, args, func(scan func(...any) error) error {
		var p directory.ServicePrincipal
		var uid, enabled, notBefore, created int64
		var kind, names string
		if err := scan(&p.ID, &p.AppID, &uid, &p.DisplayName, &kind, &names, &p.ResourceID, &enabled, &notBefore, &created); err != nil {
			return err
		}
		p.UID, p.Type, p.Enabled = uint32(uid), directory.ServicePrincipalType(kind), enabled != 0
		p.NotBefore, p.CreatedAt = fromMicros(notBefore), fromMicros(created)
		if err := fromJSON(names, &p.Names); err != nil {
			return err
		}
		return f(p)
	})
}

// EachServicePrincipal walks over all service principals.
func (t *Tx) EachServicePrincipal(f func(directory.ServicePrincipal) error) error {
	return t.servicePrincipals("", nil, f)
}

// ServicePrincipalByID reads a service principal by object id.
func (t *Tx) ServicePrincipalByID(id string) (directory.ServicePrincipal, bool, error) {
	return one(func(f func(directory.ServicePrincipal) error) error {
		return t.servicePrincipals(`WHERE id = $1`, []any{id}, f)
	})
}

// ServicePrincipalByAppID reads a service principal by application id.
func (t *Tx) ServicePrincipalByAppID(appID string) (directory.ServicePrincipal, bool, error) {
	return one(func(f func(directory.ServicePrincipal) error) error {
		return t.servicePrincipals(`WHERE app_id = $1`, []any{appID}, f)
	})
}

// PutServicePrincipal writes a service principal; its POSIX id and application
// id never change.
func (t *Tx) PutServicePrincipal(p directory.ServicePrincipal) error {
	names, err := jsonText(p.Names)
	if err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO service_principal (id, app_id, uid, display_name, type, names, resource_id, enabled, not_before, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (id) DO UPDATE SET display_name = excluded.display_name, type = excluded.type, names = excluded.names, resource_id = excluded.resource_id,
		enabled = excluded.enabled, not_before = excluded.not_before`,
		p.ID, p.AppID, int64(p.UID), p.DisplayName, string(p.Type), names, p.ResourceID, flag(p.Enabled), micros(p.NotBefore), micros(p.CreatedAt)); err != nil {
		return err
	}
	return t.changed("servicePrincipal", p.ID)
}

// DeleteServicePrincipal removes a service principal with memberships and
// credentials.
func (t *Tx) DeleteServicePrincipal(id string) error {
	if err := t.forgetCredentials(id); err != nil {
		return err
	}
	if err := t.forgetMember(id); err != nil {
		return err
	}
	if err := t.forgetOwner(id); err != nil {
		return err
	}
	if err := t.forgetConsents(id); err != nil {
		return err
	}
	if _, err := t.exec(`DELETE FROM service_principal WHERE id = $1`, id); err != nil {
		return err
	}
	return t.changed("servicePrincipal", id)
}
