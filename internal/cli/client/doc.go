// Package client is what the command line knows about a server: whom it trusts,
// how it signs in, which tokens it holds, and how it calls Resource Manager and
// Graph.
//
// It owns: the configuration folder (profile.json, tokens.json), the pin of a
// server's manifest key and the TLS roots that follow from it, the OAuth flows
// of a public client and of a service principal, token renewal under a lock
// shared by every process of this person, long-running operations and paging.
//
// It refuses: to send anything but the request for the manifest before the pin
// is verified, to follow a redirect or a link to another origin with a token,
// and to print: it returns values and errors, the command line speaks.
package client
