// Package mutations takes guards out of the code, one at a time, and demands that
// the test which is said to hold each of them fails.
//
// It owns: the list (list.txt), its reader, and the check that the list fits the
// code, names a test for each advisory that docs/threat-model.md answers, and
// covers those of Required. With the build tag "mutations" the tests also run
// every mutation: Go code through an overlay, so that no file of the checkout is
// touched, C code in a copy of the folder shim.
//
// It refuses: a mutation that does not build, or whose test fails for another
// reason than its own verdict. Such a test would prove nothing.
package mutations
