package caller

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// ErrNobody means that the connection has no living process of this machine (of
// this network namespace) at its other end.
var ErrNobody = errors.New("the connection belongs to no process of this machine")

// overflowUID is what the kernel shows for an owner of another user namespace
// (user_namespaces(7)).
const overflowUID = 65534

// established is TCP_ESTABLISHED of include/net/tcp_states.h.
const established = 1

// Table is the kernel's table of TCP sockets, /proc/net/tcp (proc_net(5)).
type Table struct{ Path string }

// Owner returns the uid that owns the other end of an accepted connection: local
// is our end, remote the caller's. The uid is that of the process that made the
// socket; whoever was given the socket later acts for it.
func (t Table) Owner(local, remote netip.AddrPort) (uint32, error) {
	f, err := os.Open(t.Path)
	if err != nil {
		return 0, fmt.Errorf("table of sockets: %w", err)
	}
	defer f.Close()
	return owner(f, local, remote)
}

// socket is one line of the table.
type socket struct {
	local, remote netip.AddrPort
	state         uint8
	uid           uint32
	inode         uint64
}

// owner looks for both ends of the connection. Ours must be established too: an
// end that was reset, whose port somebody else has now, is not.
func owner(r io.Reader, local, remote netip.AddrPort) (uint32, error) {
	lines := bufio.NewScanner(r)
	var theirs *socket
	ours := false
	for header := true; lines.Scan(); header = false {
		if header {
			continue
		}
		s, err := parseLine(lines.Text())
		if err != nil {
			return 0, err
		}
		switch {
		case s.state != established:
		case s.local == local && s.remote == remote:
			ours = true
		case s.local == remote && s.remote == local && s.inode != 0:
			// The table is read while it changes, so a socket may be there twice; two
			// that differ are nobody's.
			if theirs != nil && (theirs.uid != s.uid || theirs.inode != s.inode) {
				return 0, ErrNobody
			}
			theirs = &s
		}
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("table of sockets: %w", err)
	}
	if !ours || theirs == nil || theirs.uid == overflowUID {
		return 0, ErrNobody
	}
	return theirs.uid, nil
}

// parseLine reads "sl: local remote st queues timer retrnsmt uid timeout inode ...".
func parseLine(line string) (socket, error) {
	f := strings.Fields(line)
	bad := func(what string) (socket, error) {
		return socket{}, fmt.Errorf("table of sockets: a line has no readable %s", what)
	}
	if len(f) < 10 {
		return bad("end")
	}
	var s socket
	var err error
	if s.local, err = parseEnd(f[1]); err != nil {
		return bad("local address")
	}
	if s.remote, err = parseEnd(f[2]); err != nil {
		return bad("remote address")
	}
	state, err := strconv.ParseUint(f[3], 16, 8)
	if err != nil {
		return bad("state")
	}
	uid, err := strconv.ParseUint(f[7], 10, 32)
	if err != nil {
		return bad("uid")
	}
	if s.inode, err = strconv.ParseUint(f[9], 10, 64); err != nil {
		return bad("inode")
	}
	s.state, s.uid = uint8(state), uint32(uid)
	return s, nil
}

// parseEnd reads an address: the 32 bits as this computer stores them, in
// hexadecimal, and the port.
func parseEnd(text string) (netip.AddrPort, error) {
	address, port, _ := strings.Cut(text, ":")
	a, err := strconv.ParseUint(address, 16, 32)
	if err != nil || len(address) != 8 {
		return netip.AddrPort{}, errors.New("not an address")
	}
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil || len(port) != 4 {
		return netip.AddrPort{}, errors.New("not a port")
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(a))
	return netip.AddrPortFrom(netip.AddrFrom4(b), uint16(p)), nil
}
