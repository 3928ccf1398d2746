package keystore

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"time"
)

// TLSNames is what the server's own TLS certificate is made of.
type TLSNames struct {
	Hosts     []string // DNS names and IP addresses
	NotBefore time.Time
	NotAfter  time.Time
}

// TLSRoot makes the deployment's TLS root certificate: one level, allowed to
// sign server certificates only. It is listed in the manifest.
func (s *Store) TLSRoot(organization string, notBefore, notAfter time.Time) ([]byte, error) {
	key, err := s.Signer(TLSCA)
	if err != nil {
		return nil, err
	}
	serial, err := s.serial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Sallyport TLS root", Organization: []string{organization}},
		NotBefore: notBefore, NotAfter: notAfter, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(s.rand, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("keystore: TLS root: %w", err)
	}
	return der, nil
}

// TLSCertificate makes the server's certificate under a root that TLSRoot made.
func (s *Store) TLSCertificate(root []byte, names TLSNames) ([]byte, error) {
	parent, err := x509.ParseCertificate(root)
	if err != nil {
		return nil, fmt.Errorf("keystore: TLS root: %w", err)
	}
	ca, err := s.Signer(TLSCA)
	if err != nil {
		return nil, err
	}
	key, err := s.Signer(TLS)
	if err != nil {
		return nil, err
	}
	serial, err := s.serial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, NotBefore: names.NotBefore, NotAfter: names.NotAfter, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range names.Hosts {
		if addr, err := netip.ParseAddr(h); err == nil {
			t.IPAddresses = append(t.IPAddresses, net.IP(addr.AsSlice()))
			continue
		}
		t.DNSNames = append(t.DNSNames, h)
	}
	if len(t.DNSNames) > 0 {
		t.Subject = pkix.Name{CommonName: t.DNSNames[0]}
	}
	der, err := x509.CreateCertificate(s.rand, t, parent, key.Public(), ca)
	if err != nil {
		return nil, fmt.Errorf("keystore: TLS certificate: %w", err)
	}
	return der, nil
}

func (s *Store) serial() (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := io.ReadFull(s.rand, b); err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	b[0] &= 0x7f // positive in at most 20 octets, RFC 5280 4.1.2.2
	b[0] |= 0x40
	return new(big.Int).SetBytes(b), nil
}
