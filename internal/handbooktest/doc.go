// Package handbooktest reads the sentences of docs/troubleshooting.md for the tests
// that reproduce them.
//
// It owns: the form of the page. A sentence is a quotation of one line that ends in
// its id, in a comment which readers do not see; words in capitals of a closed list
// stand for what differs from case to case.
//
// It refuses: to be part of a program, and a page that does not have this form.
package handbooktest
