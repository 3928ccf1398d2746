package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// The lab's network. Only the bridge's address and those of machines exist in
// it; there is no route out.
const (
	bridge        = "lab0"
	bridgeAddress = "10.77.0.1"
	// metadataAddress is on every machine's own loopback, where its agent may answer
	// as instance metadata service; a machine has no right to take addresses.
	metadataAddress = "169.254.169.254/32"
)

// fabric is the lab's network namespace. Only a descriptor holds it, so it has
// no name on this computer and ends with the process.
type fabric struct {
	ns *os.File
}

// newFabric makes the namespace and the bridge in it.
func newFabric(ctx context.Context) (*fabric, error) {
	f := &fabric{}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		ns, err := os.Open("/proc/thread-self/ns/net")
		f.ns = ns
		return err
	})
	if err != nil {
		return nil, err
	}
	err = f.ip(ctx, "link set lo up", "link add "+bridge+" type bridge", "addr add "+bridgeAddress+"/24 dev "+bridge, "link set "+bridge+" up")
	if err != nil {
		return nil, errors.Join(err, f.ns.Close())
	}
	return f, nil
}

func (f *fabric) close() error { return f.ns.Close() }

// attach gives the network namespace of process pid an interface with the
// record's address on the bridge.
func (f *fabric) attach(ctx context.Context, r record, pid int) error {
	f.detach(ctx, r) // a half-made one of an earlier attempt
	port := portOf(r)
	if err := f.ip(ctx, fmt.Sprintf("link add %s type veth peer name eth0 netns %d", port, pid), "link set "+port+" master "+bridge+" up"); err != nil {
		return err
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	machine := &fabric{ns: ns}
	return machine.ip(ctx, "link set lo up", "addr add "+metadataAddress+" dev lo scope host", "addr add "+r.address()+"/24 dev eth0", "link set eth0 up")
}

// detach removes a machine's interface at once; by itself it would go only
// some time after the machine's last process. That it is gone is no error.
func (f *fabric) detach(ctx context.Context, r record) {
	_ = f.ip(ctx, "link del "+portOf(r))
}

func portOf(r record) string { return fmt.Sprintf("m%d", r.Host) }

// ip runs ip(8) with a batch of commands in the namespace. The commands are
// built from constants and numbers only.
func (f *fabric) ip(ctx context.Context, commands ...string) error {
	return f.within(func() error {
		cmd := exec.CommandContext(ctx, "ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
		var output bytes.Buffer
		cmd.Stdout, cmd.Stderr = &output, &output
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("ip %q: %w: %s", commands, err, bytes.TrimSpace(output.Bytes()))
		}
		return nil
	})
}

// dial connects to a machine's sshd from inside the namespace.
func (f *fabric) dial(ctx context.Context, address string) (net.Conn, error) {
	var conn net.Conn
	err := f.within(func() error {
		var d net.Dialer
		var err error
		conn, err = d.DialContext(ctx, "tcp4", address)
		return err
	})
	return conn, err
}

// listen listens inside the namespace.
func (f *fabric) listen(ctx context.Context, address string) (net.Listener, error) {
	var listener net.Listener
	err := f.within(func() error {
		var l net.ListenConfig
		var err error
		listener, err = l.Listen(ctx, "tcp4", address)
		return err
	})
	return listener, err
}

// within runs do on a thread that is in the namespace. Sockets and processes
// that do creates there stay there.
func (f *fabric) within(do func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(f.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the lab's network namespace: %w", err)
		}
		return do()
	})
}

// onThread runs do on a thread of its own, which ends with it: a goroutine that
// returns while locked takes its thread along, and no other code ever runs in
// the wrong namespace.
func onThread(do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- do()
	}()
	return <-done
}
