package preflight

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/agent/proc"
	"sallyport/internal/fault"
)

// The floor below which nothing here works (docs/platforms.md).
const (
	opensshMajor, opensshMinor = 7, 4
	// memoryFloor is what must be free: both parts of the agent take about 40 MiB.
	memoryFloor = 64 << 20
	// clockLimit is how far the host's clock may be from the server's: the machine
	// refuses people beyond it, so joining would be of no use.
	clockLimit = 5 * time.Minute
)

// Host is the computer that is looked at.
type Host struct {
	Root string // "/" on a host
	// Run runs a program and returns what it says; an error where it failed.
	Run       func(ctx context.Context, argv ...string) ([]byte, error)
	Processes func() ([]proc.Process, error)
	// Pidfd says whether the kernel has pidfd_open(2).
	Pidfd func() error
}

// Question is what the host would become a machine of.
type Question struct {
	Domains []string
	Server  time.Time // the server's time, over a connection that the manifest vouches for
	Local   time.Time
	// Ours says that the name service has our accounts already: a machine that joins
	// again finds its own people, which is right.
	Ours bool
}

// Refusals returns everything that speaks against joining; nothing is changed.
func (h Host) Refusals(ctx context.Context, q Question) []error {
	list := []error{h.openSSH(ctx), h.kernel(), h.memory(), clock(q)}
	list = append(list, h.names(q)...)
	if !q.Ours {
		list = append(list, h.ids()...)
		list = append(list, h.idMap(), h.running())
		list = append(list, h.sources(ctx, q)...)
	}
	var out []error
	for _, err := range list {
		if err != nil {
			out = append(out, err)
		}
	}
	return out
}

func refuse(code, format string, args ...any) *fault.Error {
	return fault.New(fault.Precondition, code, format, args...)
}

var opensshVersion = regexp.MustCompile(`OpenSSH_([0-9]{1,3})\.([0-9]{1,3})`)

// openSSH asks sshd itself: before 9.3 it answers -V with its version on the way
// to an error, so what it says counts and not how it ends.
func (h Host) openSSH(ctx context.Context) error {
	for _, argv := range [][]string{{"sshd", "-V"}, {"ssh", "-V"}} {
		out, _ := h.Run(ctx, argv...)
		m := opensshVersion.FindSubmatch(out)
		if m == nil {
			continue
		}
		major, _ := strconv.Atoi(string(m[1]))
		minor, _ := strconv.Atoi(string(m[2]))
		if major > opensshMajor || major == opensshMajor && minor >= opensshMinor {
			return nil
		}
		return refuse("OpenSSHTooOld", "OpenSSH here is %d.%d; %d.%d or newer is needed", major, minor, opensshMajor, opensshMinor).WithRemedy("Upgrade the distribution.")
	}
	return refuse("OpenSSHMissing", "no OpenSSH server was found on this host").WithRemedy("Install openssh-server.")
}

func (h Host) kernel() error {
	if err := h.Pidfd(); err != nil {
		return refuse("KernelTooOld", "the kernel has no pidfd_open, without which a session cannot be ended safely: Linux 5.3 or newer is needed, or one with it").WithRemedy("Upgrade the kernel.")
	}
	return nil
}

func (h Host) memory() error {
	text, err := h.read("/proc/meminfo")
	if err != nil {
		return nil // a host without it has other troubles
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "MemAvailable:" {
			continue
		}
		free, err := strconv.ParseInt(f[1], 10, 64)
		if err == nil && free<<10 < memoryFloor {
			return refuse("MemoryLow", "%d MiB of memory are available; the agent needs %d MiB", free>>10, memoryFloor>>20).WithRemedy("End something, or give the host more memory.")
		}
	}
	return nil
}

func clock(q Question) error {
	off := q.Local.Sub(q.Server)
	if off.Abs() <= clockLimit {
		return nil
	}
	which := "ahead of"
	if off < 0 {
		which = "behind"
	}
	return ClockWrong(fmt.Sprintf("is %s %s the server's", off.Abs().Round(time.Second), which))
}

// ClockWrong is the refusal of a clock; how says in what way it is wrong.
func ClockWrong(how string) error {
	return refuse("ClockWrong", "this host's clock %s; certificates of people would be refused", how).WithRemedy("Set the clock, with chrony or systemd-timesyncd for example, and join then.")
}
