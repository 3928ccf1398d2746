// Package credential owns what proves an identity: passwords with their policy,
// their hashing and their lock-out, client secrets and client certificates.
//
// It refuses: who exists (see directory), reversible storage of anything that
// proves, and answers that tell a stranger whether a name exists: a wrong
// password, an unknown name and a name without a password cost the same and
// look the same.
package credential
