// Package session knows who has sessions on a machine and ends them when the
// right to be there is gone: one login, everything of a person with what he left
// in the background, or, for an administrator who is one no longer, only what
// runs as somebody else. The register keeps which certificate opened which
// login, also over a restart of the agent; the process table says what has
// become of it.
//
// It refuses: knowing why. It never touches pid 1, itself, the sshd that
// accepts connections, or a daemon that an administrator restarted.
package session
