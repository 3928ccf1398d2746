package sshagent

import (
	"errors"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/fault"
)

const (
	// defaultTimeout is how long one request may take, waiting included.
	defaultTimeout = 5 * time.Second
	// probeTimeout is how long a readiness check waits.
	probeTimeout = 2 * time.Second
	// connections bounds what is open at a time; a token signs no faster for
	// more.
	connections = 8
)

// Config names the agent.
type Config struct {
	Endpoint Endpoint
	Timeout  time.Duration // of one request; 5 seconds when zero
}

// Client speaks to one agent over a few connections, made when needed and again
// when the agent has restarted. It is safe for concurrent use.
type Client struct {
	endpoint Endpoint
	timeout  time.Duration
	slots    chan struct{}
	idle     chan net.Conn
}

// New makes a client. It connects at the first request, so that a server starts
// while its signer is away.
func New(c Config) *Client {
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	return &Client{endpoint: c.Endpoint, timeout: c.Timeout, slots: make(chan struct{}, connections), idle: make(chan net.Conn, connections)}
}

// away is what people read whose certificate cannot be signed now; the cause is
// for the operator.
func (c *Client) away(cause error) error {
	return fault.Wrap(cause, fault.Unavailable, "SignerAway", "the process that holds the server's signing key does not answer, so no certificate can be signed now").
		WithRemedy("Try again in a moment; if it stays so, tell the operator of the server.")
}

// call sends one request and returns the answer.
func (c *Client) call(request []byte, limit time.Duration) ([]byte, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	deadline := time.Now().Add(limit)
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-timer.C:
		return nil, c.away(errors.New("every connection is busy"))
	}
	for {
		conn, fresh, err := c.connection(limit)
		if err != nil {
			return nil, c.away(err)
		}
		answer, err := exchange(conn, deadline, request)
		if err == nil {
			c.keep(conn)
			return answer, nil
		}
		_ = conn.Close()
		// A connection from before the agent's restart says nothing about now.
		// Signing twice is harmless, so the request is sent again.
		if fresh || !time.Now().Before(deadline) {
			return nil, c.away(err)
		}
		c.Close()
	}
}

func exchange(conn net.Conn, deadline time.Time, request []byte) ([]byte, error) {
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if err := WriteMessage(conn, request); err != nil {
		return nil, err
	}
	return ReadMessage(conn)
}

// connection returns an idle connection or a fresh one.
func (c *Client) connection(limit time.Duration) (conn net.Conn, fresh bool, err error) {
	select {
	case conn := <-c.idle:
		return conn, false, nil
	default:
		conn, err := c.endpoint.dial(limit)
		return conn, true, err
	}
}

func (c *Client) keep(conn net.Conn) {
	select {
	case c.idle <- conn:
	default:
		_ = conn.Close()
	}
}

// Close drops the idle connections; later requests make new ones.
func (c *Client) Close() {
	for {
		select {
		case conn := <-c.idle:
			_ = conn.Close()
		default:
			return
		}
	}
}

// find asks the agent for the key of the configured fingerprint.
func (c *Client) find(limit time.Duration) (ssh.PublicKey, error) {
	answer, err := c.call([]byte{MsgRequestIdentities}, limit)
	if err != nil {
		return nil, err
	}
	list, err := ParseIdentities(answer)
	if err != nil {
		return nil, c.away(err)
	}
	for _, i := range list {
		// A blob that cannot be read is another's key of a kind unknown here.
		if k, err := ssh.ParsePublicKey(i.Key); err == nil && ssh.FingerprintSHA256(k) == c.endpoint.Fingerprint {
			return k, nil
		}
	}
	return nil, fault.New(fault.Unavailable, "SignerKeyMissing", "the process that holds the server's signing keys does not hold this one, so no certificate can be signed now").
		WithRemedy("Tell the operator of the server: %s is missing among %d keys.", c.endpoint.Fingerprint, len(list))
}
