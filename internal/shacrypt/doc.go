// Package shacrypt makes the hashes that /etc/shadow takes on every Linux: "$6$",
// SHA-512 crypt (Ulrich Drepper, "Unix crypt using SHA-256 and SHA-512", 2008).
//
// It owns: the hash, its text, and the comparison. It is here for the one password
// that is a machine's own and not a person's: that of the administrator account
// which a virtual machine may be made with.
//
// It refuses: other schemes, and other texts of this one than New writes. People's
// passwords are argon2id (credential), which no crypt(3) knows.
package shacrypt
