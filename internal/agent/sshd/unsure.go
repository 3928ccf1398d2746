package sshd

import (
	"context"
	"errors"
	"os/exec"
	"slices"

	"golang.org/x/sys/unix"
)

// Unsure reports whether an error of Check says nothing of the configuration: a
// program could not be started just now, was killed or ran out of its time, or a
// file could not be opened for want of memory or descriptors.
func Unsure(err error) bool {
	var exit *exec.ExitError
	if errors.As(err, &exit) && !exit.Exited() {
		return true
	}
	moment := []error{context.DeadlineExceeded, context.Canceled, exec.ErrWaitDelay, unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE, unix.ETXTBSY}
	return slices.ContainsFunc(moment, func(e error) bool { return errors.Is(err, e) })
}

// worst is the fault of several that counts: one in which nobody asks us, then any
// other, and only then what says nothing.
func worst(found []error) error {
	for _, is := range []func(error) bool{Open, func(err error) bool { return !Unsure(err) }} {
		if i := slices.IndexFunc(found, is); i >= 0 {
			return found[i]
		}
	}
	if len(found) > 0 {
		return found[0]
	}
	return nil
}
