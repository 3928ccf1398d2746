package labwire

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
)

// Config says where the lab is.
type Config struct {
	// Socket is the path of the lab's socket.
	Socket string
}

// Client speaks to one lab. It holds no connection and is safe for concurrent
// use. Every operation is idempotent: after a lost answer, ask again.
type Client struct {
	socket string
}

// New returns a client; nothing is dialled before the first call.
func New(cfg Config) *Client {
	return &Client{socket: cfg.Socket}
}

// CreateRequest describes a machine to be made.
type CreateRequest struct {
	MachineID string
	Name      string
	JoinToken string
	Backend   Backend
	System    System
	// PasswordHash is of the administrator's password, "" for none.
	PasswordHash string
}

// Create makes a stopped machine. For a machine that exists under the same
// name it only replaces the join token, and that only before the first start;
// under another name it is a Conflict.
func (c *Client) Create(ctx context.Context, r CreateRequest) (Machine, error) {
	system := r.System
	if system == SystemDebian12 {
		system = "" // so that a lab of the last version understands this server
	}
	return c.one(ctx, Request{Op: OpCreate, MachineID: r.MachineID, Name: r.Name, JoinToken: r.JoinToken, Backend: r.Backend, System: system, PasswordHash: r.PasswordHash})
}

// Start boots a machine and returns when its init runs; sshd follows within
// a fraction of a second. NotFound when there is no such machine.
func (c *Client) Start(ctx context.Context, machineID string) (Machine, error) {
	return c.one(ctx, Request{Op: OpStart, MachineID: machineID})
}

// Stop ends every process of a machine and keeps its files.
func (c *Client) Stop(ctx context.Context, machineID string) (Machine, error) {
	return c.one(ctx, Request{Op: OpStop, MachineID: machineID})
}

// Restart stops and starts a machine.
func (c *Client) Restart(ctx context.Context, machineID string) (Machine, error) {
	return c.one(ctx, Request{Op: OpRestart, MachineID: machineID})
}

// Delete ends a machine and removes its files and its address. Deleting an
// absent machine succeeds.
func (c *Client) Delete(ctx context.Context, machineID string) error {
	_, err := c.one(ctx, Request{Op: OpDelete, MachineID: machineID})
	return err
}

// Status tells what a machine is doing; StateAbsent when there is none.
func (c *Client) Status(ctx context.Context, machineID string) (Machine, error) {
	return c.one(ctx, Request{Op: OpStatus, MachineID: machineID})
}

// List returns all machines, ordered by id.
func (c *Client) List(ctx context.Context) ([]Machine, error) {
	resp, err := c.do(ctx, Request{Op: OpList})
	return resp.Machines, err
}

// Proxy opens one connection to the machine's sshd. The caller closes it.
func (c *Client) Proxy(ctx context.Context, machineID string) (*Stream, error) {
	conn, reader, _, err := c.exchange(ctx, Request{Op: OpProxy, MachineID: machineID})
	if err != nil {
		return nil, err
	}
	return &Stream{Conn: conn, reader: reader, closeWrite: conn.CloseWrite}, nil
}

// Stream is a proxied connection. It reads through the buffer that read the
// lab's answer, because the machine's first bytes may lie in it already. It has
// no SyscallConn: io.Copy into a file would read past the buffer.
type Stream struct {
	net.Conn
	reader     *bufio.Reader
	closeWrite func() error
}

// Read reads what the machine sent.
func (s *Stream) Read(p []byte) (int, error) { return s.reader.Read(p) }

// CloseWrite ends what is sent to the machine.
func (s *Stream) CloseWrite() error { return s.closeWrite() }

func (c *Client) one(ctx context.Context, req Request) (Machine, error) {
	resp, err := c.do(ctx, req)
	if err != nil {
		return Machine{}, err
	}
	if len(resp.Machines) != 1 || resp.Machines[0].MachineID != req.MachineID {
		return Machine{}, fault.New(fault.Internal, "LabProtocol", "the lab answered about another machine")
	}
	return resp.Machines[0], nil
}

func (c *Client) do(ctx context.Context, req Request) (Response, error) {
	conn, _, resp, err := c.exchange(ctx, req)
	if err != nil {
		return Response{}, err
	}
	return resp, conn.Close()
}

// exchange sends one request and reads the answer. On success the connection
// is the caller's.
func (c *Client) exchange(ctx context.Context, req Request) (*net.UnixConn, *bufio.Reader, Response, error) {
	if err := req.Validate(); err != nil {
		return nil, nil, Response{}, err
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, Response{}, err
	}
	reader := bufio.NewReader(conn)
	resp, err := roundTrip(ctx, conn, reader, req)
	if err != nil {
		return nil, nil, Response{}, errors.Join(err, conn.Close())
	}
	return conn, reader, resp, nil
}

func roundTrip(ctx context.Context, conn *net.UnixConn, reader *bufio.Reader, req Request) (Response, error) {
	// The context ends the exchange by closing the connection under it.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	sent := Encode(conn, req)
	resp, err := decodeResponse(reader) // a lab that refuses whoever asks answers before it has read
	switch {
	case ctx.Err() != nil:
		return Response{}, fault.Wrap(ctx.Err(), fault.Unavailable, "LabUnavailable", "the lab did not answer in time")
	case err == nil && resp.Error != nil:
		return Response{}, resp.Error.Err()
	case sent != nil:
		return Response{}, fault.Wrap(sent, fault.Unavailable, "LabUnavailable", "the lab did not take the request")
	}
	return resp, err
}

// dial connects and checks who listens: join tokens are given to root, or to
// whoever runs as we do, and to nobody else.
func (c *Client) dial(ctx context.Context) (*net.UnixConn, error) {
	var d net.Dialer
	conn, err := d.DialUnix(ctx, "unix", nil, &net.UnixAddr{Name: c.socket, Net: "unix"})
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "LabUnavailable", "the lab does not answer on its socket").WithRemedy("start it with: sally lab serve")
	}
	uid, err := PeerUID(conn)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if uid != 0 && int(uid) != os.Getuid() {
		return nil, errors.Join(fault.New(fault.Forbidden, "LabNotTrusted", "uid %d listens on the lab's socket, which must be root", uid), conn.Close())
	}
	return conn, nil
}

// PeerUID returns the uid of the process at the other end (unix(7), SO_PEERCRED).
func PeerUID(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fault.Wrap(err, fault.Internal, "LabProtocol", "the peer of the lab's socket is unknown")
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return 0, fault.Wrap(errors.Join(err, credErr), fault.Internal, "LabProtocol", "the peer of the lab's socket is unknown")
	}
	return cred.Uid, nil
}
