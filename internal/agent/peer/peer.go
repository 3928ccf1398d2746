package peer

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// Process is the one that connected, or that listened when it was connected to,
// with its effective uid of that moment.
type Process struct {
	PID int
	UID uint32
}

// Of asks the kernel (unix(7), SO_PEERCRED).
func Of(conn *net.UnixConn) (Process, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Process{}, err
	}
	var p Process
	var failed error
	err = raw.Control(func(fd uintptr) { p, failed = OfDescriptor(int(fd)) })
	if err := errors.Join(err, failed); err != nil {
		return Process{}, err
	}
	return p, nil
}

// OfDescriptor is Of for a socket that is no net.Conn.
func OfDescriptor(fd int) (Process, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Process{}, err
	}
	return Process{PID: int(cred.Pid), UID: cred.Uid}, nil
}
