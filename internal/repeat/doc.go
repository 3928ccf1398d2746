// Package repeat owns how refusals that come again and again are recorded: the
// first ones one by one, the others by number, so that the audit trail tells
// what happened and a guesser cannot fill the disk with it.
//
// It refuses: successes, and refusals that change anything: each of those is
// its own record in the transaction of what it changes.
package repeat
