package inventory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/agent/proc"
	"sallyport/internal/machine/protocol"
)

const testKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBtMZ9dYKN7VYl0ZJQHn6XnB8Nn5MLrjY3ZC4Yd0T5ru"

func put(t *testing.T, root, path, text string) {
	t.Helper()
	full := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func collect(t *testing.T, root string) protocol.Inventory {
	t.Helper()
	i := Collect(t.Context(), Config{Root: root, Version: "1", Processes: func() ([]proc.Process, error) {
		return []proc.Process{{PID: 7, Comm: "sshd"}, {PID: 8, Comm: "nginx"}}, nil
	}, Run: func(_ context.Context, argv ...string) ([]byte, error) {
		switch strings.Join(argv, " ") {
		case "sshd -T":
			return []byte("port 22\npermitrootlogin no\nauthorizedkeysfile .ssh/authorized_keys /etc/keys/%u\n"), nil
		case "ssh -V":
			return []byte("OpenSSH_9.2p1\n"), nil
		}
		return nil, errors.New("none")
	}})
	if err := i.Check(); err != nil {
		t.Fatalf("the server would refuse it: %v", err)
	}
	return i
}

func TestCollect(t *testing.T) {
	root := t.TempDir()
	put(t, root, "/etc/passwd", "root:x:0:0:root:/root:/bin/bash\nbackup:x:34:34::/var/backups:/usr/sbin/nologin\ngit:x:990:990::/srv/git:/usr/sbin/nologin\nalice@corp.example:x:1879048193:1::/home/a:/bin/sh\nbroken\n")
	put(t, root, "/root/.ssh/authorized_keys", "# mine\n"+testKey+" me@laptop\nfrom=\"10.0.0.0/8\" "+testKey+"\n")
	put(t, root, "/etc/keys/git", testKey+"\n")
	put(t, root, "/etc/sudoers", "# comment\nDefaults env_reset\nroot ALL=(ALL:ALL) \\\n ALL\n@includedir /etc/sudoers.d\n")
	put(t, root, "/etc/sudoers.d/ops", "%ops ALL=(ALL) NOPASSWD: ALL\n")
	put(t, root, "/etc/sudoers.d/README.txt", "not read\n")
	put(t, root, "/etc/os-release", "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n")
	put(t, root, "/proc/net/tcp", "  sl\n 0: 00000000:0016 00000000:0000 0A 0:0 0:0 0 0 0 4711 1\n 1: 0100007F:0050 00000000:0000 0A 0:0 0:0 0 0 0 4712 1\n 2: 0100007F:0016 0100007F:9999 01 0:0 0:0 0 0 0 4711 1\n")
	put(t, root, "/proc/net/tcp6", " 0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 4713 1\n")
	for fd, link := range map[string]string{"7/fd/3": "socket:[4711]", "7/fd/4": "socket:[4713]", "8/fd/3": "socket:[4712]"} {
		full := filepath.Join(root, "/proc", fd)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(link, full); err != nil {
			t.Fatal(err)
		}
	}
	i := collect(t, root)
	if got := fmt.Sprint(i.Accounts.List); got != "[{root 0 /bin/bash /root [{/root/.ssh/authorized_keys 2 ["+fingerprint(i)+" "+fingerprint(i)+"]}]} {git 990 /usr/sbin/nologin /srv/git [{/etc/keys/git 1 ["+fingerprint(i)+"]}]}]" {
		t.Errorf("accounts: %s", got)
	}
	if got := fmt.Sprint(i.Sudoers.Lines); got != "[{/etc/sudoers Defaults env_reset} {/etc/sudoers root ALL=(ALL:ALL) ALL} {/etc/sudoers.d/ops %ops ALL=(ALL) NOPASSWD: ALL}]" {
		t.Errorf("sudoers: %s", got)
	}
	if got := fmt.Sprintln(i.SSHD.Settings, i.Listeners.Addresses, i.System.Distribution, i.System.OpenSSH); got != "[authorizedkeysfile .ssh/authorized_keys /etc/keys/%u permitrootlogin no port 22] [0.0.0.0:22 [::1]:22] Debian GNU/Linux 12 (bookworm) OpenSSH_9.2p1\n" {
		t.Errorf("%s", got)
	}
	if i.Logins.Source != "none" {
		t.Errorf("%+v", i.Logins)
	}
}

func fingerprint(i protocol.Inventory) string { return i.Accounts.List[0].Keys[0].Fingerprints[0] }

// What somebody puts in a file's place is neither followed nor waited for, and no
// list grows beyond its bound.
func TestCollect_Hostile(t *testing.T) {
	root := t.TempDir()
	var b strings.Builder
	for n := range 400 {
		fmt.Fprintf(&b, "u%d:x:%d:1::/home/u%d:/bin/sh\n", n, 1000+n, n)
	}
	put(t, root, "/etc/passwd", b.String())
	put(t, root, "/etc/sudoers", strings.Repeat("a\x1b[2J ALL\n", 400)+"@include /etc/sudoers\n")
	put(t, root, "/secret", testKey+"\n")
	for n, place := range []func(path string) error{
		func(path string) error { return os.Symlink(filepath.Join(root, "/secret"), path) },
		func(path string) error { return syscall.Mkfifo(path, 0o600) },
		func(path string) error { return os.Mkdir(path, 0o700) },
		func(path string) error { return os.WriteFile(path, make([]byte, maxFile+1), 0o600) },
	} {
		path := filepath.Join(root, fmt.Sprintf("/home/u%d/.ssh/authorized_keys", n))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := place(path); err != nil {
			t.Fatal(err)
		}
	}
	i := collect(t, root)
	if len(i.Accounts.List) != protocol.MaxInventoryList || i.Accounts.More != 400-protocol.MaxInventoryList || len(i.Sudoers.Lines) != protocol.MaxInventoryList || i.Sudoers.More != 400-protocol.MaxInventoryList {
		t.Errorf("%d+%d accounts, %d+%d lines", len(i.Accounts.List), i.Accounts.More, len(i.Sudoers.Lines), i.Sudoers.More)
	}
	for n := range 4 {
		if keys := i.Accounts.List[n].Keys; len(keys) != 0 {
			t.Errorf("%d was read: %v", n, keys)
		}
	}
}

func TestLogins(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Log("records of this architecture are not read")
		return
	}
	accounts := []protocol.InventoryAccount{{Name: "root", UID: 0}, {Name: "bob", UID: 1000}, {Name: "never", UID: 5}}
	at := time.Unix(1_700_000_000, 0).UTC()
	root := t.TempDir()
	last := make([]byte, 1001*lastlogSize)
	binary.LittleEndian.PutUint32(last[1000*lastlogSize:], uint32(at.Unix()))
	copy(last[1000*lastlogSize+4:], "pts/0")
	copy(last[1000*lastlogSize+36:], "10.0.0.9")
	put(t, root, lastlogPath, string(last))
	if got := (Config{Root: root}).logins(accounts); got.Source != lastlogPath || len(got.List) != 1 || got.List[0] != (protocol.InventoryLogin{Name: "bob", At: at, From: "10.0.0.9", TTY: "pts/0"}) {
		t.Errorf("lastlog: %+v", got)
	}
	root = t.TempDir()
	var log []byte
	for n, name := range []string{"bob", "stranger", "bob"} {
		r := make([]byte, wtmpSize)
		binary.LittleEndian.PutUint16(r, userProcess)
		copy(r[8:], "pts/1")
		copy(r[44:], name)
		copy(r[76:], fmt.Sprintf("10.0.0.%d", n))
		binary.LittleEndian.PutUint32(r[340:], uint32(at.Unix())+uint32(n))
		log = append(log, r...)
	}
	put(t, root, wtmpPath, string(log)+"torn")
	if got := (Config{Root: root}).logins(accounts); got.Source != wtmpPath || len(got.List) != 1 || got.List[0] != (protocol.InventoryLogin{Name: "bob", At: at.Add(2 * time.Second), From: "10.0.0.2", TTY: "pts/1"}) {
		t.Errorf("wtmp: %+v", got)
	}
}

func TestSocketAddress(t *testing.T) {
	for text, want := range map[string]string{"0100007F:0016": "127.0.0.1:22", "00000000000000000000000001000000:1F90": "[::1]:8080", "x:1": "", "01:0016": "", "0100007F": ""} {
		if got, _ := socketAddress(text); got != want {
			t.Errorf("%s is %q", text, got)
		}
	}
}
