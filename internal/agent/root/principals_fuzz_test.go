package root

import (
	"crypto/ed25519"
	"encoding/base64"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/shim"
)

// FuzzPrincipals: sshd's words about a certificate, which may be signed by the
// user CA or by another key, say what they like, and be altered afterwards. What
// is accepted is signed by the CA, names the account's object id, belongs to the
// tenant, is valid now, and is what sshd said it was.
func FuzzPrincipals(f *testing.F) {
	key := func(n byte) ssh.Signer {
		seed := make([]byte, ed25519.SeedSize)
		seed[0] = n
		s, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed))
		if err != nil {
			f.Fatal(err)
		}
		return s
	}
	ca, foreign, own := key(1), key(2), key(3)
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	at := uint64(now.Unix())
	s := &Service{cfg: Config{Pins: pin.Machine{Tenant: tenant}, Now: func() time.Time { return now }}}
	v := view{userCAs: []ssh.PublicKey{ca.PublicKey()}}
	f.Add("id", uint64(7), "7", alice+"\n"+aliceID, tenant, "1763812800000000", "pwd:1", "", at-300, at+3600, uint32(ssh.UserCert), false, uint16(0), byte(0))
	f.Add("", uint64(0), "0", "", "", "", "", "force-command", at-300, ^uint64(0), uint32(ssh.UserCert), false, uint16(0), byte(0))
	f.Add("id", uint64(1), "01", "*", bobID, "-1", ":,:", "source-address", uint64(0), uint64(1), uint32(ssh.HostCert), true, uint16(9), byte(1))
	f.Fuzz(func(t *testing.T, id string, serial uint64, said, principals, forTenant, issued, factors, option string, after, before uint64, kind uint32, thief bool, place uint16, flip byte) {
		c := &ssh.Certificate{Key: own.PublicKey(), Serial: serial, CertType: kind, KeyId: id, ValidPrincipals: strings.Split(principals, "\n"), ValidAfter: after, ValidBefore: before,
			Permissions: ssh.Permissions{Extensions: map[string]string{extTenant: forTenant, extObjectID: aliceID, extIssued: issued, extFactors: factors}, CriticalOptions: map[string]string{}}}
		if option != "" {
			c.CriticalOptions[option] = "x"
		}
		if principals == "" {
			c.ValidPrincipals = nil
		}
		signer := ca
		if thief {
			signer = foreign
		}
		if err := c.SignCert(rand.NewChaCha8([32]byte{}), signer); err != nil {
			return
		}
		blob := c.Marshal()
		blob[int(place)%len(blob)] ^= flip
		request := shim.PrincipalsRequest{User: alice, KeyID: id, Serial: said, Certificate: base64.StdEncoding.EncodeToString(blob)}
		if got, err := s.certificate(v, request, aliceID); err == nil {
			acceptedRightly(t, got.Principals, c, thief || flip != 0, said, now)
		}
	})
}

func acceptedRightly(t *testing.T, principals []string, c *ssh.Certificate, forged bool, said string, now time.Time) {
	t.Helper()
	unknown := func(option string) bool { return option != "force-command" && option != "verify-required" }
	options := []string{}
	for name := range c.CriticalOptions {
		options = append(options, name)
	}
	switch at := uint64(now.Unix()); {
	case forged:
		t.Fatal("not signed by the user CA, or altered afterwards")
	case !slices.Contains(principals, aliceID) || !slices.Equal(principals, c.ValidPrincipals):
		t.Fatalf("principals %q", principals)
	case c.CertType != ssh.UserCert || c.Extensions[extTenant] != tenant || at < c.ValidAfter || at >= c.ValidBefore:
		t.Fatalf("%+v", c)
	case strconv.FormatUint(c.Serial, 10) != said || slices.ContainsFunc(options, unknown):
		t.Fatalf("serial %q, options %q", said, options)
	}
}
