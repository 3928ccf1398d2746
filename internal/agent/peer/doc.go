// Package peer says which process is at the other end of a unix socket, in the
// kernel's words.
//
// It refuses: to decide. Who may ask what is said by who listens.
package peer
