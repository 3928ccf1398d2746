package server

import (
	"crypto"
	"errors"
	"path/filepath"

	"github.com/spf13/pflag"

	"sallyport/internal/fault"
	"sallyport/internal/keystore"
	"sallyport/internal/keystore/sshagent"
	"sallyport/internal/machine/protocol"
)

// authorities are the two purposes whose key a deployment chooses: its
// algorithm, or the process that holds it.
func authorities() []keystore.Purpose {
	return []keystore.Purpose{protocol.UserCA, protocol.HostCA}
}

// authorityFlags are the words about the two authorities' keys, by purpose.
type authorityFlags struct {
	algorithms map[keystore.Purpose]*string
	signers    map[keystore.Purpose]*[]string
}

// signerFlags declares --user-ca-signer and --host-ca-signer.
func (a *authorityFlags) signerFlags(f *pflag.FlagSet) {
	a.signers = map[keystore.Purpose]*[]string{}
	for _, p := range authorities() {
		a.signers[p] = f.StringSlice(string(p)+"-signer", nil, "Process that holds the "+string(p)+" key: ssh-agent:/path/of/socket#SHA256:FINGERPRINT. Can be given again, for the key that a rotation turns to.")
	}
}

// usual is the algorithm of an authority's key that nobody chose. sshd checks the
// user CA's signature four times in a login and pads what takes long: OpenSSH's own
// Ed25519 needs 2 to 3 ms for each where its libcrypto's P-256 needs 0.2
// (docs/performance.md).
func usual(p keystore.Purpose) keystore.Algorithm {
	if p == protocol.UserCA {
		return keystore.ECDSAP256
	}
	return keystore.Ed25519
}

// algorithmFlags declares --user-ca-algorithm and --host-ca-algorithm.
func (a *authorityFlags) algorithmFlags(f *pflag.FlagSet) {
	a.algorithms = map[keystore.Purpose]*string{}
	for _, p := range authorities() {
		a.algorithms[p] = f.String(string(p)+"-algorithm", "", "Algorithm of the "+string(p)+" key: ed25519, ecdsa-p256, ecdsa-p384, rsa-3072, rsa-4096; without this "+string(usual(p))+".")
	}
}

// keyConfig reads the words, and returns everything that is wrong with them.
func (a *authorityFlags) keyConfig() (algorithms map[keystore.Purpose]keystore.Algorithm, signers map[keystore.Purpose][]keystore.External, faults []error) {
	algorithms, signers = map[keystore.Purpose]keystore.Algorithm{}, map[keystore.Purpose][]keystore.External{}
	for _, p := range authorities() {
		if text := a.algorithms[p]; text != nil && *text != "" {
			chosen, err := keystore.ParseAlgorithm(*text)
			if err != nil {
				faults = append(faults, err)
			}
			algorithms[p] = chosen
		}
		for _, text := range a.endpoints(p) {
			endpoint, err := sshagent.Parse(text)
			if err != nil {
				faults = append(faults, err)
				continue
			}
			signers[p] = append(signers[p], sshagent.New(sshagent.Config{Endpoint: endpoint}))
		}
		if algorithms[p] != "" && signers[p] != nil {
			faults = append(faults, fault.New(fault.Invalid, "InvalidAlgorithm", "the %s key is in a signer, so its algorithm is the signer's: leave out --%s-algorithm", p, p))
		}
		if a.algorithms[p] != nil && algorithms[p] == "" && signers[p] == nil {
			algorithms[p] = usual(p)
		}
	}
	return algorithms, signers, faults
}

func (a *authorityFlags) endpoints(p keystore.Purpose) []string {
	if list := a.signers[p]; list != nil {
		return *list
	}
	return nil
}

// keyConfig says how a deployment's keys are opened.
func (c Config) keyConfig() keystore.Config {
	return keystore.Config{Dir: filepath.Join(c.State, keysDir), Rand: c.Rand, Passphrase: c.Passphrase, External: c.Signers}
}

// operators turns a signer's fault, whose sentence is for everybody, into one
// for who configures the server: with the cause.
func operators(err error) error {
	if !fault.Is(err, fault.Unavailable) {
		return err
	}
	if cause := errors.Unwrap(fault.As(err)); cause != nil {
		return fault.Wrap(err, fault.Unavailable, "SignerAway", "the signer cannot be used: %v", cause).
			WithRemedy("Start it, and check path, owner and fingerprint.")
	}
	return err
}

// reachable reports why a key that is in another process cannot sign now.
func reachable(key crypto.Signer) error {
	if remote, ok := key.(interface{ Reachable() error }); ok {
		return remote.Reachable()
	}
	return nil
}

// checkSigners asks every signer for its key.
func checkSigners(keys *keystore.Store) error {
	for _, p := range authorities() {
		key, err := keys.Signer(p)
		if err != nil {
			return err
		}
		if err := reachable(key); err != nil {
			return operators(err)
		}
	}
	return nil
}
