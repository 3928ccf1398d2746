package sshagent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"
)

// Message numbers of draft-miller-ssh-agent section 5.1.
const (
	MsgFailure           byte = 5
	MsgRequestIdentities byte = 11
	MsgIdentitiesAnswer  byte = 12
	MsgSignRequest       byte = 13
	MsgSignResponse      byte = 14
)

// Signature flags of section 5.3. A request without one asks an RSA key for
// SHA-1, which nothing here does.
const (
	FlagRSASHA256 uint32 = 2
	FlagRSASHA512 uint32 = 4
)

// maxMessage bounds one message. A certificate with an RSA key of 8192 bits and
// all its options has less than 8 KiB.
const maxMessage = 64 << 10

var errMalformed = errors.New("the message is malformed")

// ReadMessage reads one message without its length. It allocates no more than
// the bound, whatever the length says.
func ReadMessage(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes: %w", n, errMalformed)
	}
	m := make([]byte, n)
	if _, err := io.ReadFull(r, m); err != nil {
		return nil, err
	}
	return m, nil
}

// WriteMessage writes a message with its length.
func WriteMessage(w io.Writer, m []byte) error {
	if len(m) == 0 || len(m) > maxMessage {
		return errMalformed
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(m)), uint32(len(m))), m...))
	return err
}

// SignRequest asks for a signature over Data by the key whose public blob is Key.
type SignRequest struct {
	Key   []byte
	Data  []byte
	Flags uint32
}

// Marshal returns the message.
func (q SignRequest) Marshal() []byte {
	m := appendText([]byte{MsgSignRequest}, q.Key)
	return binary.BigEndian.AppendUint32(appendText(m, q.Data), q.Flags)
}

// ParseSignRequest reads a message of kind MsgSignRequest, and nothing behind it.
func ParseSignRequest(m []byte) (q SignRequest, err error) {
	rest, ok := kind(m, MsgSignRequest)
	if q.Key, rest, ok = text(rest, ok); !ok {
		return SignRequest{}, errMalformed
	}
	if q.Data, rest, ok = text(rest, ok); !ok || len(rest) != 4 {
		return SignRequest{}, errMalformed
	}
	q.Flags = binary.BigEndian.Uint32(rest)
	return q, nil
}

// Identity is one key that an agent offers.
type Identity struct {
	Key     []byte // public key blob
	Comment string
}

// MarshalIdentities returns the answer to MsgRequestIdentities.
func MarshalIdentities(list []Identity) []byte {
	m := binary.BigEndian.AppendUint32([]byte{MsgIdentitiesAnswer}, uint32(len(list)))
	for _, i := range list {
		m = appendText(appendText(m, i.Key), []byte(i.Comment))
	}
	return m
}

// ParseIdentities reads the answer to MsgRequestIdentities.
func ParseIdentities(m []byte) ([]Identity, error) {
	rest, ok := kind(m, MsgIdentitiesAnswer)
	if !ok || len(rest) < 4 {
		return nil, errMalformed
	}
	count := binary.BigEndian.Uint32(rest)
	rest = rest[4:]
	var list []Identity
	for range count {
		var key, comment []byte
		if key, rest, ok = text(rest, ok); !ok {
			return nil, errMalformed
		}
		if comment, rest, ok = text(rest, ok); !ok {
			return nil, errMalformed
		}
		list = append(list, Identity{Key: key, Comment: string(comment)})
	}
	if len(rest) != 0 {
		return nil, errMalformed
	}
	return list, nil
}

// MarshalSignature returns the answer to a SignRequest.
func MarshalSignature(s *ssh.Signature) []byte {
	return appendText([]byte{MsgSignResponse}, ssh.Marshal(*s))
}

// ParseSignature reads the answer to a SignRequest.
func ParseSignature(m []byte) (*ssh.Signature, error) {
	rest, ok := kind(m, MsgSignResponse)
	packed, rest, ok := text(rest, ok)
	if !ok || len(rest) != 0 {
		return nil, errMalformed
	}
	format, packed, ok := text(packed, ok)
	if !ok {
		return nil, errMalformed
	}
	blob, packed, ok := text(packed, ok)
	if !ok || len(packed) != 0 {
		return nil, errMalformed
	}
	return &ssh.Signature{Format: string(format), Blob: blob}, nil
}

// kind takes the message's number from its front.
func kind(m []byte, want byte) ([]byte, bool) {
	if len(m) == 0 || m[0] != want {
		return nil, false
	}
	return m[1:], true
}

// text takes one string of RFC 4251 section 5 from the front.
func text(m []byte, ok bool) (value, rest []byte, good bool) {
	if !ok || len(m) < 4 || uint64(binary.BigEndian.Uint32(m)) > uint64(len(m)-4) {
		return nil, nil, false
	}
	n := 4 + int(binary.BigEndian.Uint32(m))
	return m[4:n], m[n:], true
}

func appendText(m, value []byte) []byte {
	return append(binary.BigEndian.AppendUint32(m, uint32(len(value))), value...)
}
