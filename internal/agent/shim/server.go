package shim

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"sallyport/internal/agent/peer"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
)

// Peer is the process at the other end of a connection, as the kernel says
// (SO_PEERCRED). It blocks until it is answered, so its entry under /proc can be
// read by the handler.
type Peer struct {
	PID int
	UID uint32
}

// PAMHandler answers one PAM call. ctx ends when the client gives up.
type PAMHandler func(ctx context.Context, peer Peer, request PAMRequest) PAMAnswer

// PrincipalsHandler returns the object id that a certificate must name to open
// the account, and false for nobody.
type PrincipalsHandler func(ctx context.Context, peer Peer, request PrincipalsRequest) (objectID string, ok bool)

// Config says who may ask and how much at a time. The zero value of Timeout and
// Concurrency means 3 s, which is the C side's own limit, and 64 connections.
type Config struct {
	// AllowedUID is the only uid that is answered. PAM: 0, as sshd's monitor,
	// sudo and su call it. Principals: sshd's AuthorizedPrincipalsCommandUser.
	AllowedUID  uint32
	Timeout     time.Duration
	Concurrency int
	// Refused, if set, hears of connections that were closed without an answer.
	// It is called concurrently.
	Refused func(peer Peer, err error)
}

// ServePAM answers the PAM module until ctx ends or the listener is closed; then
// it waits for the answers under way. It closes the listener. A connection that
// brings anything but one well-formed request is closed without an answer,
// which the module takes for a denial.
func ServePAM(ctx context.Context, listener *net.UnixListener, config Config, handler PAMHandler) error {
	return serve(ctx, listener, config, func(ctx context.Context, peer Peer, conn net.Conn) error {
		f, err := readFrame(conn, limitPAM)
		if err != nil {
			return err
		}
		request, err := parsePAMRequest(f)
		if err != nil {
			return err
		}
		return reply(conn, handler(ctx, peer, request).frame(), limitPAM)
	})
}

// ServePrincipals does the same for sshd's principals command. An object id that
// is no GUID is not sent.
func ServePrincipals(ctx context.Context, listener *net.UnixListener, config Config, handler PrincipalsHandler) error {
	return serve(ctx, listener, config, func(ctx context.Context, peer Peer, conn net.Conn) error {
		f, err := readFrame(conn, limitPrincipals)
		if err != nil {
			return err
		}
		request, err := parsePrincipalsRequest(f)
		if err != nil {
			return err
		}
		id, ok := handler(ctx, peer, request)
		if !ok {
			return reply(conn, frame{kind: typePrincipalsNone}, limitPrincipals)
		}
		if !guid.Valid(id) {
			return fault.New(fault.Internal, "PrincipalNotAnObjectId", "the principal to answer with is not an object id")
		}
		return reply(conn, frame{kind: typePrincipalsOne, fields: []string{id}}, limitPrincipals)
	})
}

func reply(conn net.Conn, f frame, limit int) error {
	b, err := f.encode(limit)
	if err != nil {
		return err
	}
	if _, err := conn.Write(b); err != nil {
		return fault.Wrap(err, fault.Unavailable, "ShimClientGone", "the client left before the answer")
	}
	return nil
}

// exchange reads one request from conn and answers it.
type exchange func(ctx context.Context, peer Peer, conn net.Conn) error

// acceptPause is how long a failing accept (no descriptors left) rests.
const acceptPause = 50 * time.Millisecond

func serve(ctx context.Context, listener *net.UnixListener, config Config, talk exchange) error {
	if config.Timeout <= 0 {
		config.Timeout = 3 * time.Second
	}
	if config.Concurrency <= 0 {
		config.Concurrency = 64
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	defer func() { _ = listener.Close() }()
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, config.Concurrency)
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			config.refused(Peer{}, fault.Wrap(err, fault.Unavailable, "ShimAcceptFailed", "cannot accept a connection"))
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			config.converse(ctx, conn, talk)
		})
	}
}

// converse gives one connection its time and closes it.
func (c Config) converse(ctx context.Context, conn *net.UnixConn, talk exchange) {
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	peer, err := peerOf(conn)
	if err == nil && peer.UID != c.AllowedUID {
		err = fault.New(fault.Forbidden, "ShimPeerNotAllowed", "uid %d may not ask here", peer.UID)
	}
	if err == nil {
		if deadline, ok := ctx.Deadline(); ok {
			err = conn.SetDeadline(deadline)
		}
	}
	if err == nil {
		err = talk(ctx, peer, conn)
	}
	if err != nil {
		c.refused(peer, err)
	}
}

func (c Config) refused(peer Peer, err error) {
	if c.Refused != nil {
		c.Refused(peer, err)
	}
}

func peerOf(conn *net.UnixConn) (Peer, error) {
	p, err := peer.Of(conn)
	if err != nil {
		return Peer{}, fault.Wrap(err, fault.Internal, "ShimPeerUnknown", "cannot ask who is calling")
	}
	return Peer(p), nil
}
