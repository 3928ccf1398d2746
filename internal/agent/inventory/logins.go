package inventory

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/machine/protocol"
)

// socketAddress reads an address of /proc/net/tcp or tcp6: words of four bytes in
// the machine's order, which is little-endian on all that we are built for.
func socketAddress(text string) (string, bool) {
	host, port, ok := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || len(raw) != 4 && len(raw) != 16 {
		return "", false
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	ip, _ := netip.AddrFromSlice(raw)
	return net.JoinHostPort(ip.String(), strconv.FormatUint(n, 10)), true
}

// The records of glibc on amd64 (bits/utmp.h): 32-bit times.
const (
	lastlogPath, lastlogSize = "/var/log/lastlog", 292
	wtmpPath, wtmpSize       = "/var/log/wtmp", 384
	userProcess              = 7
	// newestLogins is how many records of wtmp are looked at, from the end.
	newestLogins = 16_384
)

// logins reads when the machine's own accounts last logged in: from lastlog where
// it is kept, else from wtmp.
func (c Config) logins(accounts []protocol.InventoryAccount) *protocol.InventoryLogins {
	out := &protocol.InventoryLogins{Source: "none", List: []protocol.InventoryLogin{}}
	if runtime.GOARCH != "amd64" {
		return out // other sizes, which nothing here has been tried with
	}
	names := make([]string, 0, len(accounts))
	for _, a := range accounts {
		names = append(names, a.Name)
	}
	var list []protocol.InventoryLogin
	if f, _, err := c.open(lastlogPath); err == nil {
		out.Source = lastlogPath
		record := make([]byte, lastlogSize)
		for _, a := range accounts { // the file has holes, up to the highest uid that ever logged in
			if _, err := f.ReadAt(record, int64(a.UID)*lastlogSize); err == nil {
				list = append(list, lastlog(a.Name, record))
			}
		}
		_ = f.Close()
	} else if f, size, err := c.open(wtmpPath); err == nil {
		out.Source = wtmpPath
		whole := size - size%wtmpSize
		b := make([]byte, min(whole, newestLogins*wtmpSize))
		if _, err := f.ReadAt(b, whole-int64(len(b))); err == nil {
			list = wtmp(b, names)
		}
		_ = f.Close()
	}
	list = slices.DeleteFunc(list, func(l protocol.InventoryLogin) bool { return l.At.Unix() <= 0 })
	slices.SortFunc(list, func(a, b protocol.InventoryLogin) int { return strings.Compare(a.Name, b.Name) })
	out.More = max(len(list)-protocol.MaxInventoryList, 0)
	out.List = append(out.List, list[:len(list)-out.More]...)
	return out
}

func lastlog(name string, r []byte) protocol.InventoryLogin {
	return protocol.InventoryLogin{Name: protocol.InventoryText(name), At: seconds(r), TTY: field(r[4:36]), From: field(r[36:292])}
}

// wtmp keeps each account's last record that began a session.
func wtmp(b []byte, names []string) (list []protocol.InventoryLogin) {
	last := map[string]protocol.InventoryLogin{}
	for ; len(b) >= wtmpSize; b = b[wtmpSize:] {
		name := field(b[44:76])
		if int16(binary.LittleEndian.Uint16(b)) == userProcess && slices.Contains(names, name) { //nolint:gosec // the record's own type
			last[name] = protocol.InventoryLogin{Name: name, At: seconds(b[340:]), TTY: field(b[8:40]), From: field(b[76:332])}
		}
	}
	for _, l := range last {
		list = append(list, l)
	}
	return list
}

func seconds(b []byte) time.Time { return time.Unix(int64(binary.LittleEndian.Uint32(b)), 0).UTC() }

// field is a text that a NUL ends.
func field(b []byte) string {
	text, _, _ := strings.Cut(string(b), "\x00")
	return protocol.InventoryText(text)
}
