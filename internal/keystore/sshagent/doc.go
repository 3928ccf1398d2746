// Package sshagent owns the ssh-agent protocol (draft-miller-ssh-agent) as far
// as it signs certificates: the messages to list keys and to sign, which both
// ends share, and the client by which the server reaches a CA key that lives in
// another process. An ssh-agent, sally-signer, or anything that speaks the
// protocol on a unix socket can hold the key.
//
// It refuses: every other message of the protocol, a socket that somebody else
// could have put there, a key other than the one whose fingerprint was
// configured, an algorithm other than the key's own, and a signature that does
// not verify. Whoever holds the socket can stop certificates; he cannot make
// this end accept anything.
package sshagent
