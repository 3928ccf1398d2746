package server

import "sallyport/internal/machine"

// access is who gets in where, as the machines are told.
func (d *deployment) access() machine.Access {
	return machine.Access{Service: d.machines, People: d.directory, Roles: d.roles}
}
