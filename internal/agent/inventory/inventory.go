package inventory

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"sallyport/internal/agent/proc"
	"sallyport/internal/machine/protocol"
)

// Config says which machine is looked at.
type Config struct {
	Root      string // "/" on a machine
	Version   string // of this program
	Run       func(ctx context.Context, argv ...string) ([]byte, error)
	Processes func() ([]proc.Process, error)
}

const (
	maxFile = 1 << 20
	// first and last bound the ids of directory accounts, which are not the
	// machine's own.
	first, last = 1879048192, 1<<31 - 1
)

// Collect reads everything. What cannot be read is empty: an inventory is no
// reason to fail.
func Collect(ctx context.Context, c Config) protocol.Inventory {
	out, _ := c.Run(ctx, "sshd", "-T")
	settings := nonEmpty(string(out))
	accounts := c.accounts()
	return protocol.Inventory{System: c.system(ctx), Accounts: c.listed(accounts, keyFiles(settings)), Sudoers: c.sudoers(), SSHD: sshd(settings),
		Listeners: c.listeners(), Logins: c.logins(accounts)}
}

func nonEmpty(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// read reads a regular file of a bounded size and follows no link at its end; it
// never waits, whatever somebody has put in the file's place.
func (c Config) read(path string) ([]byte, error) {
	f, size, err := c.open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

func (c Config) open(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(filepath.Join(c.Root, path), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, 0, fmt.Errorf("%s is no regular file", path)
	}
	return f, info.Size(), nil
}

func (c Config) system(ctx context.Context) *protocol.InventorySystem {
	s := &protocol.InventorySystem{Distribution: "Linux", Agent: protocol.InventoryText(c.Version)}
	if b, err := os.ReadFile(filepath.Join(c.Root, "/etc/os-release")); err == nil { // a link, by os-release(5)
		for _, line := range nonEmpty(string(b)) {
			if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
				s.Distribution = protocol.InventoryText(strings.Trim(name, `"'`))
			}
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		s.Kernel, s.Architecture = protocol.InventoryText(unix.ByteSliceToString(u.Release[:])), protocol.InventoryText(unix.ByteSliceToString(u.Machine[:]))
	}
	out, _ := c.Run(ctx, "ssh", "-V")
	if lines := nonEmpty(string(out)); len(lines) > 0 {
		s.OpenSSH = protocol.InventoryText(lines[0])
	}
	return s
}

// accounts are the machine's own, as /etc/passwd has them.
func (c Config) accounts() (list []protocol.InventoryAccount) {
	b, err := c.read("/etc/passwd")
	if err != nil {
		return nil
	}
	for _, line := range nonEmpty(string(b)) {
		f := strings.Split(line, ":")
		if len(f) != 7 {
			continue
		}
		uid, err := strconv.ParseUint(f[2], 10, 32)
		if err == nil && (uid < first || uid > last) {
			list = append(list, protocol.InventoryAccount{Name: f[0], UID: uint32(uid), Home: f[5], Shell: f[6]})
		}
	}
	return list
}

// keyFiles are the patterns of sshd's authorizedkeysfile.
func keyFiles(settings []string) []string {
	for _, line := range settings {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "authorizedkeysfile" {
			return f[1:min(len(f), 1+protocol.MaxKeyFiles)]
		}
	}
	return []string{".ssh/authorized_keys"}
}

// listed are the accounts that somebody could log in to: with a shell, or with keys.
func (c Config) listed(all []protocol.InventoryAccount, patterns []string) *protocol.InventoryAccounts {
	out := &protocol.InventoryAccounts{List: []protocol.InventoryAccount{}}
	for _, a := range all {
		a.Keys = c.keys(a, patterns)
		a.Name, a.Home, a.Shell = protocol.InventoryText(a.Name), protocol.InventoryText(a.Home), protocol.InventoryText(a.Shell)
		shell := filepath.Base(a.Shell)
		switch {
		case len(a.Keys) == 0 && (shell == "nologin" || shell == "false" || shell == "sync"):
		case len(out.List) == protocol.MaxInventoryList:
			out.More++
		default:
			out.List = append(out.List, a)
		}
	}
	return out
}

func (c Config) keys(a protocol.InventoryAccount, patterns []string) (files []protocol.InventoryKeyFile) {
	for _, pattern := range patterns {
		if pattern == "none" {
			continue
		}
		path := strings.NewReplacer("%%", "%", "%h", a.Home, "%u", a.Name, "%U", strconv.FormatUint(uint64(a.UID), 10)).Replace(pattern)
		if !filepath.IsAbs(path) {
			path = filepath.Join(a.Home, path)
		}
		b, err := c.read(path)
		if err != nil {
			continue
		}
		f := protocol.InventoryKeyFile{Path: protocol.InventoryText(path), Fingerprints: []string{}}
		for rest := b; len(rest) > 0; {
			key, _, _, after, err := ssh.ParseAuthorizedKey(rest)
			if err != nil {
				break
			}
			rest = after
			if f.Keys++; len(f.Fingerprints) < protocol.MaxFingerprints {
				f.Fingerprints = append(f.Fingerprints, ssh.FingerprintSHA256(key))
			}
		}
		files = append(files, f)
	}
	return files
}

// sudoers reads the main file and the folders that it includes.
func (c Config) sudoers() *protocol.InventorySudoers {
	out := &protocol.InventorySudoers{Lines: []protocol.InventoryLine{}}
	seen := map[string]bool{}
	var add func(path string, depth int)
	add = func(path string, depth int) {
		b, err := c.read(path)
		if err != nil || seen[path] || depth > 8 {
			return
		}
		seen[path] = true
		for _, line := range nonEmpty(strings.ReplaceAll(string(b), "\\\n", " ")) {
			f := strings.Fields(line)
			switch {
			case len(f) == 2 && (f[0] == "@includedir" || f[0] == "#includedir"):
				for _, name := range c.inFolder(f[1]) {
					add(name, depth+1)
				}
			case len(f) == 2 && (f[0] == "@include" || f[0] == "#include"):
				add(f[1], depth+1)
			case line[0] == '#':
			case len(out.Lines) == protocol.MaxInventoryList:
				out.More++
			default:
				out.Lines = append(out.Lines, protocol.InventoryLine{File: protocol.InventoryText(path), Text: protocol.InventoryText(strings.Join(f, " "))})
			}
		}
	}
	add("/etc/sudoers", 0)
	return out
}

// inFolder lists what sudo reads of a folder: no name with a dot or a tilde at its
// end (sudoers(5)).
func (c Config) inFolder(dir string) (paths []string) {
	entries, err := os.ReadDir(filepath.Join(c.Root, dir))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if !strings.Contains(e.Name(), ".") && !strings.HasSuffix(e.Name(), "~") {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths
}

func sshd(settings []string) *protocol.InventorySSHD {
	out := &protocol.InventorySSHD{Settings: []string{}, More: max(len(settings)-protocol.MaxInventoryList, 0)}
	sorted := slices.Sorted(slices.Values(settings))
	for _, line := range sorted[:len(settings)-out.More] {
		out.Settings = append(out.Settings, protocol.InventoryText(line))
	}
	return out
}

// listeners are the sockets that processes of sshd listen on.
func (c Config) listeners() *protocol.InventoryListeners {
	out := &protocol.InventoryListeners{Addresses: []string{}}
	all, err := c.Processes()
	if err != nil {
		return out
	}
	mine := map[string]bool{}
	for _, p := range all {
		if !p.SSHD() || !p.Root() {
			continue
		}
		fds, _ := filepath.Glob(filepath.Join(c.Root, "/proc", strconv.Itoa(p.PID), "fd/*"))
		for _, fd := range fds {
			if link, err := os.Readlink(fd); err == nil {
				if inode, ok := strings.CutPrefix(link, "socket:["); ok {
					mine[strings.TrimSuffix(inode, "]")] = true
				}
			}
		}
	}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(filepath.Join(c.Root, table))
		if err != nil {
			continue
		}
		for line := range bytes.Lines(b) {
			f := strings.Fields(string(line))
			if len(f) > 9 && f[3] == "0A" && mine[f[9]] && len(out.Addresses) < protocol.MaxInventoryList { // TCP_LISTEN
				if address, ok := socketAddress(f[1]); ok {
					out.Addresses = append(out.Addresses, address)
				}
			}
		}
	}
	slices.Sort(out.Addresses)
	out.Addresses = slices.Compact(out.Addresses)
	return out
}
