package signer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/keystore/sshagent"
	"sallyport/internal/sshca"
)

const (
	// connections bounds how many are open; a server keeps eight.
	connections = 64
	// answerTime is how long a peer may take to send the rest of a request that
	// it has begun, or to take an answer.
	answerTime = 5 * time.Second
	// probeEvery is how long a key counts as able to sign.
	probeEvery = 2 * time.Second
)

// Key is one CA key that is served.
type Key struct {
	Notary  *sshca.Notary
	Comment string
	// Probe reports why the key cannot sign now; nil when it always can. A key
	// that cannot is not listed, so that the server knows before it needs it.
	Probe func() error
}

// Config makes a Server.
type Config struct {
	Keys  []Key
	Allow []uint32  // uids that may connect
	Log   io.Writer // one JSON object a line
	Now   func() time.Time
}

// Server answers on a socket.
type Server struct {
	keys  map[string]Key // by public key blob
	order []Key
	allow []uint32
	now   func() time.Time

	probing sync.Mutex
	probed  map[string]time.Time // when a key was found able to sign, by blob

	logging sync.Mutex
	log     io.Writer
}

// New checks that there is something to serve, and somebody to serve it to.
func New(c Config) (*Server, error) {
	if len(c.Keys) == 0 || len(c.Allow) == 0 {
		return nil, errors.New("signer: at least one key and one uid are needed")
	}
	s := &Server{keys: map[string]Key{}, probed: map[string]time.Time{}, order: c.Keys, allow: c.Allow, now: c.Now, log: c.Log}
	for _, k := range c.Keys {
		blob := string(k.Notary.PublicKey().Marshal())
		if _, twice := s.keys[blob]; twice {
			return nil, errors.New("signer: one key is given twice; users and hosts need different authorities")
		}
		s.keys[blob] = k
	}
	return s, nil
}

// Serve answers until ctx ends; it then closes the listener and every
// connection.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	slots := make(chan struct{}, connections)
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("signer: %w", err)
		}
		uid, err := sshagent.PeerUID(conn)
		if err != nil || !slices.Contains(s.allow, uid) {
			_ = s.write(line{Message: "refused", UID: uid, Reason: "this uid may not connect"})
			_ = conn.Close()
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = s.write(line{Message: "refused", UID: uid, Reason: "too many connections"})
			_ = conn.Close()
			continue
		}
		all.Go(func() {
			defer func() { <-slots }()
			closed := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer closed()
			s.converse(conn, uid)
			_ = conn.Close()
		})
	}
}

// converse answers one connection's requests, one after the other.
func (s *Server) converse(conn net.Conn, uid uint32) {
	for {
		// A pooled connection may be silent for hours; what it has begun it
		// finishes in time.
		request, err := sshagent.ReadMessage(&patient{conn: conn})
		if err != nil {
			return
		}
		answer := s.answer(request, uid)
		if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
			return
		}
		if err := sshagent.WriteMessage(conn, answer); err != nil {
			return
		}
		if err := conn.SetDeadline(time.Time{}); err != nil {
			return
		}
	}
}

// patient waits for the first bytes as long as it takes and for the others
// answerTime.
type patient struct {
	conn  net.Conn
	begun bool
}

func (p *patient) Read(b []byte) (int, error) {
	n, err := p.conn.Read(b)
	if n > 0 && !p.begun {
		p.begun = true
		err = errors.Join(err, p.conn.SetDeadline(time.Now().Add(answerTime)))
	}
	return n, err
}

