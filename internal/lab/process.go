package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
	"sallyport/internal/lab/inside"
	"sallyport/internal/labwire"
)

// Times of a machine's process.
const (
	bootTime = 10 * time.Second // for the stage to become init
	sshTime  = 10 * time.Second // from then on, for sshd to listen, on a busy computer
	stopTime = 5 * time.Second  // for init to end before it is killed
)

// systemdTimes is how many times longer the same takes with a whole system.
const systemdTimes = 3

// patience is how long to wait for a machine where one under netns gets d.
func (r record) patience(d time.Duration) time.Duration {
	if r.Backend == labwire.BackendNspawn {
		return systemdTimes * d
	}
	return d
}

// launcher starts machines from one thread that never ends: the kernel kills a
// child with PDEATHSIG when the thread that made it ends (prctl(2)).
type launcher struct {
	jobs chan func()
}

func newLauncher() *launcher {
	l := &launcher{jobs: make(chan func())}
	go func() {
		runtime.LockOSThread()
		// Machines inherit it, and those in a user namespace could not leave it. A
		// kernel without audit has none, and one may be told to keep it.
		_ = os.WriteFile("/proc/thread-self/loginuid", []byte("4294967295"), 0)
		for job := range l.jobs {
			job()
		}
	}()
	return l
}

// start starts a program on behalf of a user; 0 is the lab's own.
func (l *launcher) start(cmd *exec.Cmd, uid int) error {
	result := make(chan error)
	l.jobs <- func() {
		if uid == 0 {
			result <- cmd.Start()
			return
		}
		result <- onBehalf(uid, cmd.Start)
	}
	return <-result
}

// process is a running machine.
type process struct {
	cmd     *exec.Cmd
	ends    time.Duration // that it may take to end by itself
	ready   time.Time     // when init took over
	gone    chan struct{} // closed when every process of the machine has ended
	ssh     *forwarder
	sshPort int
}

// boot starts a machine's first process, connects its network and returns when
// the machine's init has taken over.
func (l *Lab) boot(ctx context.Context, r record) (*process, error) {
	p, spec, status, err := l.spawn(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = status.Close() }()
	err = l.confine(r, p.cmd.Process.Pid)
	if err == nil {
		err = l.fabric.attach(ctx, r, p.cmd.Process.Pid)
	}
	if err == nil {
		err = l.describeTo(spec, r, p.cmd.Process.Pid)
	}
	err = errors.Join(err, spec.Close())
	if err == nil {
		err = awaitInit(status, r.patience(bootTime))
	}
	if err == nil {
		err = l.openSSH(ctx, p, r)
	}
	if err != nil {
		p.kill()
		l.fabric.detach(ctx, r)
		return nil, fmt.Errorf("start machine %s: %w", r.ID, err)
	}
	return p, nil
}

// describeTo tells the waiting stage what to make. It finds the files of an
// nspawn machine mounted.
func (l *Lab) describeTo(spec io.Writer, r record, pid int) error {
	s := inside.Spec{Hostname: r.Name, Address: r.address()}
	if r.Backend == labwire.BackendNspawn {
		if err := l.mountFiles(r, pid); err != nil {
			return fmt.Errorf("mount the machine's files: %w", err)
		}
		s.Nspawn, s.MachineID, s.OwnProgram = true, r.ID, r.ownProgram()
		return inside.WriteSpec(spec, s)
	}
	s.Lower, s.Program = r.Lower, l.state.program()
	s.Upper, s.Work, s.Root = l.state.in(r.ID, "upper"), l.state.in(r.ID, "work"), l.state.in(r.ID, "root")
	return inside.WriteSpec(spec, s)
}

