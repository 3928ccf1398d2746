// Package fault is the one error type that crosses package borders.
//
// It owns: the kind of an error (what went wrong, independent of any protocol),
// the public code and text (what the person who asked may read, including what
// to do next) and the private cause (what only the operator's log shows).
//
// It refuses: anything protocol-specific. HTTP statuses, OAuth error names and
// process exit codes are chosen at the edges, from the kind.
package fault
