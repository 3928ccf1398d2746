package repository

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // a fingerprint of version 4 keys is SHA-1, RFC 4880 12.2
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"
)

// Numbers of RFC 4880.
const (
	packetSignature = 2
	packetKey       = 6
	packetUser      = 13

	signatureBinary    = 0x00
	signatureText      = 0x01
	signatureCertifies = 0x13 // a user id of the key's own

	algorithmRSA = 1
	hashSHA256   = 8

	subCreated     = 2
	subIssuer      = 16
	subKeyFlags    = 27
	subFingerprint = 33 // RFC 9580 5.2.3.35; unknown to gpg before 2.1.16, which skips it
)

// keyBorn is when every repository key was made, as OpenPGP is told: a key's
// fingerprint covers this time, and a key file holds none. It is before any
// deployment's first package.
var keyBorn = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// pgpKey is an RSA key in OpenPGP's form (version 4). RSA, because the gpg of
// RHEL 7 and its rebuilds knows no other that is strong.
type pgpKey struct {
	signer crypto.Signer
	rand   io.Reader
	body   []byte // of the public key packet
	user   string
}

func newPGPKey(signer crypto.Signer, rand io.Reader, user string) (*pgpKey, error) {
	pub, ok := signer.Public().(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("repository: the signing key is no RSA key")
	}
	var b bytes.Buffer
	b.WriteByte(4)
	b.Write(binary.BigEndian.AppendUint32(nil, uint32(keyBorn.Unix()))) //nolint:gosec // a time of this century
	b.WriteByte(algorithmRSA)
	b.Write(mpi(pub.N))
	b.Write(mpi(big.NewInt(int64(pub.E))))
	return &pgpKey{signer: signer, rand: rand, body: b.Bytes(), user: user}, nil
}

// mpi is a number in OpenPGP's form: its length in bits, then its bytes.
func mpi(n *big.Int) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(n.BitLen())), n.Bytes()...) //nolint:gosec // at most 8192 bits, keystore sees to it
}

// framed is the key as it is hashed: in fingerprints and under certifications.
func (k *pgpKey) framed() []byte {
	return append(binary.BigEndian.AppendUint16([]byte{0x99}, uint16(len(k.body))), k.body...) //nolint:gosec // about a kilobyte
}

// fingerprint is the key's name.
func (k *pgpKey) fingerprint() []byte {
	sum := sha1.Sum(k.framed()) //nolint:gosec // see the import
	return sum[:]
}

// packet frames a body, new format (RFC 4880 4.2.2).
func packet(tag byte, body []byte) []byte {
	out := []byte{0xC0 | tag}
	switch n := len(body); {
	case n < 192:
		out = append(out, byte(n))
	case n < 8384:
		out = append(out, byte((n-192)>>8)+192, byte(n-192))
	default:
		out = binary.BigEndian.AppendUint32(append(out, 255), uint32(n)) //nolint:gosec // never more than a few kilobytes
	}
	return append(out, body...)
}

func subpacket(kind byte, body ...byte) []byte {
	return append([]byte{byte(1 + len(body)), kind}, body...)
}

// sign makes a signature packet (RFC 4880 5.2.3, version 4) over what was hashed
// before it.
func (k *pgpKey) sign(kind byte, at time.Time, prefix []byte, more ...[]byte) ([]byte, error) {
	id := k.fingerprint()
	hashed := subpacket(subCreated, binary.BigEndian.AppendUint32(nil, uint32(at.Unix()))...) //nolint:gosec // a time of this century
	hashed = append(hashed, subpacket(subFingerprint, append([]byte{4}, id...)...)...)
	for _, s := range more {
		hashed = append(hashed, s...)
	}
	head := []byte{4, kind, algorithmRSA, hashSHA256}
	head = binary.BigEndian.AppendUint16(head, uint16(len(hashed))) //nolint:gosec // a few dozen bytes
	head = append(head, hashed...)
	h := sha256.New()
	h.Write(prefix)
	h.Write(head)
	h.Write(binary.BigEndian.AppendUint32([]byte{4, 0xFF}, uint32(len(head)))) //nolint:gosec // a few dozen bytes
	digest := h.Sum(nil)
	sig, err := k.signer.Sign(k.rand, digest, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("repository: sign: %w", err)
	}
	loose := subpacket(subIssuer, id[len(id)-8:]...)
	head = binary.BigEndian.AppendUint16(head, uint16(len(loose))) //nolint:gosec // ten bytes
	head = append(append(head, loose...), digest[:2]...)
	return packet(packetSignature, append(head, mpi(new(big.Int).SetBytes(sig))...)), nil
}

// public is the certificate that users are given, in armor: key, name, and the
// key's own word that they belong together. It is the same at every call.
func (k *pgpKey) public() ([]byte, error) {
	prefix := append(k.framed(), binary.BigEndian.AppendUint32([]byte{0xB4}, uint32(len(k.user)))...) //nolint:gosec // a name
	prefix = append(prefix, k.user...)
	const certifiesAndSigns = 0x01 | 0x02
	self, err := k.sign(signatureCertifies, keyBorn, prefix, subpacket(subKeyFlags, certifiesAndSigns))
	if err != nil {
		return nil, err
	}
	all := append(packet(packetKey, k.body), packet(packetUser, []byte(k.user))...)
	return armored("PUBLIC KEY BLOCK", append(all, self...)), nil
}

// detached signs a file beside it, in armor.
func (k *pgpKey) detached(text []byte, at time.Time) ([]byte, error) {
	sig, err := k.sign(signatureBinary, at, text)
	if err != nil {
		return nil, err
	}
	return armored("SIGNATURE", sig), nil
}

// clear signs a text in the text itself (RFC 4880 section 7). The text's lines
// end neither in blanks nor begin with a dash.
func (k *pgpKey) clear(text []byte, at time.Time) ([]byte, error) {
	body := strings.TrimSuffix(string(text), "\n")
	for line := range strings.SplitSeq(body, "\n") {
		if strings.HasPrefix(line, "-") || strings.TrimRight(line, " \t\r") != line {
			return nil, fmt.Errorf("repository: the line %q cannot be signed in place", line)
		}
	}
	sig, err := k.sign(signatureText, at, []byte(strings.ReplaceAll(body, "\n", "\r\n")))
	if err != nil {
		return nil, err
	}
	out := []byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n" + body + "\n")
	return append(out, armored("SIGNATURE", sig)...), nil
}

// armored writes bytes as text with their checksum (RFC 4880 section 6).
func armored(kind string, data []byte) []byte {
	var b strings.Builder
	b.WriteString("-----BEGIN PGP " + kind + "-----\n\n")
	for text := base64.StdEncoding.EncodeToString(data); text != ""; {
		n := min(64, len(text))
		b.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	sum := crc24(data)
	b.WriteString("=" + base64.StdEncoding.EncodeToString([]byte{byte(sum >> 16), byte(sum >> 8), byte(sum)}) + "\n")
	b.WriteString("-----END PGP " + kind + "-----\n")
	return []byte(b.String())
}

// crc24 is RFC 4880 6.1.
func crc24(data []byte) uint32 {
	crc := uint32(0xB704CE)
	for _, c := range data {
		crc ^= uint32(c) << 16
		for range 8 {
			if crc <<= 1; crc&0x1000000 != 0 {
				crc ^= 0x1864CFB
			}
		}
	}
	return crc & 0xFFFFFF
}
