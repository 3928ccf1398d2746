package sshd

import (
	"context"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
)

// TestFloor_SmallOrOldMachinesAreRefusedBeforeAnyChange: with the number that is
// missing, and exit code 51.
func TestFloor_SmallOrOldMachinesAreRefusedBeforeAnyChange(t *testing.T) {
	for name, c := range map[string]struct{ meminfo, version, want string }{
		"small":       {"MemTotal:          49152 kB\n", "OpenSSH_9.2p1", "48 MiB of memory, and the login extension needs 64 MiB"},
		"old":         {"MemTotal:        2048000 kB\n", "OpenSSH_6.6.1p1, OpenSSL", "OpenSSH 6.6, and the login extension needs 7.4"},
		"just enough": {"MemFree: 1 kB\nMemTotal:          65536 kB\n", "OpenSSH_7.4p1", ""},
		"ten":         {"MemTotal:          65536 kB\n", "OpenSSH_10.0p2 Debian-7", ""},
		"unknown":     {"", "command not found", ""},
	} {
		root, f, w := machineRoot(t)
		put(t, root, "/proc/meminfo", c.meminfo)
		w.cfg.Run = func(ctx context.Context, argv ...string) ([]byte, error) {
			if slices.Equal(argv, []string{"ssh", "-V"}) {
				return []byte(c.version), nil
			}
			return f.run(ctx, argv...)
		}
		before := picture(t, root)
		err := w.Apply(context.Background(), wanted())
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		handbooktest.Said(t, fault.As(err).Public(), map[string]string{"small": "ExtensionUnsupported", "old": "ExtensionUnsupported.openssh"}[name])
		if err == nil || !strings.Contains(err.Error(), c.want) || ExitCode(err) != 51 || picture(t, root) != before {
			t.Errorf("%s: %v, exit code %d", name, err, ExitCode(err))
		}
	}
}