// answer is what one request gets.
func (s *Server) answer(request []byte, uid uint32) []byte {
	failure := []byte{sshagent.MsgFailure}
	switch request[0] {
	case sshagent.MsgRequestIdentities:
		if len(request) != 1 {
			return failure
		}
		var list []sshagent.Identity
		for _, k := range s.order {
			if !s.able(k, uid) {
				continue
			}
			list = append(list, sshagent.Identity{Key: k.Notary.PublicKey().Marshal(), Comment: k.Comment})
		}
		return sshagent.MarshalIdentities(list)
	case sshagent.MsgSignRequest:
		sig, err := s.sign(request, uid)
		if err != nil {
			return failure
		}
		return sshagent.MarshalSignature(sig)
	}
	_ = s.write(line{Message: "refused", UID: uid, Reason: fmt.Sprintf("message %d of the protocol is not served", request[0])})
	return failure
}

// able asks a key that can be away whether it signs. Its last success counts for
// a while, so that probes do not crowd out signatures.
func (s *Server) able(k Key, uid uint32) bool {
	if k.Probe == nil {
		return true
	}
	s.probing.Lock()
	defer s.probing.Unlock()
	blob := string(k.Notary.PublicKey().Marshal())
	if age := s.now().Sub(s.probed[blob]); age >= 0 && age < probeEvery {
		return true
	}
	if err := k.Probe(); err != nil {
		_ = s.write(line{Message: "failed", UID: uid, Key: ssh.FingerprintSHA256(k.Notary.PublicKey()), Type: typeName(k.Notary.Type()), Reason: err.Error()})
		return false
	}
	s.probed[blob] = s.now()
	return true
}

// sign signs a certificate. Its line is written first: no record, no signature.
func (s *Server) sign(request []byte, uid uint32) (*ssh.Signature, error) {
	record := line{Message: "refused", UID: uid}
	q, err := sshagent.ParseSignRequest(request)
	if err != nil {
		record.Reason = err.Error()
		return nil, errors.Join(err, s.write(record))
	}
	k, ok := s.keys[string(q.Key)]
	if !ok {
		record.Reason = "this key is not held here"
		return nil, errors.Join(errors.New(record.Reason), s.write(record))
	}
	record.Key = ssh.FingerprintSHA256(k.Notary.PublicKey())
	record.Type = typeName(k.Notary.Type())
	if k.Notary.PublicKey().Type() == ssh.KeyAlgoRSA && q.Flags != sshagent.FlagRSASHA512 {
		record.Reason = "an RSA key signs by rsa-sha2-512 only"
		return nil, errors.Join(errors.New(record.Reason), s.write(record))
	}
	u, err := k.Notary.Inspect(q.Data)
	if err != nil {
		record.Reason = err.Error()
		return nil, errors.Join(err, s.write(record))
	}
	record.Message, record.Certificate = "signing", &certificate{u.Serial, u.KeyID, u.Principals, u.Fingerprint, u.ValidBefore}
	if err := s.write(record); err != nil {
		return nil, err
	}
	sig, err := k.Notary.Sign(q.Data)
	if err != nil {
		record.Message, record.Reason = "failed", err.Error()
		return nil, errors.Join(err, s.write(record))
	}
	return sig, nil
}

func typeName(t sshca.Type) string {
	if t == sshca.Host {
		return "host"
	}
	return "user"
}

// line is one record: a signature that is about to be made, one that failed, or
// a refusal.
type line struct {
	Time        time.Time    `json:"time"`
	Message     string       `json:"msg"`
	UID         uint32       `json:"uid"`
	Key         string       `json:"key,omitempty"`
	Type        string       `json:"type,omitempty"`
	Certificate *certificate `json:"certificate,omitempty"`
	Reason      string       `json:"reason,omitempty"`
}

type certificate struct {
	Serial      uint64    `json:"serial,string"`
	KeyID       string    `json:"keyId"`
	Principals  []string  `json:"principals"`
	Fingerprint string    `json:"fingerprint"`
	ValidBefore time.Time `json:"validBefore"`
}

func (s *Server) write(l line) error {
	l.Time = s.now().UTC()
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	s.logging.Lock()
	defer s.logging.Unlock()
	_, err = s.log.Write(append(b, '\n'))
	return err
}
