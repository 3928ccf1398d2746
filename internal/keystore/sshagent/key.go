package sshagent

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/fault"
)

// Fetch asks the agent for the public key of the configured fingerprint.
func (c *Client) Fetch() (crypto.PublicKey, error) {
	k, err := c.find(c.timeout)
	if err != nil {
		return nil, err
	}
	return plain(k)
}

// plain refuses what is no plain key: a certificate or a security key.
func plain(k ssh.PublicKey) (crypto.PublicKey, error) {
	holder, ok := k.(ssh.CryptoPublicKey)
	if !ok {
		return nil, fault.New(fault.Invalid, "SignerKeyUnfit", "the signer's key is a %s, which cannot be an authority", k.Type())
	}
	switch pub := holder.CryptoPublicKey().(type) {
	case ed25519.PublicKey, *ecdsa.PublicKey, *rsa.PublicKey:
		if k.Type() == ssh.KeyAlgoED25519 || k.Type() == ssh.KeyAlgoRSA || k.Type() == ssh.KeyAlgoECDSA256 || k.Type() == ssh.KeyAlgoECDSA384 || k.Type() == ssh.KeyAlgoECDSA521 {
			return pub, nil
		}
	}
	return nil, fault.New(fault.Invalid, "SignerKeyUnfit", "the signer's key is a %s, which cannot be an authority", k.Type())
}

// Bind returns the signer of a key that is already known, without asking the
// agent, so that a server starts while the agent is away. The key must be the
// one of the configured fingerprint.
func (c *Client) Bind(public crypto.PublicKey) (crypto.Signer, error) {
	k, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("sshagent: %w", err)
	}
	if have := ssh.FingerprintSHA256(k); have != c.endpoint.Fingerprint {
		return nil, fault.New(fault.Conflict, "SignerKeyOther", "the configured signer is for the key %s, but this deployment's key is %s", c.endpoint.Fingerprint, have)
	}
	return &Key{client: c, public: public, ssh: k}, nil
}

// Key is a key in an agent. It is a crypto.MessageSigner: an agent signs whole
// messages, never digests.
type Key struct {
	client *Client
	public crypto.PublicKey
	ssh    ssh.PublicKey
}

// Public returns the public key.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Reachable reports why the key cannot sign now; nil when it can.
func (k *Key) Reachable() error {
	_, err := k.client.find(min(k.client.timeout, probeTimeout))
	return err
}

// Sign signs for Ed25519, whose digest is the message. For other keys it is an
// error: use SignMessage.
func (k *Key) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != 0 {
		return nil, errors.New("sshagent: an agent signs messages, not digests")
	}
	return k.SignMessage(rand, digest, opts)
}

// SignMessage has the agent sign a message, verifies the answer, and returns it
// as crypto.Signer's own keys do: ASN.1 for ECDSA.
func (k *Key) SignMessage(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	algorithm, flags, err := k.algorithm(opts.HashFunc())
	if err != nil {
		return nil, err
	}
	answer, err := k.client.call(SignRequest{Key: k.ssh.Marshal(), Data: message, Flags: flags}.Marshal(), k.client.timeout)
	if err != nil {
		return nil, err
	}
	if len(answer) == 1 && answer[0] == MsgFailure {
		return nil, k.client.away(errors.New("the agent refuses to sign with this key: it is locked, does not hold it, or forbids what was asked"))
	}
	sig, err := ParseSignature(answer)
	if err != nil {
		return nil, k.client.away(err)
	}
	if sig.Format != algorithm {
		return nil, k.client.away(fmt.Errorf("the agent signed by %q, not by %s", sig.Format, algorithm))
	}
	if err := k.ssh.Verify(message, sig); err != nil {
		return nil, k.client.away(fmt.Errorf("the agent's signature: %w", err))
	}
	if _, isECDSA := k.public.(*ecdsa.PublicKey); !isECDSA {
		return sig.Blob, nil
	}
	var n struct{ R, S *big.Int }
	if err := ssh.Unmarshal(sig.Blob, &n); err != nil {
		return nil, k.client.away(err)
	}
	return asn1.Marshal(n)
}

// algorithm binds a hash to the key's kind.
func (k *Key) algorithm(hash crypto.Hash) (name string, flags uint32, err error) {
	switch pub := k.public.(type) {
	case ed25519.PublicKey:
		if hash == 0 {
			return k.ssh.Type(), 0, nil
		}
	case *ecdsa.PublicKey:
		want := map[elliptic.Curve]crypto.Hash{elliptic.P256(): crypto.SHA256, elliptic.P384(): crypto.SHA384, elliptic.P521(): crypto.SHA512}
		if hash == want[pub.Curve] && hash != 0 {
			return k.ssh.Type(), 0, nil
		}
	case *rsa.PublicKey:
		switch hash {
		case crypto.SHA512:
			return ssh.KeyAlgoRSASHA512, FlagRSASHA512, nil
		case crypto.SHA256:
			return ssh.KeyAlgoRSASHA256, FlagRSASHA256, nil
		default:
		}
	}
	return "", 0, fmt.Errorf("sshagent: a %s key does not sign with %v", k.ssh.Type(), hash)
}
