// Package shim is the Go side of the C parts on a machine: the name service
// module, the PAM module and sshd's principals command (folder shim).
//
// It owns: the file that the name service module reads (WriteNSS, ReadNSS), the
// frames on the two local sockets, the servers behind them (ServePAM,
// ServePrincipals), and the rule which login names can be ours (Ours). The text
// form of all of it is the section "Shim frames and NSS file" of
// docs/machine-protocol.md.
//
// It refuses: any decision. Whether somebody may enter is answered by the
// handlers; who is known on the machine is in the Database it is given. It
// reads no user database of the machine and trusts no byte of a frame.
package shim
