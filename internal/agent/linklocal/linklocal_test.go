package linklocal

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
)

// rig is a machine in a folder.
type rig struct {
	t         *testing.T
	root      string
	addresses map[string][]string // by interface
	dial      error
	answers   bool
	run       []string
	fail      error
	*Endpoint
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, root: t.TempDir(), addresses: map[string][]string{"lo": {"127.0.0.1/8"}}, dial: syscall.EHOSTUNREACH}
	r.file("/var/lib/sallyport/root/x", "")
	r.file("/proc/net/route", "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\neth0\t00000000\t01004D0A\t0003\t0\t0\t0\t00000000\t0\t0\t0\neth0\t0000FEA9\t00000000\t0001\t0\t0\t1000\t0000FFFF\t0\t0\t0\n")
	r.Endpoint = New(Config{Root: r.root,
		Addresses: func(name string) ([]net.Addr, error) {
			var list []net.Addr
			for i, texts := range r.addresses {
				for _, text := range texts {
					if ip, n, err := net.ParseCIDR(text); err == nil && (name == "" || name == i) {
						list = append(list, &net.IPNet{IP: ip, Mask: n.Mask})
					}
				}
			}
			return list, nil
		},
		Dial: func(context.Context, string, string) (net.Conn, error) {
			if r.answers {
				a, _ := net.Pipe()
				return a, nil
			}
			return nil, r.dial
		},
		Run: func(_ context.Context, argv ...string) ([]byte, error) {
			r.run = append(r.run, strings.Join(argv, " "))
			if r.fail == nil && argv[2] == "add" {
				r.addresses["lo"] = append(r.addresses["lo"], Address+"/32")
			}
			return []byte("RTNETLINK answers: no\nmore"), r.fail
		}})
	return r
}

func (r *rig) file(path, text string) {
	r.t.Helper()
	path = filepath.Join(r.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) marked() bool {
	_, err := os.Stat(filepath.Join(r.root, markPath))
	return err == nil
}

// A cloud's address stays a cloud's, whatever says that it is one.
func TestTake_NeverFromACloud(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(r *rig)
		says string
	}{
		"Azure":      {func(r *rig) { r.file("/sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n") }, "7783-7084"},
		"EC2":        {func(r *rig) { r.file("/sys/class/dmi/id/sys_vendor", "Amazon EC2\n") }, "Amazon EC2"},
		"EC2 on Xen": {func(r *rig) { r.file("/sys/hypervisor/uuid", "ec2abcde-0000\n") }, "Amazon EC2"},
		"Google":     {func(r *rig) { r.file("/sys/class/dmi/id/product_name", "Google Compute Engine\n") }, "Google"},
		"OpenStack":  {func(r *rig) { r.file("/sys/class/dmi/id/product_name", "OpenStack Nova") }, "OpenStack"},
		"Oracle":     {func(r *rig) { r.file("/sys/class/dmi/id/chassis_asset_tag", "OracleCloud.com") }, "OracleCloud"},
		"a route": {func(r *rig) {
			r.file("/proc/net/route", "Iface\neth0\tFEA9FEA9\t01004D0A\t0007\t0\t0\t100\tFFFFFFFF\t0\t0\t0\n")
		}, "over eth0"},
		"an answer": {func(r *rig) { r.answers = true }, "answers"},
		"a refusal": {func(r *rig) {
			r.dial = &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		}, "answers"},
		"another interface": {func(r *rig) { r.addresses["eth0"] = []string{Address + "/16"} }, "another interface"},
	} {
		r := newRig(t)
		c.set(r)
		err := r.take(t.Context())
		if f := fault.As(err); f.Code != "MetadataAddressTaken" || !strings.Contains(f.Text, c.says) || len(r.run) > 0 || r.marked() {
			t.Errorf("%s: %v, ran %v", name, err, r.run)
		}
		handbooktest.Said(t, fault.As(err).Public(), "MetadataAddressTaken")
	}
}

func TestTake_WhereNobodyHasIt(t *testing.T) {
	for name, set := range map[string]func(r *rig){
		"unreachable": func(*rig) {}, "silent": func(r *rig) { r.dial = context.DeadlineExceeded }, "Hyper-V at home": func(r *rig) { r.file("/sys/class/dmi/id/sys_vendor", "Microsoft Corporation") },
		"no routes": func(r *rig) { _ = os.Remove(filepath.Join(r.root, "/proc/net/route")) },
	} {
		r := newRig(t)
		set(r)
		if err := r.take(t.Context()); err != nil || !slices.Equal(r.run, []string{"ip address add 169.254.169.254/32 dev lo scope host"}) || !r.marked() {
			t.Fatalf("%s: %v %v", name, err, r.run)
		}
		if err := r.Close(t.Context()); err != nil || r.run[1] != "ip address del 169.254.169.254/32 dev lo" || r.marked() {
			t.Fatalf("%s: %v %v", name, err, r.run)
		}
	}
}

// What somebody else gave the machine is not taken away.
func TestClose_LeavesOthersAddresses(t *testing.T) {
	r := newRig(t)
	r.addresses["lo"] = append(r.addresses["lo"], Address+"/32")
	if err := r.Close(t.Context()); err != nil || len(r.run) > 0 {
		t.Fatalf("%v %v", err, r.run)
	}
}

func TestFailures_AreSentences(t *testing.T) {
	r := newRig(t)
	r.fail = errors.New("exit status 2")
	if err := r.take(t.Context()); fault.As(err).Code != "MetadataAddressFailed" || !strings.Contains(fault.As(err).Text, "RTNETLINK answers: no") || strings.Contains(fault.As(err).Text, "more") {
		t.Fatal(err)
	}
	if got := firstLine([]byte("a\x1b[31m\nb"), nil); got != "a?[31m" {
		t.Fatalf("%q", got)
	}
}

func FuzzHostRoute(f *testing.F) {
	f.Add("Iface\neth0\tFEA9FEA9\t0\t0\t0\t0\t0\tFFFFFFFF\n")
	f.Fuzz(func(t *testing.T, text string) { hostRoute(text) })
}
