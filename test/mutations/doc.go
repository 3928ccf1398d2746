// Package mutations takes guards out of the code, one at a time, and demands that
// the test which is said to hold each of them fails.
//
// It owns: the list (list.txt) and its reader. With the build tag "mutations" its
// test runs every mutation: Go code through an overlay, so that no file of the
// checkout is touched, C code in a copy of the folder shim. That the list fits the
// code and covers the advisories of Required is checked beside the house's other
// rules (internal/guards_test.go), where whoever moves a guard sees it at once.
//
// It refuses: a mutation that does not build, or whose test fails for another
// reason than its own verdict. Such a test would prove nothing.
package mutations
