// Package route owns the list of everything this server answers: one row per
// wire operation, data only. httpd refuses to start when a row has no handler
// or a handler has no row, so this list is the whole attack surface.
//
// It refuses: code. Handlers, checks and limits live behind the names here.
package route
