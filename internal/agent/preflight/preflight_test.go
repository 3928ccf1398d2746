package preflight

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/agent/proc"
	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
)

// host is a computer in a folder that nothing speaks against, with changes.
type host struct {
	files    map[string]string
	answers  map[string]string // of getent and sshd, by command line
	uids     []uint32
	pidfd    error
	question Question
}

func good() host {
	return host{
		files: map[string]string{"/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nbob:x:1000:1000::/home/bob:/bin/sh\n", "/etc/group": "root:x:0:\nsallyport-identity:x:998:bob\n",
			"/etc/subuid": "bob:100000:65536\n", "/proc/meminfo": "MemTotal: 1 kB\nMemAvailable: 900000 kB\n", "/proc/self/uid_map": "         0          0 4294967295\n"},
		answers:  map[string]string{"sshd -V": "OpenSSH_9.2p1 Debian-2+deb12u3, OpenSSL 3.0\n"},
		question: Question{Domains: []string{"corp.example"}, Server: time.Unix(1e9, 0), Local: time.Unix(1e9, 0)},
	}
}

func (h host) refusals(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range h.files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host := Host{Root: root, Pidfd: func() error { return h.pidfd },
		Processes: func() (list []proc.Process, err error) {
			for _, uid := range append(h.uids, 1000) {
				list = append(list, proc.Process{PID: 7, Comm: "app", UIDs: [4]uint32{uid, uid, uid, uid}})
			}
			return list, nil
		},
		Run: func(_ context.Context, argv ...string) ([]byte, error) {
			if out, ok := h.answers[strings.Join(argv, " ")]; ok {
				return []byte(out), nil
			}
			return nil, errors.New("exit status 2")
		}}
	var lines []string
	for _, err := range host.Refusals(t.Context(), h.question) {
		if f := fault.As(err); f.Remedy == "" || f.Kind != fault.Precondition {
			t.Errorf("no way out: %v", err)
		}
		lines = append(lines, fault.As(err).Public())
	}
	return strings.Join(lines, "\n")
}

// Each thing that would hurt is refused with a sentence, and a host without any
// of them is not.
func TestRefusals(t *testing.T) {
	if got := good().refusals(t); got != "" {
		t.Fatalf("a host that nothing speaks against: %s", got)
	}
	for name, c := range map[string]struct {
		change func(h *host)
		says   string
		id     string // on the page
	}{
		"user with a uid of ours":  {func(h *host) { h.files["/etc/passwd"] += "app:x:1879048192:100::/:/bin/sh\n" }, "/etc/passwd: app has the id 1879048192", "IDInUse"},
		"user with a gid of ours":  {func(h *host) { h.files["/etc/passwd"] += "app:x:1001:2147483640::/:/bin/sh\n" }, "/etc/passwd: app has the id 2147483640", "IDInUse"},
		"group with a gid of ours": {func(h *host) { h.files["/etc/group"] += "app:x:2147483647:\n" }, "/etc/group: app has the id 2147483647", "IDInUse"},
		"range of a container":     {func(h *host) { h.files["/etc/subuid"] += "bob:1879000000:65536\n" }, "/etc/subuid gives bob the ids from 1879000000 on", "IDInUse.range"},
		"a process":                {func(h *host) { h.uids = []uint32{1879050000} }, "process 7 (app) runs as uid 1879050000", "IDInUse.process"},
		"a group's name":           {func(h *host) { h.files["/etc/group"] += "sallyport-admins:x:900:\n" }, "/etc/group has sallyport-admins", "NameInUse"},
		"a person's name":          {func(h *host) { h.files["/etc/passwd"] += "alice@corp.example:x:1002:1002::/:/bin/sh\n" }, "/etc/passwd has alice@corp.example", "NameInUse"},
		"an object id":             {func(h *host) { h.files["/etc/group"] += "0aaaaaaa-0000-4000-8000-000000000001:x:903:\n" }, "/etc/group has 0aaaaaaa-0000-4000-8000-000000000001", "NameInUse"},
		"a domain of another": {func(h *host) {
			h.answers["getent passwd administrator@corp.example"] = "administrator@corp.example:*:5:5::/:/bin/sh\n"
		}, "another source of users answers for administrator@corp.example", "OtherSource"},
		"a range of another": {func(h *host) { h.answers["getent group 1879048192"] = "CORP\\users:*:1879048192:\n" }, "another source of users answers for 1879048192", "OtherSource"},
		"a domain of sssd": {func(h *host) {
			h.files["/etc/sssd/sssd.conf"] = "[sssd]\nservices = nss\n[domain/CORP.example]\nid_provider = ad\n"
		}, "sssd answers for the domain corp.example", "OtherSource.sssd"},
		"a clock ahead":             {func(h *host) { h.question.Local = h.question.Local.Add(5*time.Minute + time.Second) }, "5m1s ahead of the server's", "ClockWrong"},
		"a clock behind":            {func(h *host) { h.question.Local = h.question.Local.Add(-6 * time.Minute) }, "6m0s behind the server's", "ClockWrong"},
		"an old OpenSSH":            {func(h *host) { h.answers["sshd -V"] = "unknown option -- V\nOpenSSH_7.3p1, OpenSSL 1.0.2k\n" }, "OpenSSH here is 7.3; 7.4 or newer is needed", "OpenSSHTooOld"},
		"no OpenSSH":                {func(h *host) { delete(h.answers, "sshd -V") }, "no OpenSSH server was found", "OpenSSHMissing"},
		"an old kernel":             {func(h *host) { h.pidfd = errors.New("function not implemented") }, "Linux 5.3 or newer is needed", "KernelTooOld"},
		"little memory":             {func(h *host) { h.files["/proc/meminfo"] = "MemAvailable: 50000 kB\n" }, "48 MiB of memory are available; the agent needs 64 MiB", "MemoryLow"},
		"a container with few uids": {func(h *host) { h.files["/proc/self/uid_map"] = "0 100000 65536\n" }, "this container was not given the ids 1879048192 to 2147483647", "IDsNotMapped"},
	} {
		t.Run(name, func(t *testing.T) {
			h := good()
			c.change(&h)
			if got := h.refusals(t); !strings.Contains(got, c.says) || strings.Count(got, "\n") > 0 {
				t.Errorf("%q does not say %q and nothing else", got, c.says)
			} else {
				handbooktest.Said(t, got, c.id)
			}
		})
	}
}

// Limits are where they are said to be, and 7.4 is on the right side of its own.
func TestRefusals_Boundaries(t *testing.T) {
	for name, change := range map[string]func(h *host){
		"five minutes": func(h *host) { h.question.Local = h.question.Local.Add(-5 * time.Minute) },
		"7.4":          func(h *host) { h.answers["sshd -V"] = "unknown option -- V\nOpenSSH_7.4p1, OpenSSL 1.0.2k\n" },
		"10.0":         func(h *host) { h.answers["sshd -V"] = "OpenSSH_10.0p2\n" },
		"ssh alone":    func(h *host) { delete(h.answers, "sshd -V"); h.answers["ssh -V"] = "OpenSSH_8.4p1\n" },
		"next to it":   func(h *host) { h.files["/etc/passwd"] += "app:x:1879048191:2147483648::/:/bin/sh\n" },
		"its own people": func(h *host) {
			h.question.Ours = true
			h.answers["getent passwd 1879048193"], h.uids = "alice@corp.example:*:1879048193:1879048193::/:/bin/sh\n", []uint32{1879048193}
		},
	} {
		h := good()
		change(&h)
		if got := h.refusals(t); got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
}
