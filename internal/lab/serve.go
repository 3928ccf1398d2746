package lab

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
	"sallyport/internal/labwire"
)

// Limits of the socket.
const (
	maxCallers  = 512
	requestTime = 5 * time.Second // for a caller to send its request
	answerTime  = 5 * time.Second // for it to take the answer
)

// openServer lets machines reach the server on this computer, and no other
// port of it.
func (l *Lab) openServer(ctx context.Context) error {
	if l.cfg.ServerAddr == "" {
		return nil
	}
	addr, err := netip.ParseAddrPort(l.cfg.ServerAddr)
	if err != nil || !addr.Addr().IsLoopback() || addr.Port() == 0 {
		return fault.Wrap(err, fault.Invalid, "InvalidServerAddress", "the server's address %q must be a loopback address with a port, such as 127.0.0.1:8443", l.cfg.ServerAddr)
	}
	listener, err := l.fabric.listen(ctx, bridgeAddress+":443")
	if err != nil {
		return err
	}
	l.server = forward(listener, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr.String())
	})
	return nil
}

// Listen opens the lab's socket for one owner. A socket file that a killed lab
// left is replaced; the state directory's lock has shown that no lab uses it.
func Listen(path string, owner int) (*net.UnixListener, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err == nil {
		if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
			return nil, fault.New(fault.Conflict, "SocketPathTaken", "%s exists and is no socket", path).WithRemedy("remove it, or give --socket another path")
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	if err := checkSocketDirectory(filepath.Dir(path), owner); err != nil {
		return nil, err
	}
	// Between bind and chmod nobody else may connect.
	old := unix.Umask(0o177)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, err
	}
	if err := os.Lchown(path, owner, -1); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// checkSocketDirectory refuses a directory in which a third person could put
// another socket in the place of ours.
func checkSocketDirectory(dir string, owner int) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fault.Wrap(err, fault.Invalid, "InvalidDirectory", "there is no directory %s for the lab's socket", dir)
	}
	sticky := st.Mode&unix.S_ISVTX != 0
	if (st.Uid != 0 && int(st.Uid) != owner) || (st.Mode&0o022 != 0 && !sticky) {
		return fault.New(fault.Forbidden, "UnsafeDirectory", "others than root and the owner can change %s", dir).WithRemedy("give --socket a path in a directory of root or of the owner")
	}
	return nil
}

// Serve answers on the socket until ctx ends. It closes the listener, and
// returns when the last caller has been answered.
func (l *Lab) Serve(ctx context.Context, listener *net.UnixListener, owner int) error {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	var callers sync.WaitGroup
	defer callers.Wait()
	slots := make(chan struct{}, maxCallers)
	for {
		conn, err := listener.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the lab's socket: %w", err)
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = conn.Close() // full; the caller sees its connection closed
			continue
		}
		callers.Go(func() {
			defer func() { <-slots }()
			defer func() { _ = conn.Close() }()
			l.answer(ctx, conn, owner)
		})
	}
}

// answer serves one connection: one request, one answer, and for proxy the
// bytes that follow.
func (l *Lab) answer(ctx context.Context, conn *net.UnixConn, owner int) {
	if err := l.admit(conn, owner); err != nil {
		l.refuse(conn, err)
		return
	}
	_ = conn.SetDeadline(time.Now().Add(requestTime))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	reader := bufio.NewReader(conn)
	req, err := labwire.Decode(reader)
	if err == nil && reader.Buffered() > 0 {
		err = fault.New(fault.Invalid, "InvalidRequest", "bytes follow the request")
	}
	if err != nil {
		l.refuse(conn, err)
		return
	}
	if req.Op == labwire.OpProxy {
		l.proxy(ctx, conn, req.MachineID)
		return
	}
	machines, err := l.perform(ctx, req)
	if err != nil {
		l.refuse(conn, err)
		return
	}
	_ = conn.SetDeadline(time.Now().Add(answerTime))
	_ = labwire.Encode(conn, labwire.Response{Machines: machines})
}

// admit lets the owner and root in. The socket's mode says the same; this
// check holds even where a mode was changed.
func (l *Lab) admit(conn *net.UnixConn, owner int) error {
	uid, err := labwire.PeerUID(conn)
	if err != nil {
		return err
	}
	if uid != 0 && int(uid) != owner {
		return fault.New(fault.Forbidden, "NotOwner", "uid %d is not the owner of this lab", uid)
	}
	return nil
}

func (l *Lab) refuse(conn *net.UnixConn, err error) {
	if kind := fault.KindOf(err); kind == fault.Internal || kind == fault.Unavailable {
		l.cfg.Log.Error("a request failed", "error", err)
	}
	_ = conn.SetDeadline(time.Now().Add(answerTime))
	_ = labwire.Encode(conn, labwire.Response{Error: labwire.ErrorOf(err)})
}

func (l *Lab) perform(ctx context.Context, req labwire.Request) ([]labwire.Machine, error) {
	var m labwire.Machine
	var err error
	switch req.Op {
	case labwire.OpCreate:
		m, err = l.Create(ctx, labwire.CreateRequest{MachineID: req.MachineID, Name: req.Name, JoinToken: req.JoinToken, Backend: req.Backend, System: cmp.Or(req.System, labwire.SystemDebian12), PasswordHash: req.PasswordHash})
	case labwire.OpStart:
		m, err = l.Start(ctx, req.MachineID)
	case labwire.OpStop:
		m, err = l.Stop(ctx, req.MachineID)
	case labwire.OpRestart:
		m, err = l.Restart(ctx, req.MachineID)
	case labwire.OpDelete:
		m, err = l.Delete(ctx, req.MachineID)
	case labwire.OpList:
		return l.List(), nil
	default: // labwire.OpStatus: Decode let no other in
		m = l.Status(req.MachineID)
	}
	return []labwire.Machine{m}, err
}

// proxy joins the caller with the machine's sshd.
func (l *Lab) proxy(ctx context.Context, conn *net.UnixConn, id string) {
	r, err := l.lookup(id)
	if err != nil {
		l.refuse(conn, err)
		return
	}
	l.mu.Lock()
	p := l.running[id]
	l.mu.Unlock()
	if p == nil {
		p = &process{}
	}
	far, err := l.dialSSH(ctx, r, p.ready)
	if err != nil {
		l.refuse(conn, fault.Wrap(err, fault.Unavailable, "MachineUnreachable", "the machine %s does not answer", r.Name).WithRemedy("start it first"))
		return
	}
	_ = conn.SetDeadline(time.Time{})
	if err := labwire.Encode(conn, labwire.Response{Machines: []labwire.Machine{l.describe(r)}}); err != nil {
		_ = far.Close()
		return
	}
	splice(ctx, conn, far)
}
