package inside

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// searchPath is what every unit gets as PATH.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Times of the init. A unit that ran for steadyRun is restarted at once; one
// that fails at once waits twice as long each time, up to longestWait.
const (
	firstWait   = 100 * time.Millisecond
	longestWait = 5 * time.Second
	steadyRun   = 10 * time.Second
	oneshotTurn = 10 * time.Second // a oneshot holds later units up for this long at most
	stopGrace   = 2 * time.Second
)

// Init is the first process of a machine. It returns when a SIGTERM has ended
// every other process; its end is the end of the machine.
func Init() error {
	if os.Getpid() != 1 {
		return errors.New("this command is the first process of a lab machine and is started by 'sally lab serve' only")
	}
	ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer cancel()
	status := inherited(statusFD, "status")
	if _, err := status.WriteString(Ready); err != nil {
		return err
	}
	if err := status.Close(); err != nil {
		return err
	}
	log, err := openLog(initLog)
	if err != nil {
		return err
	}
	in := &initProcess{log: log, waiting: map[int]chan<- int{}}
	in.say("init: started")
	go in.reap(ctx)
	in.prepare(ctx)
	in.startUnits(ctx)
	<-ctx.Done()
	in.end()
	return nil
}

// initProcess owns every child. One goroutine waits for all of them, because a
// first process is also handed the children of processes that ended before
// them.
type initProcess struct {
	log io.Writer

	mu      sync.Mutex
	waiting map[int]chan<- int // by pid: who wants its wait status
}

func (in *initProcess) say(format string, args ...any) {
	_, _ = fmt.Fprintf(in.log, "%s %s\n", time.Now().UTC().Format(time.RFC3339), fmt.Sprintf(format, args...))
}

// reap collects every child that ends, and hands the status of ours on.
func (in *initProcess) reap(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	for {
		for in.reapOne() {
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return // end() takes over
		}
	}
}

func (in *initProcess) reapOne() bool {
	// start holds the same lock from fork to registration, so that a child
	// that ends at once is known when its status is read.
	in.mu.Lock()
	defer in.mu.Unlock()
	var status unix.WaitStatus
	pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
	if err != nil || pid <= 0 {
		return errors.Is(err, unix.EINTR)
	}
	if wait := in.waiting[pid]; wait != nil {
		delete(in.waiting, pid)
		wait <- int(status)
	}
	return true
}

// prepare makes what sshd must find: its run directory and host keys of the
// machine's own. Ed25519 and ECDSA; an RSA key takes a second of start-up to
// find and no client of ours asks for one.
func (in *initProcess) prepare(ctx context.Context) {
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		in.say("init: %v", err)
	}
	for _, kind := range []string{"ed25519", "ecdsa"} {
		if err := in.hostKey(ctx, kind); err != nil {
			in.say("host-key-%s: %v", kind, err)
		}
	}
}

// hostKey makes one host key where there is none. The private key gets its
// name last, so that a machine which is stopped meanwhile makes a whole one at
// its next start.
func (in *initProcess) hostKey(ctx context.Context, kind string) error {
	path := "/etc/ssh/ssh_host_" + kind + "_key"
	if st, err := os.Lstat(path); err == nil && st.Size() > 0 {
		return nil
	}
	made := path + ".new"
	for _, old := range []string{made, made + ".pub"} { // of such a stop; ssh-keygen would ask
		if err := os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if status := in.run(ctx, unit{name: "host-key-" + kind, user: "root", argv: []string{"/usr/bin/ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", made}}); status != 0 {
		return errors.New("ssh-keygen did not make it")
	}
	return errors.Join(os.Rename(made+".pub", path+".pub"), os.Rename(made, path))
}

func (in *initProcess) startUnits(ctx context.Context) {
	text, err := os.ReadFile(unitsPath)
	if err != nil {
		in.say("init: %v", err)
		return
	}
	units, err := parseUnits(text)
	if err != nil {
		in.say("init: %s: %v", unitsPath, err)
		return
	}
	for _, u := range units {
		if u.condition != "-" {
			if _, err := os.Lstat(u.condition); err != nil {
				in.say("%s: not started: %v", u.name, err)
				continue
			}
		}
		first := make(chan struct{})
		go in.supervise(ctx, u, sync.OnceFunc(func() { close(first) }))
		if u.oneshot {
			select {
			case <-first:
			case <-time.After(oneshotTurn):
				in.say("%s: takes longer than %s; going on without it", u.name, oneshotTurn)
			case <-ctx.Done():
			}
		}
	}
}

// supervise runs a unit again and again: a service for ever, a oneshot until
// it succeeds. tried is called after each attempt.
func (in *initProcess) supervise(ctx context.Context, u unit, tried func()) {
	wait := firstWait
	for ctx.Err() == nil {
		begin := time.Now()
		status := in.run(ctx, u)
		tried()
		if u.oneshot && status == 0 {
			return
		}
		if time.Since(begin) >= steadyRun {
			wait = firstWait
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, longestWait)
	}
}

// run runs a unit once and returns its wait status; -1 when it could not start.
func (in *initProcess) run(ctx context.Context, u unit) int {
	done := make(chan int, 1)
	pid, err := in.start(u, done)
	if err != nil {
		in.say("%s: cannot start: %v", u.name, err)
		return -1
	}
	select {
	case status := <-done:
		if ws := unix.WaitStatus(status); ws.Signaled() {
			in.say("%s: pid %d ended by %s", u.name, pid, ws.Signal())
		} else {
			in.say("%s: pid %d ended with status %d", u.name, pid, ws.ExitStatus())
		}
		return status
	case <-ctx.Done():
		return -1
	}
}

func (in *initProcess) start(u unit, done chan<- int) (int, error) {
	credential, err := credentialOf(u.user)
	if err != nil {
		return 0, err
	}
	log, err := openLog(logDir + "/" + u.name + ".log")
	if err != nil {
		return 0, err
	}
	defer func() { _ = log.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer func() { _ = null.Close() }()
	in.mu.Lock()
	defer in.mu.Unlock()
	// ForkExec and not os/exec: the latter waits for its children itself.
	pid, err := syscall.ForkExec(u.argv[0], u.argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=" + searchPath, "LANG=C.UTF-8", "HOME=" + credential.home, "USER=" + u.user, "LOGNAME=" + u.user},
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Credential: &credential.Credential},
	})
	if err != nil {
		return 0, err
	}
	in.waiting[pid] = done
	return pid, nil
}

// openLog opens a log for appending, or /dev/null where that fails: a machine
// without a log is still a machine.
func openLog(path string) (*os.File, error) {
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	return log, nil
}

type credential struct {
	syscall.Credential
	home string
}

// credentialOf looks a local user up. The units' users are local by design; a
// static program reads /etc/passwd only.
func credentialOf(name string) (credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return credential{}, err
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return credential{}, err
	}
	return credential{Credential: syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, home: u.HomeDir}, nil
}

// end asks every process to end, then makes it.
func (in *initProcess) end() {
	in.mu.Lock() // no unit starts any more
	in.say("init: stopping")
	_ = unix.Kill(-1, unix.SIGTERM)
	deadline := time.Now().Add(stopGrace)
	for time.Now().Before(deadline) {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if errors.Is(err, unix.ECHILD) {
			return
		}
		if pid == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
	_ = unix.Kill(-1, unix.SIGKILL) // the kernel would, at our exit; this keeps the order plain
}
