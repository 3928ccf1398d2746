package sshagent

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/fault"
)

const (
	mostConnections = 256
	quiet           = time.Minute // the same sentence is said once in this time
	mostSentences   = 64
	wrongPassphrase = time.Second // as a brake on guessing
	acceptAgain     = time.Second
)

// Identity is the person that the agent acts for, and whom he trusts.
type Identity interface {
	// SignedIn returns nil while the person is signed in, and the sentence that
	// says so when not.
	SignedIn() error
	// Machine returns the id of the machine that has proven this host key, or the
	// sentence that says why it is none of ours.
	Machine(ctx context.Context, key ssh.PublicKey) (string, error)
	// Mint returns a checked certificate for the key, good for this machine alone.
	Mint(ctx context.Context, machine string, key ssh.PublicKey) (*ssh.Certificate, error)
}

// Config is what an agent takes from outside.
type Config struct {
	Identity Identity
	Rand     io.Reader
	Now      func() time.Time
	// Wait returns after d, or with ctx's error.
	Wait func(ctx context.Context, d time.Duration) error
	// Log tells the person a sentence: ssh itself shows none of an agent's.
	Log func(sentence string)
	// MintTime is how long a certificate may take.
	MintTime time.Duration
}

// Agent answers ssh. It is safe for concurrent use.
type Agent struct {
	cfg  Config
	keys *keys

	door   sync.Mutex
	mu     sync.Mutex
	salt   [32]byte
	locked []byte // of the passphrase; nil: open
	said   map[string]time.Time
}

// New makes an agent without keys.
func New(cfg Config) *Agent {
	a := &Agent{cfg: cfg, said: map[string]time.Time{}}
	said := cfg
	said.Log = a.say
	a.keys = &keys{cfg: said, flights: map[string]*flight{}, all: new(atomic.Bool)}
	return a
}

// text is what a person reads of an error.
func text(err error) string {
	var f *fault.Error
	if errors.As(err, &f) {
		return f.Public()
	}
	return err.Error()
}

// say tells a sentence, but not over and over: twenty connections at the same
// time have the same thing to say.
func (a *Agent) say(sentence string) {
	now := a.cfg.Now()
	a.mu.Lock()
	last, known := a.said[sentence]
	if len(a.said) >= mostSentences && !known {
		clear(a.said)
	}
	again := known && now.Sub(last) < quiet
	if !again {
		a.said[sentence] = now
	}
	a.mu.Unlock()
	if !again {
		a.cfg.Log(sentence)
	}
}

// Serve answers on every connection of the listener until ctx ends, and then
// closes it and them.
func (a *Agent) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	places := make(chan struct{}, mostConnections)
	for {
		places <- struct{}{}
		c, err := l.Accept()
		if err != nil {
			<-places
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accept a connection: %w", err)
			}
			a.say("A connection could not be accepted: " + err.Error()) // too many open files, say
			_ = a.cfg.Wait(ctx, acceptAgain)
			continue
		}
		all.Go(func() {
			defer func() { <-places }()
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			defer func() { _ = c.Close() }()
			a.converse(ctx, c)
		})
	}
}

// connection is what one connection has said of itself.
type connection struct {
	agent   *Agent
	bound   *binding
	machine string
	refused bool        // it was forwarded, or lied: nothing on it is answered any more
	offered *credential // what was listed on it
}

func (a *Agent) converse(ctx context.Context, c io.ReadWriter) {
	conn := &connection{agent: a}
	for {
		message, err := readMessage(c)
		if err != nil {
			return
		}
		if err := writeMessage(c, conn.answer(ctx, message)); err != nil {
			return
		}
	}
}

// answer answers one message.
func (c *connection) answer(ctx context.Context, message []byte) []byte {
	a, ok := c.agent, false
	locked := a.isLocked()
	switch kind := message[0]; {
	case kind == msgList && locked:
		return listAnswer(nil)
	case locked && kind != msgUnlock:
	case kind == msgList:
		return listAnswer(c.list(ctx))
	case kind == msgSign:
		signature, err := c.sign(message)
		if err == nil {
			return ssh.Marshal(struct {
				Blob []byte `sshtype:"14"`
			}{ssh.Marshal(signature)})
		}
		a.say("A signature was refused: " + text(err))
	case kind == msgExtension:
		ok = c.bind(ctx, message)
	case kind == msgRemove:
		var m struct {
			Key []byte `sshtype:"18"`
		}
		ok = ssh.Unmarshal(message, &m) == nil && len(m.Key) > 0 && a.keys.forget(m.Key)
	case kind == msgRemoveAll, kind == msgRemoveAllV1:
		ok = a.keys.forget(nil)
	case kind == msgLock, kind == msgUnlock:
		ok = a.lock(ctx, message)
	}
	if ok {
		return []byte{msgSuccess}
	}
	return []byte{msgFailure}
}

