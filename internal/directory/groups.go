package directory

import (
	"context"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
)

// NewGroup describes a group to create.
type NewGroup struct {
	DisplayName  string
	Description  string
	MailNickname string
	// RoleAssignable makes a group that directory roles can be assigned to. Only
	// a Global Administrator makes and changes one, and it holds no groups.
	RoleAssignable bool
}

// GroupChange describes a change; nil fields stay as they are.
type GroupChange struct {
	DisplayName  *string
	Description  *string
	MailNickname *string
}

func (g Group) with(c GroupChange) (Group, error) {
	var err error
	if c.DisplayName != nil {
		if g.DisplayName, err = ParseText("displayName", *c.DisplayName, MaxDisplayName); err != nil {
			return Group{}, err
		}
	}
	if c.Description != nil {
		if g.Description, err = optionalText("description", *c.Description, MaxDescription); err != nil {
			return Group{}, err
		}
	}
	if c.MailNickname != nil {
		if g.MailNickname, err = parseNickname(*c.MailNickname); err != nil {
			return Group{}, err
		}
	}
	return g, nil
}

// actionRoleAssignable is what it takes to make a group that directory roles can
// be assigned to: to assign those.
const actionRoleAssignable = "microsoft.directory/roleAssignments/allProperties/allTasks"

// CreateGroup creates an empty security group. Names need not be unique: rights
// go by object id, never by name.
func (s *Service) CreateGroup(ctx context.Context, by audit.By, n NewGroup) (Group, error) {
	var g Group
	allowed := s.require(by, "microsoft.directory/groups/create")
	if n.RoleAssignable && allowed == nil {
		allowed = s.require(by, actionRoleAssignable)
	}
	err := s.change(ctx, by, success("group.create", "", nil), allowed, func(tx Tx) error {
		var err error
		g, err = Group{CreatedAt: tx.Now(), RoleAssignable: n.RoleAssignable}.with(GroupChange{DisplayName: &n.DisplayName, Description: &n.Description, MailNickname: &n.MailNickname})
		if err != nil {
			return err
		}
		if g.ID, err = s.newID(); err != nil {
			return err
		}
		if err := tx.PutGroup(g); err != nil {
			return err
		}
		return tx.Audit(by, success("group.create", g.ID, map[string]string{"displayName": g.DisplayName}))
	})
	return g, err
}

// mayChangeGroup checks the action, and that by could write the role
// assignments that a membership of this group amounts to: its own and those of
// the groups above it.
func (s *Service) mayChangeGroup(by audit.By, action, id string) error {
	if err := s.require(by, action); err != nil {
		return err
	}
	return s.cfg.Authority.MayChangeGroups(by, append([]string{id}, s.cfg.Index.GroupsOf(id)...))
}

// UpdateGroup changes a group's texts.
func (s *Service) UpdateGroup(ctx context.Context, by audit.By, id string, c GroupChange) error {
	id = asciiLower(id)
	event := success("group.update", id, nil)
	return s.change(ctx, by, event, s.mayChangeGroup(by, "microsoft.directory/groups/basic/update", id), func(tx Tx) error {
		old, ok, err := tx.GroupByID(id)
		if err != nil || !ok {
			return orNotFound(err, id)
		}
		g, err := old.with(c)
		if err != nil || g == old {
			return err
		}
		if err := tx.PutGroup(g); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}

// DeleteGroup removes a group with its memberships.
func (s *Service) DeleteGroup(ctx context.Context, by audit.By, id string) error {
	id = asciiLower(id)
	g, ok := s.cfg.Index.Group(id)
	if !ok {
		return NotFound(id)
	}
	event := success("group.delete", id, map[string]string{"displayName": g.DisplayName})
	return s.change(ctx, by, event, s.mayChangeGroup(by, "microsoft.directory/groups/delete", id), func(tx Tx) error {
		if _, ok, err := tx.GroupByID(id); err != nil || !ok {
			return orNotFound(err, id)
		}
		if err := KeepAdministrator(tx, func() error { return tx.DeleteGroup(id) }); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}

// AddGroupMember makes a user, group or service principal a member. A circle of
// groups is stored and does no harm, see Index.GroupsOf; a group in itself is
// refused.
func (s *Service) AddGroupMember(ctx context.Context, by audit.By, groupID, memberID string) error {
	groupID, memberID = asciiLower(groupID), asciiLower(memberID)
	event := success("group.addMember", groupID, map[string]string{"member": memberID})
	return s.change(ctx, by, event, s.mayChangeGroup(by, "microsoft.directory/groups/members/update", groupID), func(tx Tx) error {
		g, ok, err := tx.GroupByID(groupID)
		if err != nil || !ok {
			return orNotFound(err, groupID)
		}
		if groupID == memberID {
			return fault.New(fault.Invalid, "Request_BadRequest", "a group cannot be a member of itself.").WithRemedy("Name another group.")
		}
		kind, err := kindOf(tx, memberID)
		if err != nil {
			return err
		}
		if g.RoleAssignable && kind == MemberGroup {
			return fault.New(fault.Invalid, "Request_BadRequest", "a group cannot be a member of a group that directory roles can be assigned to.").WithRemedy("Add its members one by one.")
		}
		added, err := tx.AddMember(Member{GroupID: groupID, ID: memberID, Type: kind})
		if err != nil {
			return err
		}
		if !added {
			return fault.New(fault.Invalid, "Request_BadRequest", "one or more added object references already exist for the following modified properties: 'members'.").
				WithRemedy("Nothing needs to be done: the object is a member already.")
		}
		return tx.Audit(by, event)
	})
}

func kindOf(tx Tx, id string) (MemberType, error) {
	if _, ok, err := tx.UserByID(id); err != nil || ok {
		return MemberUser, err
	}
	if _, ok, err := tx.ServicePrincipalByID(id); err != nil || ok {
		return MemberServicePrincipal, err
	}
	if _, ok, err := tx.GroupByID(id); err != nil || ok {
		return MemberGroup, err
	}
	return "", NotFound(id)
}

// RemoveGroupMember ends a direct membership.
func (s *Service) RemoveGroupMember(ctx context.Context, by audit.By, groupID, memberID string) error {
	groupID, memberID = asciiLower(groupID), asciiLower(memberID)
	event := success("group.removeMember", groupID, map[string]string{"member": memberID})
	return s.change(ctx, by, event, s.mayChangeGroup(by, "microsoft.directory/groups/members/update", groupID), func(tx Tx) error {
		if err := KeepAdministrator(tx, func() error {
			removed, err := tx.RemoveMember(groupID, memberID)
			if err != nil || !removed {
				return orNotFound(err, memberID)
			}
			return nil
		}); err != nil {
			return err
		}
		return tx.Audit(by, event)
	})
}
