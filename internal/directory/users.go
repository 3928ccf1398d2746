package directory

import (
	"context"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
)

// NewUser describes a user to create.
type NewUser struct {
	UPN          string
	DisplayName  string
	GivenName    string
	Surname      string
	Mail         string
	JobTitle     string
	MailNickname string
	MobilePhone  string
	Enabled      bool
}

// UserChange describes a change; nil fields stay as they are.
type UserChange struct {
	UPN          *string
	DisplayName  *string
	GivenName    *string
	Surname      *string
	Mail         *string
	JobTitle     *string
	MailNickname *string
	MobilePhone  *string
	Enabled      *bool
}

// MayCreateUser returns nil when by may create users.
func (s *Service) MayCreateUser(by audit.By) error {
	return s.require(by, "microsoft.directory/users/create")
}

// CreateUserIn creates a user inside a transaction of the caller's, who has
// checked MayCreateUser: a user and its password appear together or not at all.
func (s *Service) CreateUserIn(tx Tx, by audit.By, n NewUser) (User, error) {
	t, _, err := tx.TenantRecord()
	if err != nil {
		return User{}, err
	}
	u := User{Enabled: n.Enabled, CreatedAt: tx.Now()}
	if u, err = u.with(UserChange{
		UPN: &n.UPN, DisplayName: &n.DisplayName, GivenName: &n.GivenName, Surname: &n.Surname,
		Mail: &n.Mail, JobTitle: &n.JobTitle, MailNickname: &n.MailNickname, MobilePhone: &n.MobilePhone,
	}, t.Domains); err != nil {
		return User{}, err
	}
	if err := s.freeUPN(tx, u.UPN); err != nil {
		return User{}, err
	}
	if u.ID, err = s.newID(); err != nil {
		return User{}, err
	}
	if u.UID, err = tx.NextPOSIXID(); err != nil {
		return User{}, err
	}
	if err := tx.PutUser(u); err != nil {
		return User{}, err
	}
	return u, tx.Audit(by, success("user.create", u.ID, map[string]string{"userPrincipalName": u.UPN}))
}

func (s *Service) freeUPN(tx Tx, upn string) error {
	if _, taken, err := tx.UserByUPN(upn); err != nil || !taken {
		return err
	}
	return fault.New(fault.Invalid, "Request_BadRequest", "another object with the same value for property userPrincipalName already exists.").
		WithTarget("userPrincipalName").WithRemedy("Choose another name, or delete the user %s first.", upn)
}

// with returns u with the change applied and checked.
func (u User) with(c UserChange, domains []string) (User, error) {
	var err error
	if c.UPN != nil {
		if u.UPN, err = ParseUPN(*c.UPN, domains); err != nil {
			return User{}, err
		}
	}
	if c.DisplayName != nil {
		if u.DisplayName, err = ParseText("displayName", *c.DisplayName, MaxDisplayName); err != nil {
			return User{}, err
		}
	}
	for _, f := range []struct {
		name string
		from *string
		to   *string
		max  int
	}{
		{"givenName", c.GivenName, &u.GivenName, 64}, {"surname", c.Surname, &u.Surname, 64}, {"mail", c.Mail, &u.Mail, 256},
		{"jobTitle", c.JobTitle, &u.JobTitle, 128}, {"mobilePhone", c.MobilePhone, &u.MobilePhone, 64},
	} {
		if f.from == nil {
			continue
		}
		if *f.to, err = optionalText(f.name, *f.from, f.max); err != nil {
			return User{}, err
		}
	}
	if c.MailNickname != nil {
		if u.MailNickname, err = parseNickname(*c.MailNickname); err != nil {
			return User{}, err
		}
	}
	if c.Enabled != nil {
		u.Enabled = *c.Enabled
	}
	return u, nil
}

// mayUpdateUser names what each part of a change needs. The person himself may
// change his telephone number: nothing depends on it, and everything else shows
// in other people's lists or decides who may log in as what.
func (s *Service) mayUpdateUser(by audit.By, id string, c UserChange) error {
	if c.Enabled != nil {
		action := "microsoft.directory/users/enable"
		if !*c.Enabled {
			action = "microsoft.directory/users/disable"
		}
		if id == by.Principal {
			return fault.New(fault.Forbidden, "Authorization_RequestDenied", "nobody enables or disables his own account.").WithRemedy("Ask another administrator.")
		}
		if err := s.requireOver(by, action, id); err != nil {
			return err
		}
	}
	if c.UPN != nil {
		if err := s.requireOver(by, "microsoft.directory/users/userPrincipalName/update", id); err != nil {
			return err
		}
	}
	rest := c
	rest.Enabled, rest.UPN = nil, nil
	if id == by.Principal && c.MobilePhone != nil {
		if err := s.MayAsk(by, "microsoft.directory/me/basic/update"); err != nil {
			return err
		}
		rest.MobilePhone = nil
	}
	if rest == (UserChange{}) && (c != rest || id == by.Principal) { // one that changes nothing needs a right, too: it tells who is there
		return nil
	}
	return s.require(by, "microsoft.directory/users/basic/update")
}

