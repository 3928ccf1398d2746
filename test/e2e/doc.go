// Package e2e drives the real programs: sally server, sally lab, sshd, ssh,
// sudo and getent on lab machines. It runs as root, with the build tag e2e, and
// touches nothing of the computer's own /etc, users or network.
package e2e
