// Package sshd wires directory sign-in into a machine's own configuration, and
// takes it out again: sshd's Match block, PAM, sudo and the name service switch.
//
// A change is a transaction. The new text is tested beside the old one; what was
// there is kept; a journal says what is under way, so that a kill at any moment
// is undone at the next start; sshd is asked what it would do for probe names
// (`sshd -T -C`, sshd(8)) before it is told to read its configuration again; and
// whatever fails puts everything back. Removing restores every file byte for
// byte, or, where somebody edited it meanwhile, removes exactly our lines.
//
// It refuses: installing programs or libraries. Where a part is missing it
// changes nothing and says what to install.
package sshd
