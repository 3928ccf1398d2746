package caller

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// kernel answers from a table of text, as sock_diag does: a socket of exactly
// these ends, else one that listens.
type kernel string

func (k kernel) ask(local, remote netip.AddrPort) (found socket, ok bool, err error) {
	for text := range strings.Lines(string(k)) {
		if strings.HasPrefix(text, "  sl") {
			continue
		}
		s, err := parseLine(text)
		if err != nil {
			return s, false, err
		}
		if s.local == local && (s.remote == remote || s.state == 10 && !ok) {
			found, ok = s, true
		}
	}
	return found, ok, nil
}

// The guards of the table and of sock_diag are the same, whatever is asked.
func TestSockets_OnlyAnEstablishedSocketOfALivingProcess(t *testing.T) {
	ours := line(service, client, "01", 0, 7)
	for name, c := range map[string]struct {
		table string
		uid   uint32
		known bool
	}{
		"a user's":                           {ours + line(client, service, "01", 1000, 8), 1000, true},
		"root's":                             {line(client, service, "01", 0, 8) + ours, 0, true},
		"closed by its process":              {ours + line(client, service, "05", 0, 0), 0, false},
		"closed, and still shown":            {ours + line(client, service, "01", 0, 0), 0, false},
		"half closed":                        {ours + line(client, service, "04", 1000, 8), 0, false},
		"our end reset, the port another's":  {line(client, service, "01", 0, 8), 0, false},
		"our end reset, the service listens": {line(client, service, "01", 0, 8) + line(service, "00000000:0000", "0A", 0, 3), 0, false},
		"our end closing":                    {line(service, client, "08", 0, 7) + line(client, service, "01", 0, 8), 0, false},
		"a listener in its place":            {ours + line(client, "00000000:0000", "0A", 0, 8), 0, false},
		"of another user namespace":          {ours + line(client, service, "01", 65534, 8), 0, false},
		"of another computer":                {ours, 0, false},
		"nothing":                            {"", 0, false},
	} {
		local, remote := ends4()
		uid, err := ends(kernel(c.table), local, remote)
		if (err == nil) != c.known || uid != c.uid || err != nil && !errors.Is(err, ErrNobody) {
			t.Errorf("%s: %d %v", name, uid, err)
		}
	}
}

// connected is a connection of this process with itself. The identity service's
// listener is bound to the loopback interface, and so is what it accepts.
func connected(t *testing.T, device string) (local, remote netip.AddrPort, hangUp func()) {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if device == "" {
			return nil
		}
		return errors.Join(c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) }), err)
	}}
	l, err := config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = s.Close() })
	return netip.MustParseAddrPort(s.LocalAddr().String()), netip.MustParseAddrPort(s.RemoteAddr().String()), func() { _ = c.Close() }
}

// The kernel itself, without a table to fall back to.
func TestSockets_KnowThisProcess(t *testing.T) {
	d, err := openDiag()
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if !d.serves() {
		t.Fatal("this kernel has no tcp_diag: load the module")
	}
	none := Sockets{Table: Table{Path: "/nowhere"}}
	for _, device := range []string{"", "lo"} {
		local, remote, hangUp := connected(t, device)
		if uid, err := none.Owner(local, remote); err != nil || uid != uint32(os.Geteuid()) {
			t.Fatalf("%q: %d %v", device, uid, err)
		}
		if _, err := none.Owner(local, netip.AddrPortFrom(remote.Addr(), 1)); !errors.Is(err, ErrNobody) {
			t.Fatal(err)
		}
		hangUp()
		if uid, err := none.Owner(local, remote); !errors.Is(err, ErrNobody) {
			t.Fatalf("a closed socket is uid %d's: %v", uid, err)
		}
	}
}

// What sock_diag cannot answer is read from the table.
func TestSockets_FallBackToTheTable(t *testing.T) {
	s := Sockets{Table: Table{Path: "/nowhere"}}
	six := netip.MustParseAddrPort("[::1]:80")
	if _, err := s.Owner(six, six); err == nil || errors.Is(err, ErrNobody) {
		t.Errorf("the table was not asked: %v", err)
	}
}

// answered is what the kernel says of one socket.
func answered(s socket) []byte {
	b := make([]byte, answerLen)
	binary.NativeEndian.PutUint32(b, answerLen)
	binary.NativeEndian.PutUint16(b[4:], diagByFamily)
	m := b[headerLen:]
	m[0], m[1] = unix.AF_INET, s.state
	copy(m[4:], request(s.local, s.remote, false)[headerLen+8:])
	binary.NativeEndian.PutUint32(m[64:], s.uid)
	binary.NativeEndian.PutUint32(m[68:], uint32(s.inode))
	return b
}

func refusal(no unix.Errno) []byte {
	b := make([]byte, errorLen+headerLen)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.NLMSG_ERROR)
	binary.NativeEndian.PutUint32(b[headerLen:], uint32(-int32(no)))
	return b
}

func TestParseDiag(t *testing.T) {
	local, remote := ends4()
	want := socket{local: local, remote: remote, state: established, uid: 1000, inode: 8}
	if got, found, err := parseDiag(answered(want)); err != nil || !found || got != want {
		t.Errorf("%+v %v %v", got, found, err)
	}
	if _, found, err := parseDiag(refusal(unix.ENOENT)); err != nil || found {
		t.Errorf("no such socket: %v %v", found, err)
	}
	for name, b := range map[string][]byte{"refused": refusal(unix.EPERM), "nothing": nil, "a header": make([]byte, headerLen), "cut": answered(want)[:answerLen-1]} {
		if _, found, err := parseDiag(b); err == nil || found {
			t.Errorf("%s: %v %v", name, found, err)
		}
	}
}

func FuzzParseDiag(f *testing.F) {
	local, remote := ends4()
	f.Add(answered(socket{local: local, remote: remote, state: established, uid: 1000, inode: 8}))
	f.Add(refusal(unix.ENOENT))
	f.Add(refusal(unix.EPERM))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, found, err := parseDiag(b)
		if found && (err != nil || len(b) < answerLen || !s.local.Addr().Is4()) {
			t.Fatalf("%x: %+v %v", b, s, err)
		}
	})
}
