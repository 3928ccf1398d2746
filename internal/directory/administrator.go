package directory

import "sallyport/internal/fault"

// AdministratorTx reads, inside a write, who is Global Administrator.
type AdministratorTx interface {
	// Administrators lists the object ids that the role Global Administrator is
	// assigned to, whether they still exist or not.
	Administrators() ([]string, error)
	UserByID(id string) (User, bool, error)
	MembersOfGroup(groupID string) ([]Member, error)
}

// KeepAdministrator runs a change inside a write and refuses it when it leaves
// the tenant without an enabled person who is Global Administrator, directly or
// through groups: nobody could put that right but the server's own operator.
func KeepAdministrator(tx AdministratorTx, change func() error) error {
	before, err := administered(tx)
	if err != nil {
		return err
	}
	if err := change(); err != nil || !before {
		return err
	}
	after, err := administered(tx)
	if err != nil || after {
		return err
	}
	return fault.New(fault.Conflict, "Request_BadRequest", "this would leave the tenant without an enabled Global Administrator.").WithRemedy("Give the role to somebody else first.")
}

func administered(tx AdministratorTx) (bool, error) {
	queue, err := tx.Administrators()
	if err != nil {
		return false, err
	}
	seen := map[string]bool{}
	for ; len(queue) > 0; queue = queue[1:] {
		id := queue[0]
		if seen[id] {
			continue
		}
		seen[id] = true
		if u, ok, err := tx.UserByID(id); err != nil || ok && u.Enabled {
			return err == nil, err
		}
		members, err := tx.MembersOfGroup(id)
		if err != nil {
			return false, err
		}
		for _, m := range members {
			queue = append(queue, m.ID)
		}
	}
	return false, nil
}
