package caller

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Sockets asks the kernel for the two sockets of a connection alone, by
// sock_diag(7). Where that is refused, or the kernel has no tcp_diag, it reads
// the Table. What counts is the same.
type Sockets struct{ Table Table }

// Owner is Table's.
func (s Sockets) Owner(local, remote netip.AddrPort) (uint32, error) {
	d, err := openDiag()
	if err != nil {
		return s.Table.Owner(local, remote)
	}
	defer d.close()
	uid, err := ends(d, local, remote)
	if err == nil || errors.Is(err, ErrNobody) && d.serves() {
		return uid, err
	}
	return s.Table.Owner(local, remote)
}

// asker looks one socket up by its own end and the other; found is false when
// there is none.
type asker interface {
	ask(local, remote netip.AddrPort) (s socket, found bool, err error)
}

// ends asks for the caller's end first. Ours is established only as long as that
// very connection lasts, so if it is so afterwards, the caller's end was its.
func ends(d asker, local, remote netip.AddrPort) (uint32, error) {
	theirs, found, err := d.ask(remote, local)
	if err != nil {
		return 0, err
	}
	if !found || theirs.state != established || theirs.local != remote || theirs.remote != local || theirs.inode == 0 || theirs.uid == overflowUID {
		return 0, ErrNobody
	}
	ours, found, err := d.ask(local, remote)
	if err != nil {
		return 0, err
	}
	if !found || ours.state != established || ours.local != local || ours.remote != remote {
		return 0, ErrNobody
	}
	return theirs.uid, nil
}

// diag is a netlink socket of NETLINK_SOCK_DIAG.
type diag struct{ fd int }

// diagPatience is how long the kernel, which answers within the call, may take.
const diagPatience = 1 // seconds

func openDiag() (diag, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return diag{}, err
	}
	d := diag{fd: fd}
	if err := errors.Join(unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: diagPatience})); err != nil {
		d.close()
		return diag{}, err
	}
	return d, nil
}

func (d diag) close() { _ = unix.Close(d.fd) }

// The layouts of linux/netlink.h and linux/inet_diag.h: struct nlmsghdr, struct
// inet_diag_req_v2 and struct inet_diag_msg.
const (
	diagByFamily = 20 // SOCK_DIAG_BY_FAMILY
	headerLen    = 16
	requestLen   = headerLen + 56
	answerLen    = headerLen + 72
	errorLen     = headerLen + 4
	noCookie     = 0xff // INET_DIAG_NOCOOKIE, in each byte
	// loopback is LOOPBACK_IFINDEX of include/net/flow.h, over which a machine's
	// connections with itself go: the kernel looks for the socket that a packet from
	// there would reach, and finds one that is bound to that interface by no other.
	loopback = 1
)

// request asks for one socket, or with dump for all of no state, which answers
// only whether the kernel answers such questions.
func request(local, remote netip.AddrPort, dump bool) []byte {
	b := make([]byte, requestLen)
	flags := unix.NLM_F_REQUEST
	if dump {
		flags |= unix.NLM_F_DUMP
	}
	binary.NativeEndian.PutUint32(b, requestLen)
	binary.NativeEndian.PutUint16(b[4:], diagByFamily)
	binary.NativeEndian.PutUint16(b[6:], uint16(flags))
	q := b[headerLen:]
	q[0], q[1] = unix.AF_INET, unix.IPPROTO_TCP
	if dump {
		return b
	}
	binary.NativeEndian.PutUint32(q[4:], ^uint32(0)) // every state: it is looked at here
	id := q[8:]
	binary.BigEndian.PutUint16(id, local.Port())
	binary.BigEndian.PutUint16(id[2:], remote.Port())
	from, to := local.Addr().As4(), remote.Addr().As4()
	copy(id[4:], from[:])
	copy(id[20:], to[:])
	binary.NativeEndian.PutUint32(id[36:], loopback)
	for i := range 8 {
		id[40+i] = noCookie
	}
	return b
}

func (d diag) exchange(b []byte) ([]byte, error) {
	if err := unix.Send(d.fd, b, 0); err != nil {
		return nil, err
	}
	answer := make([]byte, 8192)
	n, from, err := unix.Recvfrom(d.fd, answer, 0)
	if err != nil {
		return nil, err
	}
	if kernel, ok := from.(*unix.SockaddrNetlink); !ok || kernel.Pid != 0 {
		return nil, errors.New("not the kernel's answer")
	}
	return answer[:n], nil
}

func (d diag) ask(local, remote netip.AddrPort) (socket, bool, error) {
	if !local.Addr().Is4() || !remote.Addr().Is4() {
		return socket{}, false, errors.New("not an address of IPv4")
	}
	b, err := d.exchange(request(local, remote, false))
	if err != nil {
		return socket{}, false, err
	}
	return parseDiag(b)
}

// serves reports whether the kernel answers for TCP: without the module it says
// of every socket that there is none.
func (d diag) serves() bool {
	b, err := d.exchange(request(netip.AddrPort{}, netip.AddrPort{}, true))
	return err == nil && len(b) >= headerLen && binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_DONE
}

// parseDiag reads the kernel's answer about one socket.
func parseDiag(b []byte) (s socket, found bool, err error) {
	if len(b) < headerLen || binary.NativeEndian.Uint32(b) > uint32(len(b)) {
		return s, false, errors.New("sock_diag: an answer is cut")
	}
	size := binary.NativeEndian.Uint32(b)
	switch kind := binary.NativeEndian.Uint16(b[4:]); {
	case kind == unix.NLMSG_ERROR && size >= errorLen:
		no := unix.Errno(-int32(binary.NativeEndian.Uint32(b[headerLen:])))
		if no == unix.ENOENT {
			return s, false, nil
		}
		return s, false, fmt.Errorf("sock_diag: %w", no)
	case kind != diagByFamily || size < answerLen:
		return s, false, fmt.Errorf("sock_diag: a message of kind %d and %d bytes", kind, size)
	}
	m := b[headerLen:]
	if m[0] != unix.AF_INET {
		return s, false, fmt.Errorf("sock_diag: an answer of family %d", m[0])
	}
	id := m[4:]
	s.state = m[1]
	s.local = netip.AddrPortFrom(netip.AddrFrom4([4]byte(id[4:8])), binary.BigEndian.Uint16(id))
	s.remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte(id[20:24])), binary.BigEndian.Uint16(id[2:]))
	s.uid, s.inode = binary.NativeEndian.Uint32(m[64:]), uint64(binary.NativeEndian.Uint32(m[68:]))
	return s, true, nil
}
