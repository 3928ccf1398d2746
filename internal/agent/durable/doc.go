// Package durable owns how the machine agent writes and reads the files that it
// depends on: whole or not at all, also after a loss of power, and never
// through a symbolic link or a file that somebody else may write.
//
// It refuses: knowing what is in them.
package durable