func listAnswer(c *credential) []byte {
	var m struct {
		Count uint32 `sshtype:"12"`
		Rest  []byte `ssh:"rest"`
	}
	if c != nil {
		m.Count = 1
		m.Rest = ssh.Marshal(struct {
			Blob    []byte
			Comment string
		}{c.blob, c.cert.ValidPrincipals[0] + " on " + c.machine})
	}
	return ssh.Marshal(m)
}

// bind takes what the connection says of its session. Whatever is wrong with it
// ends the connection's use: a binding that could be tried again, or a second
// one, would let a forwarded connection look like one of this computer.
func (c *connection) bind(ctx context.Context, message []byte) bool {
	var m struct {
		Name     string `sshtype:"27"`
		Contents []byte `ssh:"rest"`
	}
	if ssh.Unmarshal(message, &m) != nil || m.Name != extensionBind {
		return false // an extension that we do not know changes nothing
	}
	again := c.refused || c.bound != nil
	c.refused = true
	if again {
		c.agent.say("A connection said twice which session it is for; nothing more is answered on it.")
		return false
	}
	b, err := parseBinding(m.Contents)
	switch {
	case err != nil:
		c.agent.say("A connection was refused: " + text(err))
		return false
	case b.forwarded:
		c.agent.say("A forwarded connection was refused: this agent works for ssh on this computer only. To go on from one machine to another, use ssh -J in the place of ssh -A.")
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, c.agent.cfg.MintTime)
	defer cancel()
	if c.machine, err = c.agent.cfg.Identity.Machine(ctx, b.key); err != nil {
		c.agent.say(text(err))
		return false
	}
	c.bound, c.refused = &b, false
	return true
}

// list returns what the connection may use: one certificate, or none.
func (c *connection) list(ctx context.Context) *credential {
	if c.refused {
		return nil
	}
	if c.bound == nil {
		c.agent.say("A program asked for keys without saying for which session (session-bind@openssh.com; OpenSSH 8.9 and newer say it): it gets none. For other programs there are: sally ssh config, sally ssh cert")
		return nil
	}
	c.offered = nil
	cred, err := c.credential(ctx)
	if err != nil {
		c.agent.say(text(err))
		return nil
	}
	c.offered = cred
	return cred
}

func (c *connection) credential(ctx context.Context) (*credential, error) {
	if err := c.signedIn(); err != nil {
		return nil, err
	}
	return c.agent.keys.get(ctx, c.machine)
}

// signedIn forgets all keys of somebody who is not signed in any more.
func (c *connection) signedIn() error {
	err := c.agent.cfg.Identity.SignedIn()
	if err != nil {
		c.agent.keys.forget(nil)
	}
	return err
}

func (c *connection) sign(message []byte) (*ssh.Signature, error) {
	var m struct {
		Key   []byte `sshtype:"13"`
		Data  []byte
		Flags uint32 // choose among RSA's hashes: nothing for our keys
	}
	if err := ssh.Unmarshal(message, &m); err != nil {
		return nil, errors.New("the request cannot be read")
	}
	if c.refused || c.bound == nil || c.offered == nil {
		return nil, errors.New("nothing was offered on this connection")
	}
	if err := c.signedIn(); err != nil {
		return nil, err
	}
	if c.offered.removed.Load() || c.offered.all.Load() {
		return nil, errors.New("the key was removed from the agent")
	}
	if err := c.offered.maySign(*c.bound, m.Key, m.Data); err != nil {
		return nil, err
	}
	if !c.agent.cfg.Now().Before(c.offered.until()) {
		return nil, errors.New("the certificate has ended")
	}
	return c.offered.signer.Sign(c.agent.cfg.Rand, m.Data)
}

func (a *Agent) isLocked() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.locked != nil
}

// lock locks the agent with a passphrase, or opens it with the same. A locked
// agent holds no key.
func (a *Agent) lock(ctx context.Context, message []byte) bool {
	var m struct {
		Passphrase []byte
	}
	if ssh.Unmarshal(message[1:], &m) != nil || len(m.Passphrase) == 0 {
		return false
	}
	a.door.Lock() // one guess at a time, on however many connections
	defer a.door.Unlock()
	a.mu.Lock()
	if message[0] == msgLock {
		defer a.mu.Unlock()
		if a.locked != nil {
			return false
		}
		if _, err := io.ReadFull(a.cfg.Rand, a.salt[:]); err != nil {
			return false
		}
		a.locked = a.digest(m.Passphrase)
		a.keys.forget(nil)
		return true
	}
	right := a.locked != nil && hmac.Equal(a.locked, a.digest(m.Passphrase))
	if right {
		a.locked = nil
	}
	a.mu.Unlock()
	if !right {
		_ = a.cfg.Wait(ctx, wrongPassphrase)
	}
	return right
}

func (a *Agent) digest(passphrase []byte) []byte {
	h := hmac.New(sha256.New, a.salt[:])
	h.Write(passphrase)
	return h.Sum(nil)
}
