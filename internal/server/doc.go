// Package server is the composition root of `sally server`: it opens the store
// and the keys, builds the indexes and the services, hands each what it
// declared, opens the doors, and runs the tasks until it is told to stop.
//
// It refuses: decisions. What may happen is decided in the domains; here is
// only who is connected to whom.
package server
