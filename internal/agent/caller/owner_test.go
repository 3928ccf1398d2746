package caller

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
)

const header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

// line is one socket as /proc/net/tcp of a little-endian computer shows it.
func line(local, remote, state string, uid, inode int) string {
	return fmt.Sprintf("   0: %s %s %s 00000000:00000000 00:00000000 00000000 %5d        0 %d 1 0000000000000000 20 4 0 10 -1\n", local, remote, state, uid, inode)
}

const (
	service = "FEA9FEA9:0050" // 169.254.169.254:80
	client  = "FEA9FEA9:C350" // the same, port 50000
)

func ends4() (local, remote netip.AddrPort) {
	return netip.MustParseAddrPort("169.254.169.254:80"), netip.MustParseAddrPort("169.254.169.254:50000")
}

func TestOwner_OnlyAnEstablishedSocketOfALivingProcess(t *testing.T) {
	ours := line(service, client, "01", 0, 7)
	for name, c := range map[string]struct {
		table string
		uid   uint32
		known bool
	}{
		"a user's":                         {header + ours + line(client, service, "01", 1000, 8), 1000, true},
		"root's":                           {header + line(client, service, "01", 0, 8) + ours, 0, true},
		"seen twice while the table moved": {header + ours + line(client, service, "01", 1000, 8) + line(client, service, "01", 1000, 8), 1000, true},
		// The kernel shows uid 0 for a socket that no process has any more.
		"closed by its process":             {header + ours + line(client, service, "05", 0, 0), 0, false},
		"closed, and still shown":           {header + ours + line(client, service, "01", 0, 0), 0, false},
		"half closed":                       {header + ours + line(client, service, "04", 1000, 8), 0, false},
		"our end reset, the port another's": {header + line(client, service, "01", 0, 8), 0, false},
		"our end closing":                   {header + line(service, client, "08", 0, 7) + line(client, service, "01", 0, 8), 0, false},
		"the port on its way to another":    {header + ours + line(client, service, "02", 0, 8), 0, false},
		"two owners":                        {header + ours + line(client, service, "01", 1000, 8) + line(client, service, "01", 0, 9), 0, false},
		"of another user namespace":         {header + ours + line(client, service, "01", 65534, 8), 0, false},
		"of another computer":               {header + ours, 0, false},
		"another port":                      {header + ours + line("FEA9FEA9:C351", service, "01", 0, 8), 0, false},
		"another service":                   {header + ours + line(client, "0100007F:0050", "01", 0, 8), 0, false},
		"nothing":                           {"", 0, false},
	} {
		local, remote := ends4()
		uid, err := owner(strings.NewReader(c.table), local, remote)
		if (err == nil) != c.known || uid != c.uid || err != nil && !errors.Is(err, ErrNobody) {
			t.Errorf("%s: %d %v", name, uid, err)
		}
	}
}

func TestOwner_LinesThatCannotBeRead(t *testing.T) {
	local, remote := ends4()
	for _, bad := range []string{"x\n", line("FEA9FEA9:005", client, "01", 0, 7), line("FEA9FE:0050", client, "01", 0, 7), line(service, "zzzzzzzz:0050", "01", 0, 7), line(service, client, "xx", 0, 7), line(service, client, "01", -1, 7), line(service, client, "01", 0, -1)} {
		if _, err := owner(strings.NewReader(header+bad), local, remote); err == nil || errors.Is(err, ErrNobody) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The kernel's own table, for a connection of this process.
func TestTable_KnowsThisProcess(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	table := Table{Path: "/proc/net/tcp"}
	local, remote := netip.MustParseAddrPort(s.LocalAddr().String()), netip.MustParseAddrPort(s.RemoteAddr().String())
	if uid, err := table.Owner(local, remote); err != nil || uid != uint32(os.Geteuid()) {
		t.Fatalf("%d %v", uid, err)
	}
	if _, err := table.Owner(local, netip.AddrPortFrom(remote.Addr(), 1)); !errors.Is(err, ErrNobody) {
		t.Fatal(err)
	}
	_ = c.Close()
	if uid, err := table.Owner(local, remote); !errors.Is(err, ErrNobody) {
		t.Fatalf("a closed socket is uid %d's: %v", uid, err)
	}
}

func FuzzOwner(f *testing.F) {
	f.Add(header + line(service, client, "01", 0, 7) + line(client, service, "01", 1000, 8))
	f.Add(header + line(client, service, "05", 0, 0))
	f.Fuzz(func(t *testing.T, table string) {
		local, remote := ends4()
		uid, err := owner(strings.NewReader(table), local, remote)
		if err == nil && (uid == overflowUID || strings.Count(table, "\n") < 2) {
			t.Fatalf("%q is uid %d's", table, uid)
		}
	})
}
