// Package spool keeps a machine's events until the server has them: in memory
// and in one file, bounded, in order, each with a number of its own. A torn end
// of the file, a kill and a full disk cost as little as they can, and what they
// cost is told by an event.
//
// It refuses: knowing what an event means beyond whether it is a success, and
// holding up whoever adds one.
package spool
