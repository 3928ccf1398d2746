// Package keyring owns which key of each purpose signs, which are still trusted,
// and what comes next: the state machine of a rotation. It is pure. Each step
// follows from what is stored, from the time, and from which machines have taken
// over the manifest, so that a server that is killed anywhere goes on from there.
//
// It refuses: two rotations of one purpose at once, a key for two purposes, a
// step whose condition does not hold yet, and to forget a key: a retired or
// compromised one stays known, so that it never comes back.
package keyring
