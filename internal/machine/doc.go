// Package machine owns what the server knows about machines and tells them:
// join tokens, machine records, what a machine last reported, and the grants
// snapshot that each machine polls (grants.go, the sixth file of a login).
//
// A snapshot is derived, never stored: Derive is a pure function of directory,
// role assignments and the machine's resource. Its version is the feed position
// that it was derived at, so a later state never has a lower version.
//
// Access answers who may log in where, and why somebody may not, from the same
// derivation (access.go, explain.go).
//
// It refuses: deciding what a resource may look like (resource), who may write
// it (rbac behind the engine), HTTP, and certificates (a HostIssuer signs).
package machine
