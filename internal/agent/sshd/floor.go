package sshd

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"sallyport/internal/fault"
)

// What the extension needs of a machine. Both parts of the agent stay below 25 MiB
// together (docs/performance.md); the rest is room for sshd, sudo and the home
// folder of one login.
const (
	leastMemory  = 64 << 20
	leastOpenSSH = 7*100 + 4 // as major*100+minor: tokens of the principals command, sshd_config(5)
)

func unsupported(format string, args ...any) *fault.Error {
	return fault.New(fault.Precondition, codeUnsupported, format, args...)
}

// floor refuses a machine that is too small or too old, before anything is changed.
// What cannot be read is not held against it: the self-test has the last word.
func (w *Wiring) floor(ctx context.Context) error {
	if have, ok := w.memory(); ok && have < leastMemory {
		return unsupported("this machine has %d MiB of memory, and the login extension needs %d MiB", have>>20, leastMemory>>20).WithRemedy("Give it more memory, then set the extension again.")
	}
	out, _ := w.cfg.Run(ctx, "ssh", "-V") // an ssh that is not there says nothing
	if have, ok := openSSH(out); ok && have < leastOpenSSH {
		return unsupported("this machine has OpenSSH %d.%d, and the login extension needs %d.%d", have/100, have%100, leastOpenSSH/100, leastOpenSSH%100).
			WithRemedy("Upgrade openssh-server, then set the extension again.")
	}
	return nil
}

// memory is what the kernel has to give (proc_meminfo(5)).
func (w *Wiring) memory() (int64, bool) {
	text, err := w.text("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(text) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 {
			return kib << 10, true
		}
	}
	return 0, false
}

// openSSH reads a version such as OpenSSH_9.2p1 as major*100+minor.
func openSSH(out []byte) (int, bool) {
	found := regexp.MustCompile(`OpenSSH_(\d{1,2})\.(\d{1,2})`).FindSubmatch(out)
	if found == nil {
		return 0, false
	}
	major, errA := strconv.Atoi(string(found[1]))
	minor, errB := strconv.Atoi(string(found[2]))
	return major*100 + minor, errA == nil && errB == nil
}
