// Package sshca owns the certificate profile (docs/certificate-profile.md): it
// prepares an OpenSSH certificate, lints the exact bytes with a parser of its
// own, and only then lets the CA key touch them.
//
// It refuses: deciding who gets a certificate (see oauth), any key that is a
// certificate, one of ours or a host's, names outside a closed alphabet, and
// signing anything that the linter has not seen. The linter shares no code with
// the builder, so that a mistake in one does not hide in the other.
package sshca
