//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/internal/agent"
	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/root"
)

// clockMode makes this program the root part of the agent, with a clock that is
// wrong by so much. The agent itself has no such word.
const clockMode = "SALLY_E2E_CLOCK"

// asAgent is `sally agent root` but for the clock.
func asAgent() int {
	off, err := time.ParseDuration(os.Getenv(clockMode))
	if err == nil {
		err = runAgent(off)
	}
	log.Print(err)
	return 1
}

func runAgent(off time.Duration) error {
	pins, err := pin.Load("/", 0)
	if err != nil {
		return err
	}
	network, err := systemUser("sallyport-agent")
	if err != nil {
		return err
	}
	helper, err := systemUser("sallyport-ssh")
	if err != nil {
		return err
	}
	cfg := agent.RootConfig(pins, log.Printf, nil)
	cfg.Now = func() time.Time { return time.Now().Add(off) }
	s, err := root.New(cfg)
	if err != nil {
		return err
	}
	return s.Run(context.Background(), root.Peers{Network: network, Helper: helper})
}

func systemUser(name string) (uint32, error) {
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(passwd)) {
		if f := strings.Split(line, ":"); f[0] == name {
			uid, err := strconv.ParseUint(f[2], 10, 32)
			return uint32(uid), err
		}
	}
	return 0, errors.New("no user " + name)
}

// clockRow is how wrong the machine's clock is, and what ours read. sshd judges a
// certificate by the same clock, before anybody of ours is asked: what it refuses
// shows OpenSSH's own words.
type clockRow struct {
	name, fake string // libfaketime's word
	off        time.Duration
	ssh, local string // what ours meet by ssh; by sudo and su
}

func clockRows() []clockRow {
	const none, wrong = "Permission denied (publickey", "the clock of this machine is wrong (it is "
	return []clockRow{
		{"a day back", "-1d", -24 * time.Hour, none, wrong + "at least 2"},
		{"a day ahead", "+1d", 24 * time.Hour, none, wrong + "about 2"},
		{"6 minutes back", "-6m", -6 * time.Minute, none, wrong + "at least "},
		// The newest signed time may be 5 minutes old when it arrives, so what is
		// ahead of it by 6 is not yet known to be wrong by more than 5.
		{"6 minutes ahead", "+6m", 6 * time.Minute, in, in},
	}
}

// clocks sets the machine's clock wrong for sshd (libfaketime) and for the agent
// (its injected clock); the computer's own is never touched. The others log in
// as ever; ours are in, or read that the clock is wrong.
func (m *matrixVM) clocks(t *testing.T) {
	m.carry(t, "/usr/local/matrix/clock-sally")
	key := certificate(t, m.ours)
	for _, row := range clockRows() {
		t.Run(row.name, func(t *testing.T) {
			undo := m.instead(t, "#!/bin/sh\n[ $2 != root ] || "+clockMode+"="+row.off.String()+" exec /usr/local/matrix/clock-sally agent root\nexec /usr/local/matrix/sally \"$@\"\n")
			defer undo()
			argv := m.argv("faketime", "-f", row.fake, "/usr/sbin/sshd", "-D", "-e", "-p", "2222", "-o", "PidFile=none")
			sshd := exec.Command(argv[0], argv[1:]...)
			if err := sshd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { m.kill(t, "sshd", "-p 2222"); _ = sshd.Wait() }()
			m.working(t)
			m.clockCells(t, row, key)
		})
	}
}

func (m *matrixVM) clockCells(t *testing.T, row clockRow, key identity) {
	t.Helper()
	if err := until(20*time.Second, func() error {
		if r := m.sshInside(localByKey, "-i", m.key); !strings.Contains(r.out, saw) {
			return errors.New(r.String())
		}
		return nil
	}); err != nil {
		t.Errorf("%s: %v", localByKey, err)
	}
	for name, options := range map[string][]string{
		rootByKey: {"-i", m.key}, foreignName: {"-i", m.key},
		localByWord: {"-o", "BatchMode=no", "-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1"},
	} {
		if r := m.sshInside(name, options...); !strings.Contains(r.out, saw) {
			t.Errorf("%s is not in: %s", name, r)
		}
	}
	for way, r := range map[string]result{"ssh": m.sshInside(m.ours.name, key.options()...), "sudo": sudoWay(m, row.name, m.ours.name).result, "su": suWay(m, row.name, m.ours.name).result} {
		want := row.local
		if way == "ssh" {
			want = row.ssh
		}
		text := r.out + r.err
		if isIn := strings.Contains(text, saw); isIn != (want == in) || !strings.Contains(text, want) {
			t.Errorf("ours by %s: want %q: %s", way, want, r)
		}
	}
}

// sshInside is ssh from within the machine's network, to the sshd with the wrong
// clock.
func (m *matrixVM) sshInside(name string, options ...string) result {
	args := []string{"-t", strconv.Itoa(m.pid), "-n", "ssh", "-F", "none", "-p", "2222", "-l", name}
	args = append(args, options...)
	args = append(args, "-o", quickKex, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=10", "127.0.0.1", proof)
	cmd := exec.Command("nsenter", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + m.dir, "SSH_ASKPASS=" + m.askpw, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none"}
	return captureFor(cmd, crowded(30*time.Second))
}

// carry copies this very program into the machine. A program that is linked with
// this computer's C library does not start on a system with an older one.
func (m *matrixVM) carry(t *testing.T, path string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "0"}) {
		t.Fatal("this test program runs on every system only if it is static: set CGO_ENABLED=0 for go test, as make test does")
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	argv := m.argv("/bin/sh", "-ec", fmt.Sprintf("cat >%[1]s; chmod 755 %[1]s", path))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(program)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
}
