// Package labwire is what the lab and its callers say to each other: messages
// over the lab's socket, and the client.
//
// It owns: the closed enums, the alphabets of every field, the strict codec
// (one JSON object and a newline, at most 64 KiB, each way), and a client.
//
// It refuses: paths, commands and options. Whoever may speak on the socket can
// name a machine and choose from a list, nothing else, so that the lab, which
// runs as root, is no more than the sum of these operations.
package labwire
