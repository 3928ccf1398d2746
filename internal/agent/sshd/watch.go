package sshd

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// settle is how long changes are gathered: an editor or a package manager writes
// more than one file.
const settle = 100 * time.Millisecond

// Changes tells when something happened in a folder that holds a file of Mark's
// (inotify(7)). It is a hint: what counts is Mark. Where the kernel has no watches
// left it says nothing, and whoever waits for it has to look by the clock too. It
// ends with ctx.
func (w *Wiring) Changes(ctx context.Context) <-chan struct{} {
	hint := make(chan struct{}, 1)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return hint
	}
	events := os.NewFile(uintptr(fd), "inotify")
	w.arm(fd)
	stop := context.AfterFunc(ctx, func() { _ = events.Close() })
	go func() {
		defer stop()
		buffer := make([]byte, 64<<10)
		for {
			if _, err := events.Read(buffer); err != nil {
				return
			}
			pause := time.NewTimer(settle)
			select {
			case <-ctx.Done():
				pause.Stop()
				return
			case <-pause.C:
			}
			w.arm(fd) // a folder may be new
			select {
			case hint <- struct{}{}:
			default:
			}
		}
	}()
	return hint
}

// arm watches every folder; one that is watched already stays so.
func (w *Wiring) arm(fd int) {
	folders := map[string]bool{"/etc": true, "/etc/ssh": true, dropInFolder: true, pamFolder: true, filepath.Dir(sudoersPath): true, filepath.Dir(w.first(helperPaths()...)): true}
	if paths, err := w.sources(); err == nil {
		for _, p := range paths {
			folders[filepath.Dir(p)] = true
		}
	}
	for _, dir := range w.libraryFolders() {
		folders[dir], folders[filepath.Join(dir, "security")] = true, true
	}
	for dir := range folders {
		_, _ = unix.InotifyAddWatch(fd, w.at(dir), unix.IN_CLOSE_WRITE|unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVED_FROM|unix.IN_MOVED_TO|unix.IN_ATTRIB|unix.IN_ONLYDIR)
	}
}
