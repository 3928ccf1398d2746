// Package operations is the edge for whoever runs the server: is it alive, is
// it ready, and what does it answer (OpenAPI 3.1, made from the route rows, so
// that the description cannot name what does not exist).
//
// It refuses: data of the directory, and the reason behind a failed check,
// which only the operator's log tells.
package operations
