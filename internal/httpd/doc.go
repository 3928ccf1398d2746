// Package httpd is the door to the network. It owns matching a request to its
// row, authenticating the caller, limiting, making audit.By, and rendering
// errors in the shape of the row's surface.
//
// It refuses: handlers without a row and rows without a handler (New fails),
// any trust in forwarding headers, and internal detail in an answer: the caller
// sees the public text and a correlation id, the log sees the cause.
package httpd
