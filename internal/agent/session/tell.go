package session

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/internal/agent/proc"
)

// tell writes the targets' messages where their people read them: to terminals,
// and to the standard error of commands without one. It never waits for a
// reader: one that has stopped reading loses the message. It reports whether
// anybody was told.
func (e *Ender) tell(s Scene, targets []Target) bool {
	told := map[string]bool{}
	any := false
	for _, t := range targets {
		var all []proc.Process
		for _, p := range s.list {
			if t.hears(s, p) {
				all = append(all, p)
			}
		}
		carried := e.carried(all)
		for _, p := range all {
			if name, ok := terminal(p); ok && !told[name] {
				told[name] = true
				any = write(filepath.Join(e.cfg.Terminals, name), unix.S_IFCHR, 0, "\r\n"+t.Message+"\r\n") || any
				continue
			}
			if pipe := e.link(p.PID, "2"); carried[pipe] && !told[pipe] {
				told[pipe] = true
				any = write(e.descriptor(p.PID, "2"), unix.S_IFIFO, inode(pipe), t.Message+"\n") || any
			}
		}
	}
	return any
}

// terminal names a process's terminal below /dev/pts.
func terminal(p proc.Process) (string, bool) {
	const ptyMajor = 136 // devpts(5): majors 136 to 143
	major, minor := int(unix.Major(uint64(p.TTY))), int(unix.Minor(uint64(p.TTY)))
	if p.TTY == 0 || major < ptyMajor || major > ptyMajor+7 {
		return "", false
	}
	return strconv.Itoa((major-ptyMajor)*256 + minor), true
}

// carried are the pipes that the sshd processes among these hold: what is
// written into one of them reaches the client, and nothing else does. So a file,
// a device or a pipe of the person's own, made his standard error, is not
// written to.
func (e *Ender) carried(all []proc.Process) map[string]bool {
	pipes := map[string]bool{}
	for _, p := range all {
		if !p.SSHD() {
			continue
		}
		descriptors, _ := os.ReadDir(e.descriptor(p.PID, ""))
		for _, d := range descriptors {
			if link := e.link(p.PID, d.Name()); inode(link) != 0 {
				pipes[link] = true
			}
		}
	}
	return pipes
}

func (e *Ender) descriptor(pid int, fd string) string {
	return filepath.Join(e.cfg.ProcFolder, strconv.Itoa(pid), "fd", fd)
}

func (e *Ender) link(pid int, fd string) string {
	link, _ := os.Readlink(e.descriptor(pid, fd))
	return link
}

// inode reads the number out of "pipe:[N]"; 0 for anything else.
func inode(link string) uint64 {
	text, ok := strings.CutPrefix(link, "pipe:[")
	n, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
	if !ok || err != nil || link != fmt.Sprintf("pipe:[%d]", n) {
		return 0
	}
	return n
}

// write writes to a file of one kind, and, where a number is given, to exactly
// that inode: what a name leads to may have changed since it was read.
func write(path string, kind uint32, number uint64, text string) bool {
	flags := unix.O_WRONLY | unix.O_NOCTTY | unix.O_NONBLOCK | unix.O_CLOEXEC
	if number == 0 {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Open(path, flags, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != kind || number != 0 && st.Ino != number {
		return false
	}
	_, err = unix.Write(fd, []byte(text))
	return err == nil
}
