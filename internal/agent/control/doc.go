// Package control is the closed protocol between the parts of the machine agent:
// the network part brings signed documents, the root part answers what it holds.
// One request and one answer per connection: 4 bytes of length, big-endian, and
// a JSON object without unknown fields. docs/machine-protocol.md is its text.
//
// It owns the messages, the codec, the server loop and the client. It refuses:
// deciding. The root part verifies everything that arrives here, as if the
// network part were hostile.
package control
