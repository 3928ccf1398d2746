package sshagent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// owned reports whether a uid may stand behind the endpoint.
func (e Endpoint) owned(uid uint32) bool {
	return uid == 0 || int(uid) == os.Geteuid() || e.Owner >= 0 && int(uid) == e.Owner
}

// safe checks that nobody else could have put the socket there: it and every
// folder above it belong to this process, root or the configured owner, and no
// folder can be written by others. A folder further up may be sticky, like /tmp.
func (e Endpoint) safe() error {
	folder, err := filepath.EvalSymlinks(filepath.Dir(e.Path))
	if err != nil {
		return err
	}
	info, err := os.Lstat(filepath.Join(folder, filepath.Base(e.Path)))
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s is not a socket", e.Path)
	}
	if uid := owner(info); !e.owned(uid) {
		return fmt.Errorf("%s belongs to uid %d, who is neither root nor this server's uid %d; if that is right, add ?owner=%d", e.Path, uid, os.Geteuid(), uid)
	}
	for dir, above := folder, false; ; dir, above = filepath.Dir(dir), true {
		if info, err = os.Lstat(dir); err != nil {
			return err
		}
		shared := info.Mode().Perm()&0o022 != 0 && (!above || info.Mode()&os.ModeSticky == 0)
		if shared || !e.owned(owner(info)) {
			return fmt.Errorf("others can write the folder %s (owner %d, mode %04o), and so exchange the socket in it", dir, owner(info), info.Mode().Perm())
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// owner is a file's uid; nobody's where the system does not say.
func owner(info os.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return ^uint32(0)
}

// dial connects and asks the kernel who listens.
func (e Endpoint) dial(limit time.Duration) (net.Conn, error) {
	if err := e.safe(); err != nil {
		return nil, err
	}
	conn, err := net.DialTimeout("unix", e.Path, limit)
	if err != nil {
		return nil, err
	}
	uid, err := PeerUID(conn)
	if err == nil && !e.owned(uid) {
		err = fmt.Errorf("uid %d listens at %s", uid, e.Path)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// PeerUID returns the uid at the other end of a unix socket, from the kernel
// (SO_PEERCRED, unix(7)).
func PeerUID(conn net.Conn) (uint32, error) {
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return 0, errors.New("this is no unix socket")
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, failed
	}
	return cred.Uid, nil
}
