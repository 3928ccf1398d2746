package cli

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/cli/client"
	"sallyport/internal/cli/output"
	"sallyport/internal/machine/protocol"
)

// hostShown says in words what a host has shown in the place of a machine's
// certificate.
func hostShown(key ssh.PublicKey, m protocol.Manifest, now time.Time) string {
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return "the plain key " + ssh.FingerprintSHA256(key) + " and no certificate of this directory"
	}
	text := "a certificate for " + output.CleanLine(strings.Join(cert.ValidPrincipals, ","))
	switch {
	case !slices.ContainsFunc(authorityKeys(m, protocol.HostCA), func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), cert.SignatureKey.Marshal()) }):
		return text + " that no authority of this directory has signed (it is of " + ssh.FingerprintSHA256(cert.SignatureKey) + ")"
	case cert.ValidBefore <= uint64(max(now.Unix(), 0)):
		return text + " that has ended on " + time.Unix(int64(cert.ValidBefore), 0).Local().Format("2006-01-02 15:04:05") //nolint:gosec // it is before now
	case hostPrincipal(key, m, func() time.Time { return now }) == "":
		return text + ", which is no machine of this directory"
	}
	return text + ", which is another machine"
}

// impostor asks the address once more, after ssh has failed there, and says who
// answers when it is not the machine; empty when it is, or nobody answers.
func (a *app) impostor(ctx context.Context, s *client.Session, t target) string {
	key := a.shownKey(ctx, t.address, t.port)
	m := s.Server().Manifest()
	if key == nil || hostPrincipal(key, m, a.cfg.Now) == t.principal {
		return ""
	}
	return fmt.Sprintf("%s answers with %s, so ssh has sent it nothing: expected is %s. Another computer has the machine's address now or poses as it, or the machine's agent cannot renew its certificate (its local administrator can run there: sally agent doctor).",
		t.address, hostShown(key, m, a.cfg.Now()), t.principal)
}
