// Package inventory owns what the root part reads of its machine for people who
// plan: accounts with shells and key files, sudoers, sshd's settings and sockets,
// versions, last logins. It is bounded, and tells no key and no secret.
//
// It refuses: deciding anything by it, following links out of a home, and files
// that are not regular ones of a bounded size.
package inventory
