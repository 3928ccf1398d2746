// Package caller says who is at the other end of a TCP connection within this
// machine, by what the kernel knows of its two sockets, and hands such connections from the
// root part, which judges them, to the network part, which answers.
//
// It refuses: to know a caller whose socket is gone. The kernel shows a socket
// that was closed as uid 0, and a port that was closed may be somebody else's by
// now: only an established socket of a living process counts, seen from both
// ends. What a process says of itself counts for nothing.
package caller
