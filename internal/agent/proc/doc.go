// Package proc reads what the kernel says about processes (proc(5)): who a
// process is, who its parent is, and which login it belongs to.
//
// It refuses: judging and signalling. Every answer is a moment's: who acts on it
// compares the start time again (Same).
package proc
