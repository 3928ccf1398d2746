// Package oauth is the HTTP side of internal/oauth for programs: discovery, the
// token and device endpoints, the password endpoint and the manifest.
//
// It refuses: judging anything. It reads requests, calls the domain, and writes
// what it answers; pages for people are httpd/signin's.
package oauth