// spawn starts this program again as pid 1 of new namespaces. The child waits
// for its description on the first pipe and reports on the second.
func (l *Lab) spawn(r record) (*process, *os.File, *os.File, error) {
	attr, done, err := l.namespaces(r)
	if err != nil {
		return nil, nil, nil, err
	}
	defer done()
	specRead, specWrite, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	statusRead, statusWrite, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, errors.Join(err, specRead.Close(), specWrite.Close())
	}
	cmd := exec.Command("/proc/self/exe", "lab", "stage")
	cmd.Env = []string{}
	cmd.ExtraFiles = []*os.File{specRead, statusWrite}
	cmd.SysProcAttr = attr
	owner := 0
	if r.Backend == labwire.BackendNspawn {
		owner = r.owner(l.octet)
	}
	err = errors.Join(l.launcher.start(cmd, owner), specRead.Close(), statusWrite.Close())
	if err != nil {
		return nil, nil, nil, errors.Join(err, specWrite.Close(), statusRead.Close())
	}
	p := &process{cmd: cmd, ends: r.patience(stopTime), gone: make(chan struct{})}
	go func() {
		// The wait ends after the kernel has ended the whole pid namespace.
		_ = cmd.Wait()
		close(p.gone)
	}()
	return p, specWrite, statusRead, nil
}

// namespaces are those that a machine's stage starts in; done lets go of what
// only the start needs.
func (l *Lab) namespaces(r record) (attr *syscall.SysProcAttr, done func(), err error) {
	attr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
	}
	if r.Backend != labwire.BackendNspawn {
		return attr, func() {}, nil
	}
	if err := needNspawn(l.nspawn); err != nil {
		return nil, nil, err
	}
	groups, err := l.groups()
	if err != nil {
		return nil, nil, notStarted(err)
	}
	group, err := groups.make(r.ID)
	if err != nil {
		return nil, nil, fmt.Errorf("make the machine's control group: %w", err)
	}
	withUserNamespace(attr, group)
	return attr, func() { _ = group.Close() }, nil
}

// awaitInit reads what the stage or init reports.
func awaitInit(status *os.File, limit time.Duration) error {
	if err := status.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	report, err := io.ReadAll(io.LimitReader(status, 4096))
	if err != nil {
		return notStarted(fmt.Errorf("no init within %s: %w", limit, err))
	}
	if string(report) != inside.Ready {
		return notStarted(errors.New(strconv.QuoteToASCII(string(report))))
	}
	return nil
}

func notStarted(cause error) error {
	return fault.Wrap(cause, fault.Unavailable, "MachineNotStarted", "the machine does not start; the lab's own output says why").WithRemedy("if its files are damaged, delete and create it again")
}

// openSSH opens the machine's loopback address for its sshd.
func (l *Lab) openSSH(ctx context.Context, p *process, r record) error {
	listener, port, err := listenLoopback(ctx, r.loopback(l.octet), sshPorts())
	if err != nil {
		return err
	}
	p.sshPort = port
	p.ready = time.Now()
	p.ssh = forward(listener, func(ctx context.Context) (net.Conn, error) { return l.dialSSH(ctx, r, p.ready) })
	return nil
}

// dialSSH connects to a machine's sshd. Start returns when init is ready, so a
// refused connection may mean that sshd is on its way: it is asked again for
// as long as a boot takes, and not any longer.
func (l *Lab) dialSSH(ctx context.Context, r record, ready time.Time) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, r.patience(sshTime))
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := ready.Add(r.patience(sshTime)); ; {
		conn, err := l.fabric.dial(ctx, r.address()+":22")
		if !errors.Is(err, unix.ECONNREFUSED) || time.Now().After(deadline) {
			return conn, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// alive reports whether the machine's first process still runs.
func (p *process) alive() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// stop ends the machine: first by its init, then by force.
func (p *process) stop() {
	if p.ssh != nil {
		p.ssh.close()
	}
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-p.gone:
	case <-time.After(p.ends):
		p.kill()
	}
}

func (p *process) kill() {
	if p.ssh != nil {
		p.ssh.close()
	}
	_ = p.cmd.Process.Kill()
	<-p.gone
}
