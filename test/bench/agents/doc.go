// Package agents plays many machine agents to one server: each with a key and a TLS
// connection of its own and a long poll that is always open, as the network part
// of the real agent has them. It speaks as little of HTTP/1.1 as that takes,
// because a hundred thousand share one computer with the server.
//
// It measures when each has been told that somebody may not log in any more. It
// refuses: deciding, and anything but loopback addresses.
package agents
