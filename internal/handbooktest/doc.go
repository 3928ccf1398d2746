// Package handbooktest reads the sentences of docs/troubleshooting.md for the tests
// that reproduce them, and keeps the record of those that were heard.
//
// It owns: the form of the page. A sentence is a quotation of one line that ends in
// its id, in a comment which readers do not see; words in capitals of a closed list
// stand for what differs from case to case. And the one way to show that a sentence
// is reproduced: what a program has said is handed to Said, Known or Heard, which
// compare it with the page and write its id into the test's log. The last part of the
// page are tables, made from the source, of what explains itself: what a package says
// in its own tests is compared with them (build tag heard, package fault). Unheard
// names, at the end of a whole run, every sentence of the page that no log has.
//
// It refuses: to be part of a program, and a page that does not have this form.
package handbooktest
