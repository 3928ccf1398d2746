package control

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"sallyport/internal/agent/peer"
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

// How many are answered at a time: the network part and root each have places of
// their own, so that a network part which fills all of its own never stands
// between an administrator and the status. One beyond them is closed at once.
const (
	parallelNetwork = 16
	parallelRoot    = 8
	patience        = 30 * time.Second

	// large is how long a request must be to wait for the one before it: the memory
	// that requests take is that of one large one and of many small ones.
	large = 1 << 20
)

// Serve answers until ctx ends or the listener closes. It closes the listener.
func Serve(ctx context.Context, listener *net.UnixListener, cfg ServerConfig) error {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	defer func() { _ = listener.Close() }()
	var running sync.WaitGroup
	defer running.Wait()
	var heavy sync.Mutex
	network, root := make(chan struct{}, parallelNetwork), make(chan struct{}, parallelRoot)
	for {
		conn, err := listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fault.Wrap(err, fault.Unavailable, "ControlAcceptFailed", "cannot accept connections on the control socket")
		}
		p, err := peer.Of(conn)
		uid := p.UID
		if err == nil {
			err = cfg.admit(uid)
		}
		slots := network
		if uid == 0 {
			slots = root
		}
		if err == nil {
			select {
			case slots <- struct{}{}:
			default:
				err = fault.New(fault.Exhausted, "ControlBusy", "uid %d asks too much at a time", uid)
			}
		}
		if err != nil {
			_ = conn.Close()
			cfg.refused(err)
			continue
		}
		running.Go(func() {
			defer func() { <-slots; _ = conn.Close() }()
			if err := cfg.converse(ctx, conn, uid, &heavy); err != nil {
				cfg.refused(err)
			}
		})
	}
}

func (c ServerConfig) refused(err error) {
	if c.Refused != nil {
		c.Refused(err)
	}
}

func (c ServerConfig) converse(ctx context.Context, conn *net.UnixConn, uid uint32, heavy *sync.Mutex) error {
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	n, err := readLength(conn, maxRequest)
	if err != nil {
		return err
	}
	if n > large {
		heavy.Lock()
		defer heavy.Unlock()
	}
	b, err := readBody(conn, n)
	if err != nil {
		return err
	}
	r, err := ParseRequest(b)
	if err == nil {
		err = permit(uid, r.Op)
	}
	var a Answer
	if err == nil {
		asked, gone := context.WithCancel(ctx)
		defer gone()
		go watch(conn, gone)
		a, err = c.Handler.Control(asked, uid == 0, r)
	}
	if err != nil {
		a = failed(err)
	}
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	return write(conn, a, maxAnswer)
}

// watch calls gone when the other end goes: nothing is handed out that nobody takes.
// It ends with the connection.
func watch(conn *net.UnixConn, gone func()) {
	err := conn.SetReadDeadline(time.Time{})
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	if err != nil {
		gone()
	}
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
	if p, err := peer.Of(conn); err != nil || p.UID != c.Owner {
		return Answer{}, fault.Wrap(err, fault.Forbidden, "AgentImpostor", "the control socket is served by uid %d, not by root", p.UID)
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
