package session

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestSweep_ReachesWhatForksWithoutEnd: a shell that is its own child, again and
// again, and ends the parent each time. Its pipe closes with the last of them, which
// says so if it was not killed.
func TestSweep_ReachesWhatForksWithoutEnd(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root: a process of another user is ended")
	}
	const nobodys = 1879040999
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	hop := exec.Command("/bin/sh", "-c", `hop() { [ $1 -lt 30000 ] || { echo; exit; }; hop $(($1 + 1)) & exit 0; }; echo; hop 0`)
	hop.Stdout, hop.Dir = write, "/"
	hop.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobodys, Gid: nobodys}}
	if err := hop.Run(); err != nil {
		t.Fatal(err)
	}
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := read.Read(make([]byte, 1)); n != 1 {
		t.Fatal(err)
	}
	if err := (Pidfd{}).Sweep(nobodys); err != nil {
		t.Fatal(err)
	}
	// The end of the file comes only when nobody has the pipe any more.
	if n, err := read.Read(make([]byte, 1)); n != 0 {
		t.Fatal(n, err)
	}
}

// TestSweep_NeverRoot asks the guard alone: without it the call would end everything
// on this computer.
func TestSweep_NeverRoot(t *testing.T) {
	for uid, want := range map[uint32]bool{0: false, 1 << 31: false, ^uint32(0): false, aliceUID: true} {
		if sweepable(uid) != want {
			t.Errorf("uid %d: %v", uid, !want)
		}
	}
}

// TestSweep_NotWithACapability: this thread is root's and has them all.
func TestSweep_NotWithACapability(t *testing.T) {
	if powerless() == nil {
		t.Fatal("a thread with capabilities would kill everybody's processes")
	}
}
