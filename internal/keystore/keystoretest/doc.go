// Package keystoretest owns the conformance suite that every key back end
// passes, and keys for the tests of others. It refuses use outside tests: it is
// imported by tests alone.
package keystoretest
