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
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, failed); err != nil {
		return Process{}, err
	}
	return Process{PID: int(cred.Pid), UID: cred.Uid}, nil
}