func (s *Service) requireOver(by audit.By, action, id string) error {
	if err := s.require(by, action); err != nil {
		return err
	}
	return s.covers(by, id)
}

// UpdateUser changes a user. Disabling raises NotBefore, so that what was
// issued to him before stays dead when he is enabled again.
func (s *Service) UpdateUser(ctx context.Context, by audit.By, id string, c UserChange) error {
	id = asciiLower(id)
	event := success("user.update", id, map[string]string{"properties": c.properties()})
	return s.change(ctx, by, event, s.mayUpdateUser(by, id, c), func(tx Tx) error {
		old, ok, err := tx.UserByID(id)
		if err != nil {
			return err
		}
		if !ok {
			return NotFound(id)
		}
		t, _, err := tx.TenantRecord()
		if err != nil {
			return err
		}
		u, err := old.with(c, t.Domains)
		if err != nil {
			return err
		}
		if u.UPN != old.UPN {
			if err := s.freeUPN(tx, u.UPN); err != nil {
				return err
			}
		}
		if old.Enabled && !u.Enabled {
			u.NotBefore = tx.Now()
		}
		if u == old {
			return nil
		}
		put := func() error { return tx.PutUser(u) }
		if old.Enabled && !u.Enabled {
			err = KeepAdministrator(tx, put)
		} else {
			err = put()
		}
		if err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}

func (c UserChange) properties() string {
	var names []string
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"userPrincipalName", c.UPN != nil}, {"displayName", c.DisplayName != nil}, {"givenName", c.GivenName != nil}, {"surname", c.Surname != nil},
		{"mail", c.Mail != nil}, {"jobTitle", c.JobTitle != nil}, {"mailNickname", c.MailNickname != nil}, {"mobilePhone", c.MobilePhone != nil},
		{"accountEnabled=true", c.Enabled != nil && *c.Enabled}, {"accountEnabled=false", c.Enabled != nil && !*c.Enabled},
	} {
		if f.set {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, " ")
}

// DeleteUser removes a user with his memberships and credentials. The UPN is
// free again; the object id and the POSIX id never are.
func (s *Service) DeleteUser(ctx context.Context, by audit.By, id string) error {
	id = asciiLower(id)
	u, ok := s.cfg.Index.User(id)
	if !ok {
		return NotFound(id)
	}
	allowed := s.requireOver(by, "microsoft.directory/users/delete", id)
	if id == by.Principal {
		allowed = fault.New(fault.Forbidden, "Authorization_RequestDenied", "nobody deletes his own account.").WithRemedy("Ask another administrator.")
	}
	event := success("user.delete", id, map[string]string{"userPrincipalName": u.UPN})
	return s.change(ctx, by, event, allowed, func(tx Tx) error {
		if _, ok, err := tx.UserByID(id); err != nil || !ok {
			return orNotFound(err, id)
		}
		if err := KeepAdministrator(tx, func() error { return tx.DeleteUser(id) }); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}

// RevokeSessions ends everything that was issued to the user until now: tokens,
// refresh tokens, sign-in sessions and certificates. Everybody may do it to
// himself.
func (s *Service) RevokeSessions(ctx context.Context, by audit.By, id string) error {
	id = asciiLower(id)
	if _, ok := s.cfg.Index.User(id); !ok {
		return NotFound(id)
	}
	allowed := s.MayRevokeSessions(by, id)
	event := success("user.revokeSessions", id, nil)
	return s.change(ctx, by, event, allowed, func(tx Tx) error {
		if err := s.RaiseNotBeforeIn(tx, id); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}

// MayRevokeSessions returns nil when by may see and end the sign-ins of a user:
// everybody his own, and those of others by role, never of one with more rights.
func (s *Service) MayRevokeSessions(by audit.By, id string) error {
	if id == by.Principal && id != "" {
		return nil
	}
	return s.requireOver(by, revokeSessions, id)
}

// revokeSessions is the directory action that ends others' sign-ins.
const revokeSessions = "microsoft.directory/users/invalidateAllRefreshTokens"

// MayRevokeOthersSessions returns nil when by has a role to do that to others;
// MayRevokeSessions says to whom.
func (s *Service) MayRevokeOthersSessions(by audit.By) error { return s.require(by, revokeSessions) }

// RaiseNotBeforeIn kills what was issued to a user before this transaction's
// time. It is part of every change of what proves the user.
func (s *Service) RaiseNotBeforeIn(tx Tx, userID string) error {
	u, ok, err := tx.UserByID(asciiLower(userID))
	if err != nil || !ok {
		return orNotFound(err, userID)
	}
	u.NotBefore = tx.Now()
	return tx.PutUser(u)
}

func orNotFound(err error, id string) error {
	if err != nil {
		return err
	}
	return NotFound(id)
}
