package many

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func pair(t *testing.T) (*Listener, *Dialer) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l := Listen(socket)
	t.Cleanup(func() { _ = l.Close() })
	d, err := Connect(path, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return l, d
}

// Each stream brings its own bytes back, whole and in order, and its end.
func TestStreams(t *testing.T) {
	l, d := pair(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			c, err := d.Dial(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, 0, byte(i)}), 1))
			if err != nil {
				t.Error(err)
				return
			}
			want := bytes.Repeat([]byte{byte(i)}, 3000*i)
			go func() { _, _ = c.Write(want) }()
			got := make([]byte, len(want))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d: %v", i, err)
			}
			_ = c.Close()
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("%d: a closed stream was read", i)
			}
		})
	}
	all.Wait()
}

func TestStream_DeadlineAndEnd(t *testing.T) {
	l, d := pair(t)
	c, err := d.Dial(netip.MustParseAddrPort("127.1.2.3:7"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if a := s.RemoteAddr().String(); a != "127.1.2.3:7" {
		t.Error(a)
	}
	read := make(chan error, 1)
	go func() { _, err := s.Read(make([]byte, 1)); read <- err }()
	_ = s.SetReadDeadline(time.Unix(1, 0))
	if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	_ = s.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	_ = s.SetReadDeadline(time.Time{})
	_, _ = c.Write([]byte("ab"))
	_ = c.Close()
	if b, err := io.ReadAll(s); err != nil || string(b) != "ab" {
		t.Errorf("%q %v", b, err)
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("a stream that has ended was written to")
	}
}
