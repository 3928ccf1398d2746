package keystore

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"sallyport/internal/fault"
)

const (
	sealedPrefix = "SALLYPORT SEALED "
	headerSalt   = "Salt"
	headerKDF    = "KDF"
	// kdf names the one parameter set; another would get another name. RFC 9106,
	// second recommended option.
	kdf       = "argon2id v=19 m=65536 t=3 p=4"
	saltBytes = 16
)

// box encrypts key files under a passphrase. The files of one Create share a
// salt, so that opening costs one derivation.
type box struct {
	passphrase []byte
	salt       string
	derived    map[string][]byte // by salt
}

func newBox(rand io.Reader, passphrase []byte) (*box, error) {
	b := &box{passphrase: passphrase, derived: map[string][]byte{}}
	if len(passphrase) == 0 {
		return b, nil
	}
	salt := make([]byte, saltBytes)
	if _, err := io.ReadFull(rand, salt); err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	b.salt = base64.StdEncoding.EncodeToString(salt)
	return b, nil
}

func (b *box) key(salt string) ([]byte, error) {
	if k, ok := b.derived[salt]; ok {
		return k, nil
	}
	raw, err := base64.StdEncoding.DecodeString(salt)
	if err != nil || len(raw) != saltBytes {
		return nil, fault.New(fault.Invalid, "KeyInvalid", "a key file has a malformed salt")
	}
	k := argon2.IDKey(b.passphrase, raw, 3, 64<<10, 4, chacha20poly1305.KeySize)
	b.derived[salt] = k
	return k, nil
}

// seal makes the PEM block. The file's name and kind are authenticated, so that
// a sealed key cannot stand in for another purpose.
func (b *box) seal(rand io.Reader, name, kind string, data []byte) (*pem.Block, error) {
	if len(b.passphrase) == 0 {
		return &pem.Block{Type: kind, Bytes: data}, nil
	}
	key, err := b.key(b.salt)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	sealed := aead.Seal(nonce, nonce, data, []byte(name+"\n"+kind))
	return &pem.Block{Type: sealedPrefix + kind, Headers: map[string]string{headerKDF: kdf, headerSalt: b.salt}, Bytes: sealed}, nil
}

func (b *box) open(path, name, kind string, block *pem.Block) ([]byte, error) {
	switch block.Type {
	case kind:
		if len(b.passphrase) != 0 {
			return nil, fault.New(fault.Invalid, "KeyNotSealed", "%s is not encrypted although a passphrase is configured", path)
		}
		return block.Bytes, nil
	case sealedPrefix + kind:
	default:
		return nil, fault.New(fault.Invalid, "KeyInvalid", "%s holds %q, expected %q", path, block.Type, kind)
	}
	if len(b.passphrase) == 0 {
		return nil, fault.New(fault.Invalid, "PassphraseMissing", "%s is encrypted", path).WithRemedy("Give the passphrase file: --key-passphrase-file FILE")
	}
	if block.Headers[headerKDF] != kdf {
		return nil, fault.New(fault.Invalid, "KeyInvalid", "%s is sealed with unknown parameters %q", path, block.Headers[headerKDF])
	}
	key, err := b.key(block.Headers[headerSalt])
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	if len(block.Bytes) < aead.NonceSize() {
		return nil, fault.New(fault.Invalid, "KeyInvalid", "%s is too short", path)
	}
	nonce, sealed := block.Bytes[:aead.NonceSize()], block.Bytes[aead.NonceSize():]
	data, err := aead.Open(nil, nonce, sealed, []byte(name+"\n"+kind))
	if err != nil {
		return nil, fault.New(fault.Invalid, "PassphraseWrong", "the passphrase does not open %s, or the file was altered", path)
	}
	return data, nil
}
