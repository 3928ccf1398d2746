// Package many carries many byte streams over a few connections between two
// processes: 100,000 TLS sessions need no more descriptors than a handful. What
// goes over a stream is up to its ends; TLS stands on it as it does on TCP.
//
// It is for measuring on a computer that gives no process enough descriptors. It
// has no flow control: a slow reader's bytes wait in its memory.
package many
