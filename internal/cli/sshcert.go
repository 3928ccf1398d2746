package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"sallyport/internal/cli/client"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// certificate is a checked certificate of ours.
type certificate struct {
	cert  *ssh.Certificate
	login string // the first principal
}

func (c certificate) until() time.Time      { return time.Unix(int64(c.cert.ValidBefore), 0) } //nolint:gosec // checked to be finite
func (c certificate) line() []byte          { return ssh.MarshalAuthorizedKey(c.cert) }
func (c certificate) correlationID() string { return c.cert.KeyId }

// obtain asks for a certificate for a key, good for one machine where machine
// names it. A policy that wants the person at a sign-in page gets that page when
// there is a terminal to say so on, and a sentence otherwise.
func (a *app) obtain(ctx context.Context, s *client.Session, pub ssh.PublicKey, machine string, interactive bool) (certificate, error) {
	request, err := certificateRequest(pub)
	if err != nil {
		return certificate{}, err
	}
	request.Machine = machine
	g, err := s.Certificate(ctx, request)
	var oe *client.OAuthError
	if errors.As(err, &oe) && oe.NeedsInteraction() {
		g, err = a.stepUp(ctx, s, request, oe, interactive)
	}
	if err != nil {
		return certificate{}, err
	}
	c, err := a.checkCertificate(g.AccessToken, pub, s.Server().Manifest())
	if errors.Is(err, errForeignCA) {
		if err = s.Server().Renew(ctx); err == nil {
			c, err = a.checkCertificate(g.AccessToken, pub, s.Server().Manifest())
		}
	}
	if errors.Is(err, errForeignCA) {
		err = fault.Wrap(err, fault.Unauthenticated, "BadCertificate", "the server sent a certificate that none of its published keys signed; it is not used.")
	}
	return c, err
}

func (a *app) stepUp(ctx context.Context, s *client.Session, request client.CertificateRequest, why *client.OAuthError, interactive bool) (client.Grant, error) {
	if s.Account().User.Type != client.TypeUser {
		return client.Grant{}, why
	}
	if !interactive || !a.cfg.IsTerminal(a.cfg.Stderr) {
		return client.Grant{}, fault.Wrap(why, fault.Unauthenticated, "Interaction", "%s", why.Error()).
			WithRemedy("In a terminal, run: sally login --scope %s", s.Server().SSHScope())
	}
	a.say("%s", why.Error())
	page := a.page()
	page.Claims = why.Claims
	g, err := s.StepUp(ctx, request, page, true)
	if errors.Is(err, client.ErrNoBrowser) {
		g, err = s.StepUp(ctx, request, page, false)
	}
	return g, err
}

var errForeignCA = errors.New("signed by a key that the manifest does not list")

// checkCertificate reads a certificate and checks that it is a user certificate
// for our key, with an end, signed by a key of the pinned manifest, and that its
// login name may be shown to ssh.
func (a *app) checkCertificate(text string, pub ssh.PublicKey, m protocol.Manifest) (certificate, error) {
	bad := func(why string) (certificate, error) {
		return certificate{}, fault.New(fault.Unavailable, "BadCertificate", "the server's certificate is not used: %s", why)
	}
	blob, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return bad("it is not base64")
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return bad("it cannot be read")
	}
	cert, ok := key.(*ssh.Certificate)
	switch {
	case !ok || cert.CertType != ssh.UserCert:
		return bad("it is not a user certificate")
	case !bytes.Equal(cert.Key.Marshal(), pub.Marshal()):
		return bad("it is for another key")
	case len(cert.ValidPrincipals) == 0:
		return bad("it names nobody")
	case cert.ValidBefore > 1<<40:
		return bad("it has no end")
	}
	if err := checkLogin(cert.ValidPrincipals[0]); err != nil {
		return certificate{}, err
	}
	authorities := authorityKeys(m, protocol.UserCA)
	checker := ssh.CertChecker{Clock: a.cfg.Now, SupportedCriticalOptions: []string{"source-address", "force-command", "verify-required"},
		IsUserAuthority: func(auth ssh.PublicKey) bool {
			return slices.ContainsFunc(authorities, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), auth.Marshal()) })
		}}
	if !checker.IsUserAuthority(cert.SignatureKey) {
		return certificate{}, errForeignCA
	}
	if err := checker.CheckCert(cert.ValidPrincipals[0], cert); err != nil {
		return bad(err.Error())
	}
	return certificate{cert: cert, login: strings.ToLower(cert.ValidPrincipals[0])}, nil
}

// authorityKeys returns a purpose's keys of the manifest in ssh's form.
func authorityKeys(m protocol.Manifest, p protocol.Purpose) []ssh.PublicKey {
	var keys []ssh.PublicKey
	for _, k := range m.For(p) {
		if pub, err := ssh.NewPublicKey(k); err == nil {
			keys = append(keys, pub)
		}
	}
	return keys
}

func keyFlags() []flag {
	return []flag{
		{name: "public-key-file", short: "p", usage: "Public key of your own; an ephemeral key is made without it"},
		{name: "private-key-file", short: "i", usage: "Private key of your own"},
	}
}

func (a *app) sshCert() *cobra.Command {
	flags := []flag{{name: "file", short: "f", required: true, usage: "File for the certificate"}, keyFlags()[0]}
	cmd := leafFor("cert", "Write a certificate for use with other SSH clients.", flags, func(ctx context.Context, in values) error {
		s, err := a.identity()
		if err != nil {
			return err
		}
		file, err := absolute(in.text("file"))
		if err != nil {
			return err
		}
		if info, err := os.Stat(filepath.Dir(file)); err != nil || !info.IsDir() {
			return fault.New(fault.Invalid, "Folder", "%s is not in a folder that exists", file)
		}
		pub, err := a.keyFor(in.text("public-key-file"), filepath.Dir(file))
		if err != nil {
			return err
		}
		c, err := a.obtain(ctx, s, pub, "", true)
		if err != nil {
			return err
		}
		if err := client.WriteFile(file, c.line(), 0o600); err != nil {
			return err
		}
		a.say("Generated SSH certificate %s is valid until %s in local time.", file, c.until().Local().Format("2006-01-02 15:04:05"))
		return nil
	})
	cmd.Example = "  sally ssh cert --file ./id-cert.pub --public-key-file ./id.pub"
	return cmd
}

// keyFor reads the person's public key, or makes a key pair in the folder, where
// one that is there already is used again.
func (a *app) keyFor(public, folder string) (ssh.PublicKey, error) {
	if public != "" {
		return readPublic(public)
	}
	path := filepath.Join(folder, "id_ed25519")
	if _, err := os.Lstat(path); err == nil {
		return readPublic(path + ".pub")
	}
	pub, err := a.newKey(path)
	if err != nil {
		return nil, err
	}
	return pub, client.WriteFile(path+".pub", ssh.MarshalAuthorizedKey(pub), 0o644)
}
