//go:build pkcs11

package main

import (
	"crypto"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"sallyport/internal/fault"
	"sallyport/internal/signer"
	"sallyport/internal/signer/pkcs11"
	"sallyport/internal/sshca"
)

// tokenFlags name a token.
type tokenFlags struct{ module, label, pinFile string }

func (f *tokenFlags) declare(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.module, "module", "", "PKCS#11 library of the token.")
	cmd.Flags().StringVar(&f.label, "token-label", "", "Label of the token.")
	cmd.Flags().StringVar(&f.pinFile, "pin-file", "", "File with the PIN, 0600; without it the service manager's credential \"pin\".")
	for _, name := range []string{"module", "token-label"} {
		_ = cmd.MarkFlagRequired(name) // the flag exists above
	}
}

func (f *tokenFlags) open() (*pkcs11.Token, error) {
	if !filepath.IsAbs(f.module) {
		return nil, fault.New(fault.Invalid, "TokenModule", "--module must be an absolute path: it is code that is loaded")
	}
	file := f.pinFile
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); file == "" && dir != "" {
		file = filepath.Join(dir, "pin")
	}
	if file == "" {
		return nil, fault.New(fault.Invalid, "PINFile", "there is no PIN").WithRemedy("Give its file with --pin-file, or under systemd with LoadCredential=pin:/path.")
	}
	return pkcs11.Open(pkcs11.Config{Module: f.module, Label: f.label, Now: time.Now, PIN: func() (string, error) { return signer.ReadPIN(file) }})
}

func keygenCommand() *cobra.Command {
	var token tokenFlags
	var label, algorithm string
	cmd := &cobra.Command{
		Use: "keygen", Short: "Make a key in the token and print its public half.", Args: cobra.NoArgs,
		Example: "  sally-signer keygen --module /usr/lib/softhsm/libsofthsm2.so --token-label ca --pin-file pin --key-label user-ca",
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := token.open()
			if err != nil {
				return err
			}
			defer t.Close()
			k, err := t.Generate(label, pkcs11.Algorithm(algorithm))
			if err != nil {
				return err
			}
			return printKey(cmd.OutOrStdout(), k.Public(), label)
		},
	}
	token.declare(cmd)
	cmd.Flags().StringVar(&label, "key-label", "", "Label of the new key; it must be free.")
	cmd.Flags().StringVar(&algorithm, "algorithm", string(pkcs11.Ed25519), "ed25519 or ecdsa-p256.")
	_ = cmd.MarkFlagRequired("key-label") // the flag exists above
	return cmd
}

func showCommand() *cobra.Command {
	var token tokenFlags
	var label string
	cmd := &cobra.Command{
		Use: "show", Short: "Print the public half and the fingerprint of a key in the token.", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := token.open()
			if err != nil {
				return err
			}
			defer t.Close()
			k, err := t.Key(label)
			if err != nil {
				return err
			}
			return printKey(cmd.OutOrStdout(), k.Public(), label)
		},
	}
	token.declare(cmd)
	cmd.Flags().StringVar(&label, "key-label", "", "Label of the key.")
	_ = cmd.MarkFlagRequired("key-label") // the flag exists above
	return cmd
}

// printKey writes the line of authorized_keys, and the fingerprint that the
// server's configuration names.
func printKey(out io.Writer, public crypto.PublicKey, label string) error {
	k, err := ssh.NewPublicKey(public)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s %s\n%s\n", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))), label, ssh.FingerprintSHA256(k))
	return err
}

// serveFlags are the words of `sally-signer serve`.
type serveFlags struct {
	token      tokenFlags
	socket     string
	group      int
	allow      []uint
	user, host string // key labels
}

func serveCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use: "serve", Short: "Sign certificates on a socket until SIGTERM.", Args: cobra.NoArgs,
		Long: "Speaks the ssh-agent protocol on a unix socket, to the uids that --allow-uid names. It lists its keys and signs SSH certificates of a Sallyport\n" +
			"server: of the key's type, within the certificate profile, valid from now. It refuses everything else. Each signature has a line on standard error.",
		Example: "  sally-signer serve --socket /run/sally-signer/ca.sock --allow-uid 7701 --module /usr/lib/softhsm/libsofthsm2.so --token-label ca --pin-file pin --user-ca-key-label user-ca",
		RunE:    func(cmd *cobra.Command, _ []string) error { return serve(cmd, f) },
	}
	f.token.declare(cmd)
	cmd.Flags().StringVar(&f.socket, "socket", "", "Path of the socket to make.")
	cmd.Flags().IntVar(&f.group, "socket-group", -1, "Numeric group that may reach the socket; this process's own without it.")
	cmd.Flags().UintSliceVar(&f.allow, "allow-uid", nil, "Numeric uid that may connect: the server's. Can be given again.")
	cmd.Flags().StringVar(&f.user, "user-ca-key-label", "", "Key that signs user certificates.")
	cmd.Flags().StringVar(&f.host, "host-ca-key-label", "", "Key that signs host certificates.")
	for _, name := range []string{"socket", "allow-uid"} {
		_ = cmd.MarkFlagRequired(name) // the flag exists above
	}
	return cmd
}

func serve(cmd *cobra.Command, f serveFlags) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	token, err := f.token.open()
	if err != nil {
		return err
	}
	defer token.Close()
	keys, err := f.keys(token)
	if err != nil {
		return err
	}
	allow := make([]uint32, len(f.allow))
	for i, uid := range f.allow {
		if allow[i] = uint32(uid); uint(allow[i]) != uid { //nolint:gosec // checked in the same line
			return fault.New(fault.Invalid, "UID", "%d is no uid", uid)
		}
	}
	s, err := signer.New(signer.Config{Keys: keys, Allow: allow, Log: cmd.ErrOrStderr(), Now: time.Now})
	if err != nil {
		return err
	}
	listener, err := signer.Listen(f.socket, f.group)
	if err != nil {
		return err
	}
	return s.Serve(ctx, listener)
}

// keys are the token's keys that are served, each for its one type.
func (f serveFlags) keys(token *pkcs11.Token) ([]signer.Key, error) {
	var keys []signer.Key
	for _, c := range []struct {
		label string
		kind  sshca.Type
	}{{f.user, sshca.User}, {f.host, sshca.Host}} {
		if c.label == "" {
			continue
		}
		k, err := token.Key(c.label)
		if err != nil {
			return nil, err
		}
		notary, err := sshca.NewNotary(sshca.NotaryConfig{Type: c.kind, Key: k, Rand: rand.Reader, Now: time.Now})
		if err != nil {
			return nil, err
		}
		keys = append(keys, signer.Key{Notary: notary, Comment: c.label, Probe: k.Probe})
	}
	if len(keys) == 0 {
		return nil, fault.New(fault.Invalid, "KeyLabel", "no key is named").WithRemedy("Give --user-ca-key-label, --host-ca-key-label or both.")
	}
	return keys, nil
}
