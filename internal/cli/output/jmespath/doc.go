// Package jmespath evaluates JMESPath queries over JSON documents and keeps the
// order of keys, which decides the columns of a table (jmespath.org
// specification; the behaviour where that is silent is that of the Python
// library inside az).
//
// It owns: the ordered JSON value with its decoder and encoder, the grammar, the
// functions, and the limits on documents, expressions and work that keep a
// query from exhausting the computer it runs on.
//
// It refuses: formats for people (package output) and any input or output of
// its own. Numbers that a query only moves keep their exact text.
package jmespath
