package caller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/peer"
)

// SocketPath is where the root part hands connections over.
const SocketPath = "/run/sallyport/identity.sock"

// Verdict is what the root part decided about a caller.
type Verdict struct {
	UID           uint32 `json:"uid"`
	Name          string `json:"name"` // printable ASCII
	Allowed       bool   `json:"allowed"`
	Code          string `json:"code,omitempty"` // of a refusal
	Text          string `json:"text,omitempty"` // the sentence that the caller reads
	CorrelationID string `json:"correlationId,omitempty"`
	// Revision changes with every change of the machine's resource: nothing that
	// was kept under another one is given out.
	Revision int64 `json:"revision"`
}

// The codes of refusals.
const (
	CodeNoIdentity = "no-identity" // the machine has no managed identity
	CodeNotMember  = "not-member"  // the caller may not ask
)

const (
	maxMessage = 4096
	giveTime   = time.Second
)

// Hand gives connections to the one network part that is attached.
type Hand struct {
	mu sync.Mutex
	to *net.UnixConn
}

// Serve lets the network part attach; a new one takes the place of the old one.
// The listener is of type unixpacket, so that a message is whole. It ends with
// ctx or the listener, which it closes.
func (h *Hand) Serve(ctx context.Context, l *net.UnixListener, admit func(uid uint32) bool) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer h.attach(nil)
	defer func() { _ = l.Close() }()
	for {
		conn, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("identity socket: %w", err)
		}
		if p, err := peer.Of(conn); err != nil || !admit(p.UID) {
			_ = conn.Close()
			continue
		}
		h.attach(conn)
	}
}

func (h *Hand) attach(conn *net.UnixConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.to != nil {
		_ = h.to.Close()
	}
	h.to = conn
}

// away is the answer while there is no network part: clients of the metadata
// service ask again after a 503.
const away = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=utf-8\r\nRetry-After: 1\r\nConnection: close\r\n\r\n" +
	`{"error":"temporarily_unavailable","error_description":"Sallyport: the machine agent's network part is not running. If this goes on, ask an administrator of the machine to run: sally agent status"}`

// Give hands a connection over with the verdict about its caller, and closes the
// copy here. Without a network part the caller is told so.
func (h *Hand) Give(c *net.TCPConn, v Verdict) error {
	defer func() { _ = c.Close() }()
	err := h.give(c, v)
	if err != nil {
		_ = c.SetDeadline(time.Now().Add(giveTime))
		if _, e := c.Write([]byte(away)); e == nil && c.CloseWrite() == nil {
			// Closing with the request unread would take the answer back.
			_, _ = io.CopyN(io.Discard, c, maxMessage)
		}
	}
	return err
}

func (h *Hand) give(c *net.TCPConn, v Verdict) error {
	b, err := json.Marshal(v)
	if err != nil || len(b) > maxMessage {
		return fmt.Errorf("verdict of %d bytes: %w", len(b), err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.to == nil {
		return errors.New("the network part is not running")
	}
	if err := h.to.SetWriteDeadline(time.Now().Add(giveTime)); err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { _, _, failed = h.to.WriteMsgUnix(b, unix.UnixRights(int(fd)), nil) })
	if err := errors.Join(err, failed); err != nil {
		_ = h.to.Close()
		h.to = nil
		return fmt.Errorf("hand over: %w", err)
	}
	return nil
}

// Taken is a connection that was handed over.
type Taken struct {
	net.Conn
	Verdict Verdict
}

// Take attaches to the root part, which must be owner's process, and hands each
// connection to f until ctx or the root part ends.
func Take(ctx context.Context, path string, owner uint32, f func(Taken)) error {
	var d net.Dialer
	plain, err := d.DialContext(ctx, "unixpacket", path)
	if err != nil {
		return err
	}
	conn, ok := plain.(*net.UnixConn)
	if !ok {
		return errors.New("not a unix socket")
	}
	defer conn.Close()
	if p, err := peer.Of(conn); err != nil || p.UID != owner {
		return fmt.Errorf("the identity socket is served by uid %d: %w", p.UID, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		t, err := take(conn)
		if err != nil {
			return err
		}
		f(t)
	}
}

func take(conn *net.UnixConn) (Taken, error) {
	b, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	n, oobn, flags, _, err := conn.ReadMsgUnix(b, oob)
	if err != nil {
		return Taken{}, err
	}
	file, err := received(oob[:oobn], flags)
	if err != nil {
		return Taken{}, err
	}
	defer file.Close() // net makes a copy
	var t Taken
	if err := json.Unmarshal(b[:n], &t.Verdict); err != nil {
		return Taken{}, fmt.Errorf("verdict: %w", err)
	}
	if t.Conn, err = net.FileConn(file); err != nil {
		return Taken{}, fmt.Errorf("handed connection: %w", err)
	}
	return t, nil
}

// received takes the one descriptor out of a message's ancillary data.
func received(oob []byte, flags int) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return nil, fmt.Errorf("the root part closed, or sent no connection: %w", errors.Join(err, net.ErrClosed))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(errors.New("not one connection"), err)
	}
	return os.NewFile(uintptr(fds[0]), "caller"), nil
}
