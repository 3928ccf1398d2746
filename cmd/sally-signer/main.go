//go:build pkcs11

// Command sally-signer holds a Sallyport server's CA keys in a PKCS#11 token and
// signs certificates with them, over a unix socket, in a process and under a uid
// of its own. It is a program of its own because PKCS#11 libraries need cgo.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"sallyport/internal/fault"
)

// version is set when the program is built (-ldflags -X).
var version = "0.0.0-dev"

func main() {
	root := &cobra.Command{Use: "sally-signer", Short: "Hold CA keys in a PKCS#11 token and sign certificates with them.", Version: version, SilenceErrors: true, SilenceUsage: true}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(serveCommand(), keygenCommand(), showCommand())
	if err := root.Execute(); err != nil {
		os.Exit(complain(os.Stderr, err))
	}
}

// complain writes the sentence and returns the exit code: 2 for a command that
// cannot be right, 1 for everything else, as sally does.
func complain(out io.Writer, err error) int {
	var f *fault.Error
	if !errors.As(err, &f) {
		_, _ = fmt.Fprintln(out, "ERROR:", err) // cobra's own, about the words
		return 2
	}
	_, _ = fmt.Fprintln(out, "ERROR:", f.Public())
	if f.Kind == fault.Invalid {
		return 2
	}
	return 1
}
