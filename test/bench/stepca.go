package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/test/bench/load"
)

const provisioner = "bench"

// stepCA is a step-ca with what `step ca init --ssh` configures: a JWK
// provisioner, its default database (badgerv2, synced writes) and text logs. The
// SSH keys are Ed25519, as ours are.
type stepCA struct {
	address string
	tls     *tls.Config
	signer  *ecdsa.PrivateKey // of the provisioner; its public half is in the configuration
	kid     string
	process *exec.Cmd
}

func newStepCA(ctx context.Context, program, dir string) (*stepCA, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &stepCA{address: fmt.Sprintf("127.0.0.1:%d", port)}
	if err := os.MkdirAll(filepath.Join(dir, "db"), 0o700); err != nil {
		return nil, err
	}
	if err := s.configure(dir); err != nil {
		return nil, err
	}
	if err := chownAll(dir, serverUID); err != nil {
		return nil, err
	}
	copied := filepath.Join(filepath.Dir(dir), "step-ca-program")
	if _, err := output(exec.Command("install", "-m", "0755", program, copied)); err != nil {
		return nil, err
	}
	s.process = daemon(serverUID, copied, filepath.Join(dir, "ca.json"))
	s.process.Env = []string{"HOME=" + dir, "STEPPATH=" + dir, "PATH=" + os.Getenv("PATH")}
	if err := logTo(s.process, dir+".log"); err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	return s, said(until(ctx, 20*time.Second, func() error {
		conn, err := tls.Dial("tcp", s.address, s.tls)
		if err != nil {
			return err
		}
		return conn.Close()
	}), dir+".log")
}

func (s *stepCA) close() { stop(s.process) }

// configure makes the keys, the X.509 chain of its TLS and ca.json.
func (s *stepCA) configure(dir string) error {
	if err := s.chain(dir); err != nil {
		return err
	}
	for _, name := range []string{"ssh_user_key", "ssh_host_key"} {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		if err := writeKey(filepath.Join(dir, name), key); err != nil {
			return err
		}
	}
	var err error
	if s.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	jwk, err := s.jwk()
	if err != nil {
		return err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	config := map[string]any{
		"root": in("root.crt"), "crt": in("intermediate.crt"), "key": in("intermediate.key"), "address": s.address, "dnsNames": []string{"localhost"},
		"ssh":    map[string]any{"userKey": in("ssh_user_key"), "hostKey": in("ssh_host_key")},
		"logger": map[string]any{"format": "text"},
		"db":     map[string]any{"type": "badgerv2", "dataSource": in("db")},
		"authority": map[string]any{"provisioners": []any{map[string]any{"type": "JWK", "name": provisioner, "key": jwk,
			"claims": map[string]any{"enableSSHCA": true, "defaultUserSSHCertDuration": "1h"}}}},
	}
	data, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(in("ca.json"), data, 0o600)
}

func (s *stepCA) jwk() (map[string]string, error) {
	point, err := s.signer.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	x, y := b64(point[1:33]), b64(point[33:65])
	// RFC 7638: the thumbprint is over exactly this text.
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, x, y))
	s.kid = b64(sum[:])
	return map[string]string{"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": s.kid, "use": "sig", "alg": "ES256"}, nil
}

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// chain makes a root and an intermediate; step-ca makes its own leaf.
func (s *stepCA) chain(dir string) error {
	var parent *x509.Certificate
	var parentKey crypto.Signer
	for i, name := range []string{"root", "intermediate"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
		if parent == nil {
			parent, parentKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
		if err != nil {
			return err
		}
		if parent, err = x509.ParseCertificate(der); err != nil {
			return err
		}
		parentKey = key
		if err := os.WriteFile(filepath.Join(dir, name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			return err
		}
		if err := writeKey(filepath.Join(dir, name+".key"), key); err != nil {
			return err
		}
		if i == 0 {
			roots := x509.NewCertPool()
			roots.AddCert(parent)
			s.tls = &tls.Config{RootCAs: roots, ServerName: "localhost"}
		}
	}
	return nil
}

func writeKey(path string, key crypto.PrivateKey) error {
	block, err := ssh.MarshalPrivateKey(key, "")
	if _, isEC := key.(*ecdsa.PrivateKey); isEC {
		var der []byte
		der, err = x509.MarshalPKCS8PrivateKey(key)
		block = &pem.Block{Type: "PRIVATE KEY", Bytes: der}
	}
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

// requests makes n sign requests, each with a one-time token of its own, good for
// four minutes.
func (s *stepCA) requests(n int, key ssh.PublicKey) ([][]byte, error) {
	head := b64(fmt.Appendf(nil, `{"alg":"ES256","kid":"%s","typ":"JWT"}`, s.kid))
	now := time.Now()
	all := make([][]byte, n)
	for i := range all {
		claims, err := json.Marshal(map[string]any{
			"iss": provisioner, "sub": upn, "aud": "https://localhost/1.0/ssh/sign", "jti": rand.Text(),
			"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(4 * time.Minute).Unix(),
			"step": map[string]any{"ssh": map[string]any{"certType": "user", "keyID": upn, "principals": []string{upn}}},
		})
		if err != nil {
			return nil, err
		}
		token, err := s.sign(head + "." + b64(claims))
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(map[string]any{"publicKey": key.Marshal(), "ott": token, "certType": "user", "keyID": upn, "principals": []string{upn}})
		if err != nil {
			return nil, err
		}
		all[i] = load.Post("localhost", "/1.0/ssh/sign", "application/json", body)
	}
	return all, nil
}

// sign appends the signature as RFC 7518, section 3.4, wants it: r and s, 32 bytes each.
func (s *stepCA) sign(text string) (string, error) {
	sum := sha256.Sum256([]byte(text))
	r, t, err := ecdsa.Sign(rand.Reader, s.signer, sum[:])
	if err != nil {
		return "", err
	}
	var raw [64]byte
	r.FillBytes(raw[:32])
	t.FillBytes(raw[32:])
	return text + "." + b64(raw[:]), nil
}

// certificate reads the answer to a sign request.
func (s *stepCA) certificate(status int, body []byte) ([]byte, error) {
	var answer struct {
		Crt []byte `json:"crt"`
	}
	if status != 201 {
		return nil, fmt.Errorf("step-ca answered %d: %.200s", status, body)
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	return answer.Crt, nil
}
