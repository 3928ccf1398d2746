package server

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"

	"sallyport/internal/fault"
)

// firstSocket is the first descriptor that a service manager hands over.
const firstSocket = 3

// maxSockets bounds what is believed of the environment.
const maxSockets = 16

// inherited returns the listening sockets that a service manager has handed
// over by the protocol of sd_listen_fds(3), none where there are none. While
// the server restarts the manager keeps them, and the kernel keeps what
// connects meanwhile.
func inherited(getenv func(string) string, pid, first int) ([]net.Listener, error) {
	if getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 1 || n > maxSockets {
		return nil, fault.New(fault.Invalid, "InheritedSocket", "LISTEN_FDS is %q, which is no number of sockets", getenv("LISTEN_FDS")).WithRemedy("See sallyport-server.socket.")
	}
	var out []net.Listener
	for fd := first; fd < first+n; fd++ {
		syscall.CloseOnExec(fd)
		file := os.NewFile(uintptr(fd), "socket "+strconv.Itoa(fd))
		l, err := net.FileListener(file) // a copy: the manager's stays as it is
		if err = errors.Join(err, file.Close()); err == nil {
			if _, tcp := l.(*net.TCPListener); tcp {
				out = append(out, l)
				continue
			}
			_ = l.Close()
		}
		for _, l := range out {
			_ = l.Close()
		}
		return nil, fault.Wrap(err, fault.Invalid, "InheritedSocket", "descriptor %d, which the service manager handed over, is no listening TCP socket", fd).
			WithRemedy("Name only ListenStream= with ports in sallyport-server.socket.")
	}
	return out, nil
}

// listen returns the sockets of the service manager, or opens one.
func (d *deployment) listen(ctx context.Context) ([]net.Listener, error) {
	if len(d.cfg.Sockets) > 0 {
		return d.cfg.Sockets, nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", d.cfg.Listen)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "CannotListen", "cannot listen on %s: %s", d.cfg.Listen, system(err)).WithRemedy("Choose another address with --listen.")
	}
	return []net.Listener{l}, nil
}
