package labwire

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"sallyport/internal/fault"
)

// fakeLab answers every connection with what reply says.
func fakeLab(t *testing.T, reply func(Request, *net.UnixConn)) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			req, err := Decode(bufio.NewReader(conn))
			if err != nil {
				_ = Encode(conn, Response{Error: ErrorOf(err)})
			} else {
				reply(req, conn)
			}
			_ = conn.Close()
		}
	}()
	return New(Config{Socket: path})
}

func TestClient_SendsAndReads(t *testing.T) {
	want := Machine{MachineID: id, Name: "web-1", Backend: BackendNetns, State: StateRunning, Address: "10.77.0.2", Loopback: "127.77.0.2", SSHPort: 22}
	var asked Request
	c := fakeLab(t, func(r Request, conn *net.UnixConn) {
		asked = r
		_ = Encode(conn, Response{Machines: []Machine{want}})
	})
	got, err := c.Create(t.Context(), CreateRequest{MachineID: id, Name: "web-1", JoinToken: "t", Backend: BackendNetns, System: SystemDebian11})
	if err != nil || got != want || asked.JoinToken != "t" || asked.Op != OpCreate || asked.System != SystemDebian11 {
		t.Errorf("create: %v %v, asked %v", got, err, asked)
	}
	// A lab of before there was a choice knows no member for it.
	if _, err := c.Create(t.Context(), CreateRequest{MachineID: id, Name: "web-1", Backend: BackendNetns, System: SystemDebian12}); err != nil || asked.System != "" {
		t.Errorf("create of Debian 12: %v, asked %v", err, asked)
	}
	if list, err := c.List(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("list: %v %v", list, err)
	}
}

func TestClient_ErrorsKeepTheirKind(t *testing.T) {
	c := fakeLab(t, func(_ Request, conn *net.UnixConn) {
		_ = Encode(conn, Response{Error: ErrorOf(fault.New(fault.NotFound, "MachineNotFound", "no machine"))})
	})
	if _, err := c.Start(t.Context(), id); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Start(t.Context(), "../.."); !fault.Is(err, fault.Invalid) {
		t.Errorf("bad id: %v", err)
	}
	if _, err := New(Config{Socket: filepath.Join(t.TempDir(), "none")}).List(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("no lab: %v", err)
	}
}

func TestClient_RefusesAnAnswerAboutAnotherMachine(t *testing.T) {
	c := fakeLab(t, func(_ Request, conn *net.UnixConn) {
		_ = Encode(conn, Response{Machines: []Machine{{MachineID: "99999999-89ab-4cde-8f01-23456789abcd", State: StateRunning}}})
	})
	if _, err := c.Status(t.Context(), id); !fault.Is(err, fault.Internal) {
		t.Errorf("got %v", err)
	}
}

func TestClient_ContextEndsAWait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := fakeLab(t, func(_ Request, conn *net.UnixConn) {
		cancel()
		_, _ = io.Copy(io.Discard, conn) // until the client goes
	})
	if _, err := c.List(ctx); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
}

// TestClient_ProxyKeepsEarlyBytes: also into a file, for which io.Copy looks for
// a descriptor to read from.
func TestClient_ProxyKeepsEarlyBytes(t *testing.T) {
	c := fakeLab(t, func(_ Request, conn *net.UnixConn) {
		_, _ = io.WriteString(conn, "{}\nSSH-2.0-early\r\n")
	})
	read := func(copied func(*Stream) ([]byte, error)) {
		t.Helper()
		stream, err := c.Proxy(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stream.Close() }()
		if got, err := copied(stream); err != nil || string(got) != "SSH-2.0-early\r\n" {
			t.Errorf("%q %v", got, err)
		}
	}
	read(func(s *Stream) ([]byte, error) { return io.ReadAll(s) })
	read(func(s *Stream) ([]byte, error) {
		name := filepath.Join(t.TempDir(), "out")
		out, err := os.Create(name)
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(out, s)
		got, again := os.ReadFile(name)
		return got, errors.Join(err, out.Close(), again)
	})
}
