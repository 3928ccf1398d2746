package linklocal

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/durable"
	"sallyport/internal/fault"
)

// markPath says that the address is there because of us, so that nobody else's is
// ever removed.
const markPath = "/var/lib/sallyport/root/metadata-address"

const loopback = "lo"

// Config is what an Endpoint stands on.
type Config struct {
	Root string // "/" on a machine
	// Addresses lists the addresses of an interface, or of all for "".
	Addresses func(name string) ([]net.Addr, error)
	Dial      func(ctx context.Context, network, address string) (net.Conn, error)
	Run       func(ctx context.Context, argv ...string) ([]byte, error)
}

// Endpoint is the address and the socket on it.
type Endpoint struct{ cfg Config }

// New makes an Endpoint.
func New(cfg Config) *Endpoint { return &Endpoint{cfg} }

// Interfaces lists addresses of this computer, for Config.
func Interfaces(name string) ([]net.Addr, error) {
	if name == "" {
		return net.InterfaceAddrs()
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	return i.Addrs()
}

// Open makes sure that the address is the machine's own, and listens there. What
// the loopback interface has already (a lab gave it, or this part before a
// restart) nobody outside can have. Only that interface's packets arrive: a
// neighbour on the network is not heard.
func (e *Endpoint) Open(ctx context.Context) (*net.TCPListener, error) {
	mine, err := e.present(loopback)
	if err != nil {
		return nil, err
	}
	if !mine {
		if err := e.take(ctx); err != nil {
			return nil, err
		}
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.BindToDevice(int(fd), loopback) })
		return errors.Join(err, failed)
	}}
	plain, err := config.Listen(ctx, "tcp4", net.JoinHostPort(Address, port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, taken("another program listens at %s:%s", Address, port)
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "MetadataListenFailed", "cannot listen at %s:%s: %v", Address, port, err)
	}
	l, ok := plain.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(errors.New("not a TCP listener"), plain.Close())
	}
	return l, nil
}

// take asks whether anybody has the address, and gives it to the loopback
// interface. The mark comes first: an address without a mark is not ours.
func (e *Endpoint) take(ctx context.Context) error {
	if v := vendor(e.cfg.Root); v != "" {
		return taken("the firmware says %q", v)
	}
	elsewhere, err := e.present("")
	if err != nil {
		return err
	}
	if elsewhere {
		return taken("another interface of this machine has it")
	}
	routes, err := os.ReadFile(filepath.Join(e.cfg.Root, "/proc/net/route"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if over := hostRoute(string(routes)); over != "" {
		return taken("a route leads to it over %s", over)
	}
	if probe(ctx, e.cfg.Dial) {
		return taken("somebody answers there")
	}
	if err := durable.Write(filepath.Join(e.cfg.Root, markPath), []byte(loopback+"\n"), 0o600); err != nil {
		return err
	}
	if out, err := e.cfg.Run(ctx, "ip", "address", "add", Address+"/32", "dev", loopback, "scope", "host"); err != nil {
		return fault.Wrap(err, fault.Unavailable, "MetadataAddressFailed", "the address %s could not be given to %s: %s", Address, loopback, firstLine(out, err))
	}
	return nil
}

// Close gives the address back, if it was given by us. The listener is the
// caller's to close.
func (e *Endpoint) Close(ctx context.Context) error {
	mark := filepath.Join(e.cfg.Root, markPath)
	if _, err := os.Stat(mark); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	mine, err := e.present(loopback)
	if err != nil {
		return err
	}
	if mine {
		if out, err := e.cfg.Run(ctx, "ip", "address", "del", Address+"/32", "dev", loopback); err != nil {
			return fault.Wrap(err, fault.Unavailable, "MetadataAddressFailed", "the address %s could not be taken from %s: %s", Address, loopback, firstLine(out, err))
		}
	}
	return durable.Remove(mark)
}

// present reports whether an interface, or any for "", has the address.
func (e *Endpoint) present(name string) (bool, error) {
	list, err := e.cfg.Addresses(name)
	if err != nil {
		return false, fault.Wrap(err, fault.Unavailable, "MetadataAddressFailed", "the addresses of this machine cannot be listed")
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok && n.IP.String() == Address {
			return true, nil
		}
	}
	return false, nil
}

func firstLine(out []byte, err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" {
		line = err.Error()
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, line[:min(len(line), 200)])
}
