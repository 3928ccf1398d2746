// Package session ends what a person has running on a machine when the right to
// be there is gone: the sessions, what they left in the background, and, for an
// administrator who is one no longer, only what runs as somebody else.
//
// It refuses: knowing why. It never touches pid 1, itself, the sshd that
// accepts connections, or a daemon that an administrator restarted.
package session
