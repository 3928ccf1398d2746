package server

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/fault"
	"sallyport/internal/keystore"
	"sallyport/internal/machine/protocol"
)

// signFlags are the words of `sally ca sign-manifest`.
type signFlags struct {
	request, current, key, passphraseFile, file string
	yes                                         bool
}

// SignManifestCommand returns `sally ca sign-manifest`, for the computer that
// keeps the manifest key. It needs no server and no network.
func SignManifestCommand() *cobra.Command {
	var words signFlags
	cmd := &cobra.Command{
		Use: "sign-manifest", Short: "Sign a new list of keys with the manifest key, on the computer that keeps it.", Args: cobra.NoArgs,
		Long: "Shows what would change between the list in force and the one to be signed, asks, and signs. The list in force is the one in the request,\n" +
			"or the one of --current: keep what you signed last, and give it here, so that you compare with what you know.",
		Example: "  sally ca sign-manifest --request request.json --current signed-last-time.json --key manifest.pem --file signed.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return signManifest(words, cmd.InOrStdin(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&words.request, "request", "", "File that sally ca request-manifest wrote.")
	f.StringVar(&words.current, "current", "", "The list that you signed last, to compare with.")
	f.StringVar(&words.key, "key", "", "The manifest key, manifest.pem, mode 0600.")
	f.StringVar(&words.passphraseFile, "key-passphrase-file", "", "File with the passphrase of the key.")
	f.StringVar(&words.file, "file", "", "New file for the signed list.")
	f.BoolVarP(&words.yes, "yes", "y", false, "Do not ask for confirmation.")
	for _, name := range []string{"request", "key", "file"} {
		_ = cmd.MarkFlagRequired(name) // the flag exists some lines above
	}
	return cmd
}

func signManifest(words signFlags, in io.Reader, out io.Writer) error {
	var r protocol.ManifestRequest
	if err := readDocument(words.request, &r); err != nil {
		return err
	}
	if words.current != "" {
		if err := readDocument(words.current, &r.Current); err != nil {
			return err
		}
	}
	secret, err := passphrase(words.passphraseFile)
	if err != nil {
		return err
	}
	key, err := keystore.OpenManifestKey(words.key, secret)
	if errors.Is(err, os.ErrNotExist) {
		return fault.Wrap(err, fault.NotFound, "KeysMissing", "there is no key %s", words.key)
	}
	if err != nil {
		return err
	}
	pin, err := protocol.Thumbprint(key.Public())
	if err != nil {
		return err
	}
	old, err := r.Check(pin)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "RequestRefused", "the request is not signed: %v", err).
			WithRemedy("Is this the manifest key of the deployment, and the request from its server?")
	}
	fmt.Fprintf(out, "Manifest key %s\n", pin)
	for _, line := range protocol.Changes(old, r.Next) {
		fmt.Fprintln(out, "  "+printableLine(line))
	}
	if !words.yes {
		if err := agreed(in, out); err != nil {
			return err
		}
	}
	signed, err := protocol.SignManifest(rand.Reader, key, r.Next)
	if err != nil {
		return err
	}
	text, err := json.Marshal(signed)
	if err != nil {
		return err
	}
	f, err := newFile(words.file, 0o644)
	if err != nil {
		return err
	}
	if err := write(f, string(text)+"\n"); err != nil {
		return err
	}
	fmt.Fprintf(out, "Signed. Keep a copy of %s here, and bring it to the server with: sally ca apply-manifest --file %s\n", words.file, words.file)
	return nil
}

// readDocument reads a file of exactly one JSON document.
func readDocument(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "CannotRead", "cannot read %s", path)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = errors.New("it is too large")
	}
	if err == nil {
		err = protocol.Decode(text, v)
	}
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "CannotRead", "%s is not what is expected here: %v", path, err)
	}
	return nil
}

// printableLine keeps what somebody else wrote from painting on the terminal.
func printableLine(line string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, line)
}

func agreed(in io.Reader, out io.Writer) error {
	fmt.Fprint(out, "Sign this list? (y/n): ")
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if l := strings.ToLower(strings.TrimSpace(line)); l != "y" && l != "yes" {
		return fault.New(fault.Conflict, "Cancelled", "nothing was signed")
	}
	return nil
}
