package shim

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
)

// Listen makes a unix stream socket at path with the given owner and mode, in a
// folder that belongs to this process's user and that nobody else can write to.
// It is made beside the path with mode 0600, given away, and renamed: at no time
// can anybody else connect, and a client sees the old socket or the new one. A
// path that holds anything but a socket is an error. Closing the listener leaves
// the file, so that a successor's socket is never removed.
func Listen(path string, mode os.FileMode, uid int) (*net.UnixListener, error) {
	return listenAs("unix", path, mode, uid)
}

// ListenPackets is Listen with a socket that keeps messages whole
// (SOCK_SEQPACKET, unix(7)).
func ListenPackets(path string, mode os.FileMode, uid int) (*net.UnixListener, error) {
	return listenAs("unixpacket", path, mode, uid)
}

func listenAs(network, path string, mode os.FileMode, uid int) (*net.UnixListener, error) {
	if err := checkSocketPath(path); err != nil {
		return nil, err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, socketFault(err, path)
	}
	// The mode of the descriptor before bind is the mode of the file that bind makes (unix(7), Linux).
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, failed)
	}}
	plain, err := config.Listen(context.Background(), network, fresh)
	if err != nil {
		return nil, socketFault(err, path)
	}
	listener, ok := plain.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(socketFault(nil, path), plain.Close())
	}
	listener.SetUnlinkOnClose(false)
	err = errors.Join(os.Lchown(fresh, uid, -1), os.Chmod(fresh, mode.Perm()))
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		return nil, errors.Join(socketFault(err, path), listener.Close(), os.Remove(fresh))
	}
	return listener, nil
}

func socketFault(cause error, path string) error {
	return fault.Wrap(cause, fault.Unavailable, "AgentSocketFailed", "cannot make the socket %s", path)
}

func checkSocketPath(path string) error {
	dir := filepath.Dir(path)
	info, err := os.Lstat(dir)
	if err != nil {
		return socketFault(err, path)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || stat.Uid != uint32(os.Geteuid()) || info.Mode().Perm()&0o022 != 0 {
		return fault.New(fault.Precondition, "AgentSocketFolderUnsafe",
			"%s must be a folder of the agent's own user that nobody else can write to", dir).
			WithRemedy("Correct its owner and mode, then start the agent again.")
	}
	info, err = os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return socketFault(err, path)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fault.New(fault.Conflict, "AgentSocketPathTaken", "%s exists and is not a socket", path).
			WithRemedy("Move it away, then start the agent again.")
	}
	return nil
}
