// Package preflight owns what a host is asked before it becomes a machine: whether
// anything on it would hurt people who are here already, or those who are to come.
// It looks and changes nothing; each refusal is one sentence with the way out.
//
// It refuses: judging the configuration of sshd, PAM and the name service
// (package sshd does, in its transaction), and anything about who may log in.
package preflight
