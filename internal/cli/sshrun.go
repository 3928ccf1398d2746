package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"sallyport/internal/cli/client"
)

// sshFailed is how OpenSSH's client reports an error of its own.
const sshFailed = 255

// agentAway is how long a machine agent may be silent before we say so; it
// polls at least once a minute.
const agentAway = 3 * time.Minute

// endAgain is how long a program has to end before it is told again.
const endAgain = 2 * time.Second

// runProgram runs a program on our own streams and waits for it. Signals that
// would end us first are passed on, so that temporary keys are always removed;
// the terminal sends its interrupts to the program by itself.
//
// OpenSSH before 9.3 loses a signal that comes just before it waits in poll(2),
// and would then stay for as long as its connection: hence Program.Insist.
func (c Config) runProgram(_ context.Context, p Program) (int, error) {
	cmd := exec.Command(p.Path, p.Args...) //nolint:gosec,noctx // every argument passed an alphabet; it ends when it ends
	if len(p.Env) > 0 {
		cmd.Env = append(os.Environ(), p.Env...)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	again := time.NewTicker(endAgain)
	defer again.Stop()
	var ended syscall.Signal
	for {
		select {
		case s := <-signals:
			if s == syscall.SIGTERM || s == syscall.SIGHUP {
				_ = cmd.Process.Signal(s)
				ended, _ = s.(syscall.Signal)
			}
		case <-again.C:
			if ended != 0 && p.Insist {
				_ = cmd.Process.Signal(ended)
			}
		case err := <-done:
			if ended != 0 {
				return 128 + int(ended), nil
			}
			return exitCode(err)
		}
	}
}

func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case !errors.As(err, &exit):
		return 0, err
	case exit.ExitCode() >= 0:
		return exit.ExitCode(), nil
	}
	if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		return 128 + int(st.Signal()), nil
	}
	return exitFailure, nil
}

// explain says what is known about a connection that ssh could not make or that
// the machine refused. A machine that refuses prints its own reason; sshd itself
// gives none, and there the certificate and the server know more.
func (a *app) explain(ctx context.Context, s *client.Session, t target, l login) {
	a.say("sally: %s", a.reason(ctx, s, t, l))
	if l.cert == nil {
		return
	}
	a.say("sally: the certificate of %s is valid until %s; correlation id %s. An administrator finds it with: sally audit list --correlation-id %s", l.name,
		l.cert.until().Local().Format("2006-01-02 15:04:05"), l.cert.correlationID(), l.cert.correlationID())
}

func (a *app) reason(ctx context.Context, s *client.Session, t target, l login) string {
	if l.cert != nil && a.cfg.Now().After(l.cert.until()) {
		return "the certificate has run out meanwhile. Run the command again."
	}
	if l.knownHosts != "" {
		if text := a.impostor(ctx, s, t); text != "" {
			return text
		}
	}
	where := t.address
	if !t.id.IsZero() {
		where = t.called()
	} else if found, ok := a.byAddress(ctx, s, t); ok {
		if err := found.ready(l.cert == nil); err != nil {
			return "the machine that is known with the address " + t.address + ": " + sentence(err)
		}
	}
	if f := t.again(ctx, s); f != nil {
		t.known = f
		if err := t.ready(l.cert == nil); err != nil {
			return sentence(err)
		}
		p := f.Properties
		switch seen := p.Agent.LastSeen; {
		case seen.IsZero():
			return "the agent of " + where + " has never reported to the server. Run: " + t.showWords()
		case a.cfg.Now().Sub(seen) > agentAway:
			return "the agent of " + where + " was last seen " + seen.Local().Format("2006-01-02 15:04:05") + "; without it the machine knows no new grants. Its local administrator can run there: sally agent doctor"
		case p.Snapshot.Acknowledged < p.Snapshot.Version:
			return where + " has not taken over the latest change of grants yet. Try again in a moment."
		}
	}
	text := "ssh could not log in to " + where + ". If a reason stands above, that is it."
	if l.cert == nil {
		return text
	}
	check := "sally role assignment list --all --assignee " + l.name
	if t.principal == "" {
		return text + " Otherwise check the address and that the machine is reachable, then your role: " + check
	}
	return text + " \"Permission denied\" without a reason comes from sshd itself: the login extension is not installed there, the machine's login service does not answer or its clock is wrong (its local administrator can run: sally agent status), or the certificate is not for this account. Your roles: " + strings.TrimSpace(check)
}
