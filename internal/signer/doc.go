// Package signer owns the process that holds CA keys for a server: it speaks the
// ssh-agent protocol on a unix socket, to the uids it is told and nobody else,
// and writes one line about each signature before the signature leaves.
//
// It refuses: every message but the list of keys and the request to sign, and
// every byte string that is not a certificate of the key's type and of the
// profile (sshca.Notary). It knows nothing of the server, the store or the
// network; where the keys are is the caller's (see pkcs11).
package signer
