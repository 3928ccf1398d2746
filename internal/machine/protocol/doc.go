// Package protocol owns the words that the server and the machine share: signed
// bytes (envelope, manifest, grants snapshot), the messages between agent and
// server, and the protocol's version. docs/machine-protocol.md is its text.
//
// It refuses: policy, storage and transport. Everything here parses strictly:
// an unknown field in a signed document is an error, because a machine that
// ignores a restriction that it does not know would open a door.
package protocol
