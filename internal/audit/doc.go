// Package audit owns the answer to "who did what, from where, when": By, the
// identity of a request, made at three doors only (httpd, the agent's socket, a
// server task); typed events; and the chain that makes a removed or altered
// event visible.
//
// It refuses: storage (see store), secrets in events, and optional auditing: an
// event is written in the transaction of the change that it records.
package audit
