package signer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"sallyport/internal/fault"
)

// maxPIN bounds what is read of a PIN's file.
const maxPIN = 256

// ReadPIN reads a PIN from a file that this uid alone can read. A file of root's
// may be readable by its group: so a service manager hands out credentials
// (systemd.exec(5), LoadCredential=).
func ReadPIN(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fault.Wrap(err, fault.Invalid, "PINFile", "cannot read the PIN's file %s: %v", path, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", fault.Wrap(err, fault.Invalid, "PINFile", "cannot read the PIN's file %s: %v", path, err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	open := os.FileMode(0o077)
	if ok && st.Uid == 0 && os.Geteuid() != 0 {
		open = 0o027
	}
	if !ok || !info.Mode().IsRegular() || info.Mode().Perm()&open != 0 || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return "", fault.New(fault.Forbidden, "PINFile", "the PIN's file %s can be read or changed by others", path).WithRemedy("Run: chown %d %s && chmod 600 %s", os.Geteuid(), path, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPIN+1))
	if err != nil {
		return "", fault.Wrap(err, fault.Invalid, "PINFile", "cannot read the PIN's file %s: %v", path, err)
	}
	pin := string(bytes.TrimRight(b, "\r\n"))
	if pin == "" || len(b) > maxPIN {
		return "", fault.New(fault.Invalid, "PINFile", "the PIN's file %s is empty or too long", path)
	}
	return pin, nil
}

// Listen makes the socket: for this uid and the group, 0660. A socket that
// nobody listens on any more is replaced, one that is in use is not.
func Listen(path string, group int) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, fault.New(fault.Conflict, "SocketTaken", "%s exists and is no socket", path)
		}
		conn, err := net.Dial("unix", path)
		if err == nil {
			return nil, errors.Join(fault.New(fault.Conflict, "SocketTaken", "another process listens at %s", path), conn.Close())
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fault.Wrap(err, fault.Unavailable, "SocketTaken", "cannot look at the socket %s: %v", path, err)
		}
		if err := os.Remove(path); err != nil {
			return nil, fault.Wrap(err, fault.Unavailable, "SocketTaken", "cannot replace the socket %s: %v", path, err)
		}
	}
	before := syscall.Umask(0o117)
	l, err := net.Listen("unix", path)
	syscall.Umask(before)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "CannotListen", "cannot make the socket %s: %v", path, err)
	}
	if group >= 0 {
		if err := os.Lchown(path, -1, group); err != nil {
			return nil, errors.Join(fault.Wrap(err, fault.Forbidden, "CannotListen", "cannot give the socket %s to group %d: %v", path, group, err), l.Close())
		}
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm()&0o117 != 0 {
		return nil, errors.Join(fmt.Errorf("signer: the socket %s is open to others", path), err, l.Close())
	}
	return l, nil
}
