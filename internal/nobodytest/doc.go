// Package nobodytest lets a test that runs as root do something as nobody.
//
// It owns: that the effective uid of one thread changes, and of no other, and comes
// back.
//
// It refuses: to be part of a program.
package nobodytest
