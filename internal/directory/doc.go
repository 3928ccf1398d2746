// Package directory owns who exists: the tenant, users, groups and their
// transitive membership, applications, service principals, managed identities,
// and POSIX ids, which are given once and never again.
//
// It refuses: secrets (see credential), rights (see rbac), and login names
// outside a closed alphabet, because they travel into sshd, sudo and file names.
package directory
