package lab

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The kernel gives each user so much of some things (namespaces(7), /proc/sys/user:
// 128 instances of inotify), and what a user namespace takes is counted at whoever
// made it, too. Were that root for every machine, half a dozen whole systems had
// nothing left to watch files with, and a person's service manager did not start.
// So each machine's namespace is made by a user of its own, from idBase on, where
// nobody of this computer is: whoever had that id here would be root there.
const ownerBase = 1<<32 - 1<<17

// owner is that user of a machine in the lab with an octet.
func (r record) owner(octet int) int { return ownerBase + octet<<8 + r.Host }

// onBehalf does something on this locked thread as another effective user with the
// capabilities of root; no other thread sees it (credentials(7)).
func onBehalf(uid int, do func() error) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var able [2]unix.CapUserData
	if err := unix.Capget(&header, &able[0]); err != nil {
		return fmt.Errorf("own capabilities: %w", err)
	}
	become := func(uid int) error {
		const same = ^uintptr(0)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); errno != 0 {
			return fmt.Errorf("become uid %d: %w", uid, errno)
		}
		return unix.Capset(&header, &able[0]) // the change has taken them away
	}
	if err := become(uid); err != nil {
		return errors.Join(err, become(0))
	}
	return errors.Join(do(), become(0))
}
