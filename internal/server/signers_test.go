package server

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"sallyport/internal/fault"
	"sallyport/internal/keystore"
	"sallyport/internal/machine/protocol"
)

const aSigner = "ssh-agent:/run/x.sock#SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"

func authorityWords(t *testing.T, words ...string) *authorityFlags {
	t.Helper()
	var a authorityFlags
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	a.algorithmFlags(f)
	a.signerFlags(f)
	if err := f.Parse(words); err != nil {
		t.Fatal(err)
	}
	return &a
}

func TestAuthorityFlags_Words(t *testing.T) {
	algorithms, signers, faults := authorityWords(t, "--user-ca-algorithm", "rsa-4096", "--host-ca-signer", aSigner).keyConfig()
	if len(faults) != 0 || algorithms[protocol.UserCA] != keystore.RSA4096 || len(signers) != 1 || signers[protocol.HostCA] == nil {
		t.Fatal(algorithms, signers, faults)
	}
	algorithms, signers, faults = authorityWords(t).keyConfig()
	if len(faults)+len(signers) != 0 || algorithms[protocol.UserCA] != keystore.ECDSAP256 || algorithms[protocol.HostCA] != keystore.Ed25519 {
		t.Fatal(algorithms, signers, faults)
	}
	algorithms, _, faults = authorityWords(t, "--user-ca-signer", aSigner).keyConfig()
	if len(faults) != 0 || algorithms[protocol.UserCA] != "" {
		t.Errorf("a signer's key was given an algorithm: %v %v", algorithms, faults)
	}
	_, _, faults = authorityWords(t, "--user-ca-algorithm", "rsa-2048", "--host-ca-algorithm", "dsa", "--user-ca-signer", "pkcs11:x").keyConfig()
	if len(faults) != 3 {
		t.Errorf("%d faults are told at once: %v", len(faults), faults)
	}
	_, _, faults = authorityWords(t, "--user-ca-algorithm", "ed25519", "--user-ca-signer", aSigner).keyConfig()
	if len(faults) != 1 || !strings.Contains(fault.As(faults[0]).Public(), "leave out --user-ca-algorithm") {
		t.Errorf("an algorithm beside a signer: %v", faults)
	}
}

// TestOperators_ReadTheCause: what strangers are not told, who configures is.
func TestOperators_ReadTheCause(t *testing.T) {
	cause := fault.New(fault.Internal, "X", "no such socket /run/x.sock")
	strangers := fault.Wrap(cause, fault.Unavailable, "SignerAway", "away")
	if strings.Contains(strangers.Public(), "/run/x.sock") || !strings.Contains(fault.As(operators(strangers)).Public(), "/run/x.sock") {
		t.Error(strangers.Public(), operators(strangers))
	}
	other := fault.New(fault.Invalid, "Y", "y")
	if operators(other) != error(other) || operators(nil) != nil {
		t.Error("another fault was changed")
	}
}
