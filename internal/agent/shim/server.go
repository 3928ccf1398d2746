package shim

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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

// ServePAM answers the PAM module until ctx ends; then it waits for the answers
// under way. It closes the listener. A connection that
// brings anything but one well-formed request is closed without an answer,
// which the module takes for a denial.
func ServePAM(ctx context.Context, listener *net.UnixListener, config Config, handler PAMHandler) error {
	return serve(ctx, listener, config, func(ctx context.Context, peer Peer, conn io.ReadWriter) error {
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
	return serve(ctx, listener, config, func(ctx context.Context, peer Peer, conn io.ReadWriter) error {
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

func reply(conn io.Writer, f frame, limit int) error {
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
type exchange func(ctx context.Context, peer Peer, conn io.ReadWriter) error

const (
	// acceptPause is how long a failing accept (no descriptors left) rests.
	acceptPause = 50 * time.Millisecond
	// spare is how many threads wait for the next connection.
	spare = 2
)

// desk is a listening socket and the threads that wait in accept(2) for it: the
// one that the kernel wakes answers.
type desk struct {
	config Config
	fd     int
	talk   exchange

	mu      sync.Mutex
	waiting int // in accept
	all     int
	running sync.WaitGroup
}

func serve(ctx context.Context, listener *net.UnixListener, config Config, talk exchange) error {
	if config.Timeout <= 0 {
		config.Timeout = 3 * time.Second
	}
	if config.Concurrency <= 0 {
		config.Concurrency = 64
	}
	file, err := listener.File() // a copy
	if err = errors.Join(err, listener.Close()); err != nil {
		return fault.Wrap(err, fault.Unavailable, "ShimAcceptFailed", "cannot listen")
	}
	defer func() { _ = file.Close() }()
	d := &desk{config: config, fd: int(file.Fd()), talk: talk}
	if err := unix.SetNonblock(d.fd, false); err != nil {
		return fault.Wrap(err, fault.Internal, "ShimAcceptFailed", "cannot listen")
	}
	stop := context.AfterFunc(ctx, func() { _ = unix.Shutdown(d.fd, unix.SHUT_RDWR) })
	defer stop()
	d.mu.Lock()
	for range min(spare, config.Concurrency) {
		d.add(ctx)
	}
	d.mu.Unlock()
	d.running.Wait()
	return nil
}

// add makes another thread wait; the caller holds mu.
func (d *desk) add(ctx context.Context) {
	d.waiting++
	d.all++
	d.running.Go(func() { d.attend(ctx) })
}

// attend answers connections until there are enough others who wait for them, or
// the socket is shut down.
func (d *desk) attend(ctx context.Context) {
	for {
		fd, _, err := unix.Accept4(d.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, unix.EINVAL) {
				return
			}
			if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNABORTED) {
				d.config.refused(Peer{}, fault.Wrap(err, fault.Unavailable, "ShimAcceptFailed", "cannot accept a connection"))
				select {
				case <-ctx.Done():
				case <-time.After(acceptPause):
				}
			}
			continue
		}
		d.mu.Lock()
		if d.waiting--; d.waiting == 0 && d.all < d.config.Concurrency && ctx.Err() == nil {
			d.add(ctx)
		}
		d.mu.Unlock()
		d.config.converse(ctx, fd, d.talk)
		d.mu.Lock()
		enough := d.waiting >= spare
		if enough {
			d.all--
		} else {
			d.waiting++
		}
		d.mu.Unlock()
		if enough {
			return
		}
	}
}

// converse gives one connection its time and closes it.
func (c Config) converse(ctx context.Context, fd int, talk exchange) {
	defer func() { _ = unix.Close(fd) }()
	patient := &patience{Context: ctx, until: time.Now().Add(c.Timeout)}
	defer patient.end()
	peer, err := peerOf(fd)
	if err == nil && peer.UID != c.AllowedUID {
		err = fault.New(fault.Forbidden, "ShimPeerNotAllowed", "uid %d may not ask here", peer.UID)
	}
	if err == nil {
		err = talk(patient, peer, &line{fd: fd, until: patient.until})
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

func peerOf(fd int) (Peer, error) {
	p, err := peer.OfDescriptor(fd)
	if err != nil {
		return Peer{}, fault.Wrap(err, fault.Internal, "ShimPeerUnknown", "cannot ask who is calling")
	}
	return Peer(p), nil
}
