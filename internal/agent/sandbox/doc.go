// Package sandbox takes from the agent's processes what they do not need, by
// their own hand and before the first byte of the network: the same on machines
// with and without systemd, whose unit files say it a second time.
//
// It owns the policies: Network, for the part that speaks with the server, and
// Root, for the part that decides. It refuses: being undone. Nothing here can be
// given back to a running process. What an old kernel lacks is reported and not
// demanded; what must hold (no new privileges, the system-call filter) is.
package sandbox
