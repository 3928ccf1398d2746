// Command bench measures the bars of docs/performance.md side by side in one
// run and prints a table: what, measured, beside what, ratio, bar, pass or miss.
//
// It owns the world it measures: a server, a lab and one machine in a folder of
// its own, and a step-ca with its database beside them. It runs as root because
// lab machines are made of namespaces and mounts; the computer's own files,
// users and network stay as they are.
//
// It refuses to hide a miss: a bar is a constant here, and what could not be
// measured is a row that says why and a failed run.
package main
