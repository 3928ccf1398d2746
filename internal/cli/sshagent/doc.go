// Package sshagent is an ssh-agent that holds no key until ssh has said which
// machine it is connected to.
//
// It owns: the ssh-agent protocol as far as a login needs it
// (draft-ietf-sshm-ssh-agent: list, sign, remove, lock, unlock), the extension
// session-bind@openssh.com (OpenSSH's PROTOCOL.agent), the rule what may be
// signed, and the keys: one for each machine, in memory only, made when the
// first connection to it asks, and its certificate good for that machine alone.
//
// It refuses: everything on a connection that is not bound to a session of one
// of our machines; a connection that is forwarded; a second binding; a signature
// over anything but a login in the bound session, under a name of the
// certificate, at the bound host key; keys of others. It knows no server and no
// account: who the person is, what makes a host key ours, and how a certificate
// is had, is passed in.
package sshagent
