package sshagent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"
)

// Message numbers of draft-ietf-sshm-ssh-agent, section 6.1.
const (
	msgFailure         = 5
	msgSuccess         = 6
	msgRemoveAllV1     = 9 // ssh-add -D sends it for agents of the last century
	msgList            = 11
	msgListAnswer      = 12
	msgSign            = 13
	msgSignAnswer      = 14
	msgRemove          = 18
	msgRemoveAll       = 19
	msgLock            = 22
	msgUnlock          = 23
	msgExtension       = 27
	extensionBind      = "session-bind@openssh.com"
	longestMessage     = 256 << 10 // as OpenSSH's agent
	longestSession     = 128       // an exchange hash; SHA-512 makes 64
	msgUserAuthRequest = 50        // RFC 4252, section 5
	serviceConnection  = "ssh-connection"
	methodPublicKey    = "publickey"
	methodHostBound    = "publickey-hostbound-v00@openssh.com" // OpenSSH's PROTOCOL, section 3.2
)

// readMessage reads one message: its number and what follows it.
func readMessage(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > longestMessage {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	message := make([]byte, n)
	_, err := io.ReadFull(r, message)
	return message, err
}

func writeMessage(w io.Writer, message []byte) error {
	out := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(message)), uint32(len(message))) //nolint:gosec // of ours, and short
	_, err := w.Write(append(out, message...))
	return err
}

// binding is what session-bind@openssh.com says: the host key with which a
// session began, the session's id, and the host's signature over it.
type binding struct {
	hostKey   []byte
	key       ssh.PublicKey
	session   []byte
	forwarded bool
}

// parseBinding reads the extension's contents and verifies the signature.
func parseBinding(contents []byte) (binding, error) {
	var m struct {
		HostKey, Session, Signature []byte
		Forwarded                   bool
	}
	if err := ssh.Unmarshal(contents, &m); err != nil {
		return binding{}, fmt.Errorf("session-bind: %w", err)
	}
	if len(m.Session) == 0 || len(m.Session) > longestSession {
		return binding{}, fmt.Errorf("session-bind: a session id of %d bytes", len(m.Session))
	}
	key, err := ssh.ParsePublicKey(m.HostKey)
	if err != nil {
		return binding{}, fmt.Errorf("session-bind: the host key cannot be read: %w", err)
	}
	var signature ssh.Signature
	if err := ssh.Unmarshal(m.Signature, &signature); err != nil {
		return binding{}, fmt.Errorf("session-bind: the signature cannot be read: %w", err)
	}
	if signature.Format == ssh.KeyAlgoRSA {
		return binding{}, errors.New("session-bind: a signature with SHA-1")
	}
	if err := key.Verify(m.Session, &signature); err != nil {
		return binding{}, fmt.Errorf("session-bind: the host key did not sign this session: %w", err)
	}
	return binding{hostKey: m.HostKey, key: key, session: m.Session, forwarded: m.Forwarded}, nil
}

// login is the request of RFC 4252, section 7, over which ssh wants a signature.
type login struct {
	session []byte
	user    string
	key     []byte
	hostKey []byte // only with the host-bound method
	bound   bool
}

// parseLogin reads the data of a signature. Everything that is not such a
// request, to the last byte, is refused.
func parseLogin(data []byte) (login, error) {
	var m struct {
		Session   []byte
		Type      uint8
		User      string
		Service   string
		Method    string
		Signed    bool
		Algorithm string
		Key       []byte
		Rest      []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(data, &m); err != nil {
		return login{}, errors.New("it is no login request")
	}
	if m.Type != msgUserAuthRequest || m.Service != serviceConnection || !m.Signed {
		return login{}, errors.New("it is no login request")
	}
	if m.Algorithm != ssh.CertAlgoED25519v01 {
		return login{}, fmt.Errorf("the algorithm %q is not the certificate's", m.Algorithm)
	}
	l := login{session: m.Session, user: m.User, key: m.Key}
	switch m.Method {
	case methodPublicKey:
		if len(m.Rest) != 0 {
			return login{}, errors.New("something follows the login request")
		}
	case methodHostBound:
		var end struct{ HostKey []byte }
		if err := ssh.Unmarshal(m.Rest, &end); err != nil {
			return login{}, errors.New("the login request has no host key at its end")
		}
		l.hostKey, l.bound = end.HostKey, true
	default:
		return login{}, fmt.Errorf("the method %q is not one of public keys", m.Method)
	}
	return l, nil
}
