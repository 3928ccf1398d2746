// Package wiring tests the transaction that wires sign-in into a machine: killed
// at every step, on a full disk, over configurations that other people made, and
// changed by somebody afterwards. Its machines are overlays of the lab's three
// root filesystems in namespaces of their own, with the real sshd, PAM and name
// service and the root part of the agent; only the server is the test itself.
package wiring
