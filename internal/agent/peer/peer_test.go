package peer

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestOf_BothEnds(t *testing.T) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, end := range []*net.UnixConn{c, s} {
		if p, err := Of(end); err != nil || p != (Process{PID: os.Getpid(), UID: uint32(os.Geteuid())}) {
			t.Errorf("%+v %v", p, err)
		}
	}
	_ = c.Close()
	if p, err := Of(c); err == nil {
		t.Errorf("a closed socket is %+v's", p)
	}
}
