package server

import (
	"slices"

	"sallyport/internal/conditional"
	"sallyport/internal/rbac"
)

// newPolicy is the service that changes Conditional Access policies.
func (d *deployment) newPolicy() *conditional.Service {
	return conditional.NewService(conditional.Config{Write: writes[conditional.Tx](d), Index: d.policies, People: d.directory, Rights: d.people, Rand: d.cfg.Rand,
		Role: func(id string) bool {
			return slices.ContainsFunc(d.dirRoles.Definitions(), func(r rbac.Definition) bool { return r.ID == id })
		}})
}

// rolesOf lists the directory roles that a user has, himself or by a group.
func (d *deployment) rolesOf(userID string, groups []string) []string {
	var ids []string
	for _, principal := range append([]string{userID}, groups...) {
		for _, a := range d.dirRoles.Assignments(principal) {
			ids = append(ids, a.RoleID)
		}
	}
	return ids
}
