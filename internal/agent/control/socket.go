package control

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// SocketPath is where the root part listens.
const SocketPath = "/run/sallyport/control.sock"

// Handler answers requests; it is called concurrently. root says that the caller
// is uid 0, which alone may decide about homes.
type Handler interface {
	Control(ctx context.Context, root bool, r Request) (Answer, error)
}

// ServerConfig says who may ask.
type ServerConfig struct {
	Network uint32 // uid of the network part; uid 0 may always ask
	Handler Handler
	Refused func(err error) // hears of connections closed without an answer; may be nil
}

const (
	parallel = 16
	patience = 30 * time.Second
)

// Serve answers until ctx ends or the listener closes. It closes the listener.
func Serve(ctx context.Context, listener *net.UnixListener, cfg ServerConfig) error {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	defer func() { _ = listener.Close() }()
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, parallel)
	for {
		conn, err := listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fault.Wrap(err, fault.Unavailable, "ControlAcceptFailed", "cannot accept connections on the control socket")
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots; _ = conn.Close() }()
			if err := cfg.converse(ctx, conn); err != nil && cfg.Refused != nil {
				cfg.Refused(err)
			}
		})
	}
}

func (c ServerConfig) converse(ctx context.Context, conn *net.UnixConn) error {
	uid, err := peer(conn)
	if err != nil {
		return err
	}
	if err := c.admit(uid); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	b, err := read(conn, maxRequest)
	if err != nil {
		return err
	}
	r, err := ParseRequest(b)
	if err == nil {
		err = permit(uid, r.Op)
	}
	var a Answer
	if err == nil {
		a, err = c.Handler.Control(ctx, uid == 0, r)
	}
	if err != nil {
		a = failed(err)
	}
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	return write(conn, a, maxAnswer)
}

// admit says who is answered at all.
func (c ServerConfig) admit(uid uint32) error {
	if uid == 0 || uid == c.Network {
		return nil
	}
	return fault.New(fault.Forbidden, "ControlPeerNotAllowed", "uid %d may not ask here", uid)
}

// permit says what one who is answered may ask.
func permit(uid uint32, op Op) error {
	if uid != 0 && rootsAlone(op) {
		return fault.New(fault.Forbidden, "RootOnly", "only root decides about homes and the identity and has the login tested")
	}
	return nil
}

func peer(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, failed); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

// Client asks the root part. The server's end must be Owner's process: uid 0 on
// a machine.
type Client struct {
	Path  string
	Owner uint32
}

// Ask sends one request and returns its answer; a Failure comes as an error.
func (c Client) Ask(ctx context.Context, r Request) (Answer, error) {
	var dialer net.Dialer
	plain, err := dialer.DialContext(ctx, "unix", c.Path)
	if err != nil {
		return Answer{}, fault.Wrap(err, fault.Unavailable, "AgentAway", "the root part of the agent is not running").WithRemedy("Run: sally agent doctor")
	}
	defer plain.Close()
	conn, ok := plain.(*net.UnixConn)
	if !ok {
		return Answer{}, errors.New("not a unix socket")
	}
	if uid, err := peer(conn); err != nil || uid != c.Owner {
		return Answer{}, fault.Wrap(err, fault.Forbidden, "AgentImpostor", "the control socket is served by uid %d, not by root", uid)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := write(conn, r, maxRequest); err != nil {
		return Answer{}, err
	}
	b, err := read(conn, maxAnswer)
	if err != nil {
		return Answer{}, err
	}
	var a Answer
	if err := protocol.Decode(b, &a); err != nil {
		return Answer{}, err
	}
	if a.Error != nil {
		return Answer{}, a.Error.err()
	}
	return a, nil
}
