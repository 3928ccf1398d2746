// Package root is the part of the machine agent that runs as root and decides.
// It alone verifies manifests and grants snapshots, holds the pins and the
// counters that never go back, writes the name service file, answers sshd's
// principals command (principals.go, the seventh file of a login) and PAM, and
// brings the machine to the state that the snapshot wants.
//
// It refuses: the network. Signed documents arrive through the control socket
// from a part that it does not trust. It takes nothing from the environment,
// from arguments of others or from files that users can write, and writes
// nothing where users can write.
package root
