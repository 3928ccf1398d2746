package labwire

import (
	"bufio"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
	"sallyport/internal/nobodytest"
)

func TestClient_RefusesAnswersThatAreNone(t *testing.T) {
	for answer, words := range map[string]string{
		"nonsense\n": "the lab's answer cannot be read",
		`{"machines":[{"machineId":"` + id + `","state":"flying"}]}` + "\n":  "an impossible machine",
		`{"machines":[{"machineId":"../../root","state":"running"}]}` + "\n": "an impossible machine",
	} {
		c := fakeLab(t, func(_ Request, conn *net.UnixConn) { _, _ = io.WriteString(conn, answer) })
		if _, err := c.Status(t.Context(), id); !fault.Is(err, fault.Internal) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", answer, err)
		}
	}
}

// pair are the two ends of a connection.
func pair(t *testing.T) (near, far *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		conn, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		ends[i] = conn.(*net.UnixConn)
		t.Cleanup(func() { _ = conn.Close() })
	}
	return ends[0], ends[1]
}

func TestClient_OfALabThatGoes(t *testing.T) {
	near, far := pair(t)
	_ = far.Close()
	if _, err := roundTrip(t.Context(), near, bufio.NewReader(near), Request{Op: OpList}); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "did not take the request") {
		t.Errorf("gone before the request: %v", err)
	}
	near, far = pair(t)
	if err := Encode(far, Response{Error: ErrorOf(fault.New(fault.Forbidden, "NotOwner", "not yours"))}); err != nil {
		t.Fatal(err)
	}
	_ = far.Close()
	if _, err := roundTrip(t.Context(), near, bufio.NewReader(near), Request{Op: OpList}); !fault.Is(err, fault.Forbidden) || !strings.Contains(err.Error(), "not yours") {
		t.Errorf("refused before the request: %v", err)
	}
	_ = near.Close()
	if _, err := PeerUID(near); !fault.Is(err, fault.Internal) || !strings.Contains(err.Error(), "the peer of the lab's socket is unknown") {
		t.Errorf("a closed connection has a peer: %v", err)
	}
}

// TestClient_GivesNothingToAnotherUser: a join token is for root, or for whoever
// runs as we do.
func TestClient_GivesNothingToAnotherUser(t *testing.T) {
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	err = nobodytest.Do(func() error {
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			return err
		}
		return unix.Listen(fd, 1)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Socket: path}).List(t.Context()); !fault.Is(err, fault.Forbidden) || !strings.Contains(err.Error(), "uid 65534 listens on the lab's socket") {
		t.Errorf("another user's socket: %v", err)
	}
}
