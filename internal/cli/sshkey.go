package cli

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/cli/client"
	"sallyport/internal/fault"
)

// newKey makes an Ed25519 key and writes it, mode 0600, in OpenSSH's form.
func (a *app) newKey(path string) (ssh.PublicKey, error) {
	pub, priv, err := ed25519.GenerateKey(a.cfg.Rand)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	if err := client.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return ssh.NewPublicKey(pub)
}

// readPublic reads a public key file. A certificate is not a key.
func readPublic(path string) (ssh.PublicKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "KeyFile", "cannot read the public key file %s: %v", path, reason(err))
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "KeyFile", "%s is not an OpenSSH public key", path).WithRemedy("Give the .pub file.")
	}
	if _, ok := pub.(*ssh.Certificate); ok {
		return nil, fault.New(fault.Invalid, "KeyFile", "%s is a certificate, not a public key", path)
	}
	return pub, nil
}

// certificateRequest describes a key in the words of RFC 7517, as the token
// endpoint takes it; a key that has no such form travels as OpenSSH's own blob.
func certificateRequest(pub ssh.PublicKey) (client.CertificateRequest, error) {
	jwk := map[string]string{"kty": "ssh", "key": base64.StdEncoding.EncodeToString(pub.Marshal())}
	if c, ok := pub.(ssh.CryptoPublicKey); ok && !strings.HasPrefix(pub.Type(), "sk-") {
		switch k := c.CryptoPublicKey().(type) {
		case *rsa.PublicKey:
			jwk = map[string]string{"kty": "RSA", "n": b64url(k.N.Bytes()), "e": b64url(big.NewInt(int64(k.E)).Bytes())}
		case ed25519.PublicKey:
			jwk = map[string]string{"kty": "OKP", "crv": "Ed25519", "x": b64url(k)}
		case *ecdsa.PublicKey:
			point, err := k.Bytes() // 4 || X || Y
			if err != nil {
				return client.CertificateRequest{}, fmt.Errorf("public key: %w", err)
			}
			half := (len(point) - 1) / 2
			jwk = map[string]string{"kty": "EC", "crv": k.Params().Name, "x": b64url(point[1 : 1+half]), "y": b64url(point[1+half:])}
		}
	}
	sum := sha256.Sum256(pub.Marshal())
	id := hex.EncodeToString(sum[:])
	jwk["kid"] = id
	text, err := json.Marshal(jwk)
	return client.CertificateRequest{JWK: string(text), KeyID: id}, err
}

func b64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// throwaway makes a request for a key that exists nowhere.
func (a *app) throwaway() (client.CertificateRequest, ssh.PublicKey, error) {
	raw, _, err := ed25519.GenerateKey(a.cfg.Rand)
	if err != nil {
		return client.CertificateRequest{}, nil, err
	}
	pub, err := ssh.NewPublicKey(raw)
	if err != nil {
		return client.CertificateRequest{}, nil, err
	}
	r, err := certificateRequest(pub)
	return r, pub, err
}

// adminKeys returns the public keys for a machine's local administrator:
// --ssh-key-values (text or files), else the person's own key, which is made
// with --generate-ssh-keys and never replaced.
func (a *app) adminKeys(in values) ([]string, error) {
	var keys []string
	for _, v := range in.list("ssh-key-values") {
		text := v
		if data, err := os.ReadFile(v); err == nil {
			text = string(data)
		}
		if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text)); err != nil {
			return nil, clientError{"argument --ssh-key-values: '" + v + "' is neither an OpenSSH public key nor a file that holds one"}
		}
		keys = append(keys, strings.TrimSpace(text))
	}
	if len(keys) > 0 {
		return keys, nil
	}
	folder := filepath.Join(a.cfg.Env("HOME"), ".ssh")
	for _, name := range []string{"id_rsa", "id_ed25519", "id_ecdsa"} {
		pub, err := readPublic(filepath.Join(folder, name+".pub"))
		if err == nil {
			return []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))}, nil
		}
	}
	if !in.on("generate-ssh-keys") {
		return nil, usageError{"An RSA or Ed25519 public key is needed: give --ssh-key-values, or --generate-ssh-keys to make one in ~/.ssh"}
	}
	return a.generateKeys(folder)
}

func (a *app) generateKeys(folder string) ([]string, error) {
	if a.cfg.Env("HOME") == "" {
		return nil, usageError{"argument --generate-ssh-keys: HOME is not set"}
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fault.Wrap(err, fault.Forbidden, "KeyFile", "cannot make the folder %s: %v", folder, reason(err))
	}
	path := filepath.Join(folder, "id_ed25519")
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Conflict, "KeyFile", "%s exists without its public half and is not replaced", path).
			WithRemedy("Run: ssh-keygen -y -f %s > %s.pub", path, path)
	}
	pub, err := a.newKey(path)
	if err != nil {
		return nil, err
	}
	line := ssh.MarshalAuthorizedKey(pub)
	if err := client.WriteFile(path+".pub", line, 0o644); err != nil {
		return nil, err
	}
	a.warn("SSH key files '" + path + "' and '" + path + ".pub' have been generated under ~/.ssh to allow SSH access to the VM. If using machines without permanent storage, back up your keys to a safe location.")
	return []string{strings.TrimSpace(string(line))}, nil
}
