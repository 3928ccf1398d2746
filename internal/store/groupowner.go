package store

// EachGroupOwner walks over all ownerships of groups.
func (t *Tx) EachGroupOwner(f func(groupID, ownerID string) error) error {
	return t.groupOwners("", nil, f)
}

// OwnersOfGroup lists the object ids of a group's owners, in their order.
func (t *Tx) OwnersOfGroup(groupID string) ([]string, error) {
	var list []string
	err := t.groupOwners(`WHERE group_id = $1 ORDER BY owner_id`, []any{groupID}, func(_, owner string) error { list = append(list, owner); return nil })
	return list, err
}

// AddGroupOwner makes somebody an owner; false when he is one already.
func (t *Tx) AddGroupOwner(groupID, ownerID string) (bool, error) {
	n, err := t.exec(`INSERT INTO group_owner (group_id, owner_id) VALUES ($1, $2) ON CONFLICT (group_id, owner_id) DO NOTHING`, groupID, ownerID)
	if err != nil || n == 0 {
		return false, err
	}
	return true, t.changed("groupOwner", groupID)
}

// RemoveGroupOwner ends an ownership; false when there is none.
func (t *Tx) RemoveGroupOwner(groupID, ownerID string) (bool, error) {
	n, err := t.exec(`DELETE FROM group_owner WHERE group_id = $1 AND owner_id = $2`, groupID, ownerID)
	if err != nil || n == 0 {
		return false, err
	}
	return true, t.changed("groupOwner", groupID)
}

func (t *Tx) groupOwners(where string, args []any, f func(groupID, ownerID string) error) error {
	return t.query(`SELECT group_id, owner_id FROM group_owner `+where, args, func(scan func(...any) error) error {
		var group, owner string
		if err := scan(&group, &owner); err != nil {
			return err
		}
		return f(group, owner)
	})
}

// forgetOwner ends what a principal owns of groups.
func (t *Tx) forgetOwner(id string) error {
	var of []string
	if err := t.groupOwners(`WHERE owner_id = $1`, []any{id}, func(group, _ string) error { of = append(of, group); return nil }); err != nil {
		return err
	}
	for _, g := range of {
		if _, err := t.RemoveGroupOwner(g, id); err != nil {
			return err
		}
	}
	return nil
}

// forgetOwnersOf ends every ownership of a group.
func (t *Tx) forgetOwnersOf(groupID string) error {
	n, err := t.exec(`DELETE FROM group_owner WHERE group_id = $1`, groupID)
	if err != nil || n == 0 {
		return err
	}
	return t.changed("groupOwner", groupID)
}
