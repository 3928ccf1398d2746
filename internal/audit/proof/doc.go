// Package proof owns what shows that an audit log is whole: the evidence beside
// the chains (signed heads, what machines have witnessed, checkpoints), the
// file that an export writes, and the check of such a file by somebody who
// trusts the manifest key and not the server.
//
// It refuses: evidence whose signature does not end in the pinned manifest key,
// and reading a file into memory.
package proof
