//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// listenInside opens a TCP listener in the network namespace of process pid. Its
// thread comes back: one that ended would take along the server or the lab, which
// the kernel kills when the thread that started them ends (PR_SET_PDEATHSIG,
// prctl(2)), and any thread may have been that one.
func listenInside(pid int, address string) (net.Listener, error) {
	type opened struct {
		l   net.Listener
		err error
	}
	done := make(chan opened, 1)
	go func() {
		runtime.LockOSThread()
		back, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- opened{err: err}
			runtime.UnlockOSThread()
			return
		}
		defer back.Close()
		l, err := listenFrom(pid, address)
		if returned := unix.Setns(int(back.Fd()), unix.CLONE_NEWNET); returned != nil {
			done <- opened{err: fmt.Errorf("back to this computer's network: %w", returned)}
			select {} // neither another goroutine's thread nor ended
		}
		runtime.UnlockOSThread()
		done <- opened{l, err}
	}()
	o := <-done
	return o.l, o.err
}

// listenFrom leaves the thread in the namespace.
func listenFrom(pid int, address string) (net.Listener, error) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	return net.Listen("tcp", address)
}
