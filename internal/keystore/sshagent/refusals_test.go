package sshagent_test

import (
	"crypto/rand"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/fault"
	"sallyport/internal/keystore/sshagent"
)

// TestFetch_OnlyPlainKeys: an agent also holds certificates, which are no authorities.
func TestFetch_OnlyPlainKeys(t *testing.T) {
	key := ed25519Key(t)
	signer, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := &ssh.Certificate{Key: sshKey(t, key), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	if err := certificate.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(folder(t), "l.sock")
	liar(t, socket, func([]byte) []byte {
		return framed(sshagent.MarshalIdentities([]sshagent.Identity{{Key: certificate.Marshal()}}))
	})
	c := sshagent.New(sshagent.Config{Endpoint: sshagent.Endpoint{Path: socket, Owner: -1, Fingerprint: ssh.FingerprintSHA256(certificate)}})
	if _, err := c.Fetch(); err == nil || !strings.Contains(fault.As(err).Public(), "which cannot be an authority") {
		t.Errorf("got %v", err)
	}
}
