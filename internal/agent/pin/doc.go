// Package pin owns what a machine was told when it joined: who it is and whom it
// trusts. The file is written once by `sally agent join` as root and read by
// both parts of the agent; the pin in it is the root of every later check.
//
// It refuses: a file that anybody but its owner could have written, and a
// manifest that the pinned key has not signed.
package pin
