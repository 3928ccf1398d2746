package nobodytest

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// UID is nobody's.
const UID = 65534

// Do runs something on a thread that is nobody's meanwhile.
func Do(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := become(UID); err != nil {
			done <- err
			return
		}
		err := do()
		if err := become(0); err != nil {
			panic(err)
		}
		done <- err
	}()
	return <-done
}

// become changes this thread's effective uid.
func become(uid uintptr) error {
	const same = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uid, same); errno != 0 {
		return errno
	}
	return nil
}
