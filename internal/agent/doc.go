// Package agent is the network part of the machine agent and its commands: it
// joins a server, keeps a long poll open, carries signed documents to the root
// part and what the root part reports to the server. It runs as an own user.
//
// It refuses: trust. It verifies the server's TLS against the manifest that the
// pinned key signed, but nothing on the machine depends on that: the root part
// (package root) verifies every document again. It never works as root:
// before the first byte of the network it gives up whatever it was started with
// (package sandbox). The command that joins, and those that people type, are root's.
package agent
