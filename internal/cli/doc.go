// Package cli is the command line of Sallyport: az's commands, flags and output
// with sally's name, and ssh.
//
// It owns: the grammar (commands, az's habits in arguments), the sentences that
// a person reads, exit codes, the closed alphabets through which every value
// passes before it reaches ssh's argument list or a configuration file, and the
// temporary keys of a connection.
//
// It refuses: to decide anything about access (the server and the machine do),
// to parse what ssh prints, and to put a private key of ours into anybody's
// agent. A command that makes one call is a row in verbs.go; a command that
// makes several is a Go file.
package cli
