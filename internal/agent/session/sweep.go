package session

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// sweep ends at one instant what is of the persons of whole targets. A process
// that forks and exits a thousand times a second is in no list: each of its ids is
// gone when it is looked at. Targets that spare a login have none of this.
func (e *Ender) sweep(targets []Target, all []progress) error {
	for i, t := range targets {
		if !t.Whole() {
			continue
		}
		if err := e.cfg.Signaller.Sweep(t.UID); err != nil {
			return fmt.Errorf("everything of uid %d: %w", t.UID, err)
		}
		all[i].swept = true
	}
	return nil
}

// Whole reports whether the target is everything of a uid, just now.
func (t Target) Whole() bool {
	return t.Origins == nil && len(t.Spare) == 0 && !t.Elevated && len(t.noted()) == 0
}

// Sweep kills all processes whose real or saved uid is uid, in one call of the
// kernel's, which no fork(2) escapes: kill(2) with -1, by a thread that has become
// that user. It refuses uid 0, for whom that would be everything.
func (Pidfd) Sweep(uid uint32) error {
	done := make(chan error)
	go kill(uid, done)
	return <-done
}

// kill never unlocks its thread, which therefore ends with it. The process's first
// thread would stay, as the user that it has become, so that one is left alone.
func kill(uid uint32, done chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		other := make(chan error)
		go kill(uid, other)
		done <- <-other
		runtime.UnlockOSThread()
		return
	}
	done <- killAs(uid)
}

// sweepable refuses root, and what setresuid(2) takes for "no change".
func sweepable(uid uint32) bool { return int32(uid) > 0 }

// killAs changes the calling thread for good: credentials are a thread's, and
// without root's go its capabilities (capabilities(7)).
func killAs(uid uint32) error {
	if !sweepable(uid) {
		return unix.EINVAL
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
		return errno
	}
	if is, _, _ := unix.RawSyscall(unix.SYS_GETEUID, 0, 0, 0); is != uintptr(uid) {
		return unix.EPERM
	}
	if err := powerless(); err != nil {
		return err
	}
	_, _, errno := unix.RawSyscall(unix.SYS_KILL, ^uintptr(0), uintptr(unix.SIGKILL), 0)
	if errno != 0 && errno != unix.ESRCH {
		return errno
	}
	return nil
}

// powerless refuses a thread that has kept a capability, as the securebits may
// have it: with CAP_KILL the call would end everybody.
func powerless() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var held [2]unix.CapUserData
	if err := unix.Capget(&header, &held[0]); err != nil {
		return err
	}
	if held[0].Effective|held[1].Effective != 0 {
		return unix.EPERM
	}
	return nil
}
