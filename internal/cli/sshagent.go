package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"sallyport/internal/cli/client"
	"sallyport/internal/cli/output"
	"sallyport/internal/cli/sshagent"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// mintTime is how long ssh waits for a certificate of the agent's at most; sshd
// gives a login two minutes.
const mintTime = 20 * time.Second

func (a *app) sshAgent() *cobra.Command {
	flags := []flag{{name: "socket", short: "a", usage: "Socket to answer on; one in a temporary folder by default"},
		{name: "sh", short: "s", kind: 'b', usage: "Print the address for a Bourne shell"}, {name: "csh", short: "c", kind: 'b', usage: "Print the address for a C shell"}}
	cmd := leafFor("agent", "Answer ssh as an agent that makes a certificate for each machine.", flags, a.runAgent)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
			return usageError{"unrecognized arguments: " + strings.Join(args, " ") + "\nA command goes after --"}
		}
		return nil
	}
	cmd.Long = "Answer ssh (OpenSSH 8.9 and newer) as an ssh-agent. It holds no key until ssh has connected to one of your machines; then it makes a key in\nmemory and gets a certificate that is good for that machine alone. It stays in the foreground, until it is interrupted or its command ends."
	cmd.Example = "  sally ssh agent -- ssh -l alice@example.com ADDRESS\n  sally ssh agent --socket ~/.sallyport/agent.sock"
	return cmd
}

func (a *app) runAgent(ctx context.Context, in values) error {
	if in.on("sh") && in.on("csh") {
		return usageError{"usage error: give -s or -c"}
	}
	command := in.cmd.Flags().Args()
	program := ""
	if len(command) > 0 {
		var err error
		if program, err = exec.LookPath(command[0]); err != nil {
			return fault.Wrap(err, fault.NotFound, "Command", "the program %s was not found.", output.CleanLine(command[0]))
		}
	}
	s, err := a.identity()
	if err != nil {
		return err
	}
	listener, remove, err := agentSocket(in.text("socket"))
	if err != nil {
		return err
	}
	defer remove()
	who := &agentIdentity{a: a, s: s, known: map[string]provenHost{}}
	agent := sshagent.New(sshagent.Config{Identity: who, Rand: a.cfg.Rand, Now: a.cfg.Now, Wait: a.cfg.Wait, MintTime: mintTime, Log: func(t string) { a.say("sally: %s", t) }})
	path := listener.Addr().String()
	if program == "" {
		ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		_, _ = fmt.Fprintln(a.cfg.Stdout, shellLine(path, in.on("csh") || !in.on("sh") && strings.HasSuffix(a.cfg.Env("SHELL"), "csh")))
		return agent.Serve(ctx, listener)
	}
	return a.withAgent(ctx, agent, listener, program, command[1:])
}

// withAgent serves for as long as the command runs.
func (a *app) withAgent(ctx context.Context, agent *sshagent.Agent, listener net.Listener, program string, args []string) error {
	serving, end := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		if err := agent.Serve(serving, listener); err != nil {
			a.say("sally: the agent has ended: %s", sentence(err))
		}
	})
	code, err := a.cfg.Run(ctx, Program{Path: program, Args: args, Env: []string{"SSH_AUTH_SOCK=" + listener.Addr().String()}})
	end()
	done.Wait()
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "Command", "cannot run %s: %v", program, err)
	}
	if code != 0 {
		return exitError{code}
	}
	return nil
}

func shellLine(path string, csh bool) string {
	if csh {
		return "setenv SSH_AUTH_SOCK '" + path + "';"
	}
	return "SSH_AUTH_SOCK='" + path + "'; export SSH_AUTH_SOCK;"
}

// agentSocket listens on a socket that only we may connect to, and returns what
// removes it. The socket of an agent that has died is replaced; one that
// answers, or anything else of that name, is left alone.
func agentSocket(path string) (net.Listener, func(), error) {
	remove := func() {}
	if path == "" {
		folder, err := os.MkdirTemp("", "sallyagent")
		if err != nil {
			return nil, nil, fault.Wrap(err, fault.Forbidden, "TemporaryFolder", "no folder for the agent's socket can be made: %v", err).WithRemedy("Give --socket PATH.")
		}
		remove = func() { _ = os.RemoveAll(folder) }
		path = filepath.Join(folder, "agent.sock")
	}
	l, err := listenPrivately(path)
	if err != nil {
		remove()
		return nil, nil, err
	}
	return l, func() { _ = l.Close(); remove() }, nil
}

func listenPrivately(path string) (net.Listener, error) {
	path, err := absolute(path)
	if err == nil {
		_, err = sshPath(path)
	}
	if err != nil {
		return nil, err
	}
	if err := clearDeadSocket(path); err != nil {
		return nil, err
	}
	mask := syscall.Umask(0o177) // from its first moment the socket is nobody else's
	l, err := net.Listen("unix", path)
	syscall.Umask(mask)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "Socket", "cannot make the socket %s: %v", path, err).WithRemedy("Give another --socket: in a folder of yours, at most 107 characters long.")
	}
	return l, nil
}

func clearDeadSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "Socket", "cannot look at %s: %v", path, reason(err))
	}
	if st, ok := info.Sys().(*syscall.Stat_t); info.Mode().Type() != fs.ModeSocket || !ok || int(st.Uid) != os.Geteuid() {
		return fault.New(fault.Conflict, "Socket", "%s exists and is no socket of yours; it is left as it is.", path).WithRemedy("Give another --socket.")
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return fault.New(fault.Conflict, "Socket", "an agent answers on %s already.", path).WithRemedy("Use it: SSH_AUTH_SOCK=%s", path)
	} else if !errors.Is(err, syscall.ECONNREFUSED) {
		return fault.Wrap(err, fault.Conflict, "Socket", "%s is there and cannot be asked: %v", path, err)
	}
	return os.Remove(path)
}

// agentIdentity is the signed-in person, for the agent.
type agentIdentity struct {
	a *app
	s *client.Session

	mu    sync.Mutex
	known map[string]provenHost // by plain host key
}

// provenHost is a machine whose host key a certificate has vouched for.
type provenHost struct {
	machine string
	until   time.Time
}

// SignedIn looks at the profile as it is now: another command may have signed
// out since.
func (i *agentIdentity) SignedIn() error {
	p, err := i.a.folder.Profile()
	if err != nil {
		return err
	}
	me := i.s.Account()
	if slices.ContainsFunc(p.Accounts, func(a client.Account) bool {
		return a.Server == me.Server && a.User == me.User && a.TenantID == me.TenantID
	}) {
		return nil
	}
	return fault.New(fault.Unauthenticated, "SignedOut", "%s is not signed in any more, so the agent offers nothing.", me.User.Name).WithRemedy("Please run: sally login")
}

// Machine accepts a host certificate of this directory, and the plain key that
// one of them has vouched for and still does.
func (i *agentIdentity) Machine(ctx context.Context, key ssh.PublicKey) (string, error) {
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return i.plain(key)
	}
	server := i.s.Server()
	principal := hostPrincipal(key, server.Manifest(), i.a.cfg.Now)
	if principal == "" && ofDirectory(cert, server.Manifest()) && server.Renew(ctx) == nil { // of a host CA that is newer than our list, perhaps
		principal = hostPrincipal(key, server.Manifest(), i.a.cfg.Now)
	}
	if principal == "" {
		return "", i.strange(key)
	}
	machine, err := machineOf(principal)
	if err != nil {
		return "", err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.known[string(cert.Key.Marshal())] = provenHost{machine, time.Unix(int64(cert.ValidBefore), 0)} //nolint:gosec // checked
	return machine, nil
}

func (i *agentIdentity) plain(key ssh.PublicKey) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if h, ok := i.known[string(key.Marshal())]; ok && i.a.cfg.Now().Before(h.until) {
		return h.machine, nil
	}
	return "", i.strange(key)
}

// ofDirectory reports whether a certificate claims to be of one of our machines.
func ofDirectory(cert *ssh.Certificate, m protocol.Manifest) bool {
	if cert.CertType != ssh.HostCert || len(cert.ValidPrincipals) != 1 {
		return false
	}
	_, domain, found := strings.Cut(cert.ValidPrincipals[0], ".machine.")
	return found && slices.Contains(m.Domains, domain)
}

// strange says what is wrong with a host key or its certificate.
func (i *agentIdentity) strange(key ssh.PublicKey) error {
	m, now := i.s.Server().Manifest(), i.a.cfg.Now()
	f := fault.New(fault.Forbidden, "HostKey", "A host has shown %s: the agent offers it nothing.", hostShown(key, m, now))
	cert, ok := key.(*ssh.Certificate)
	switch {
	case !ok:
		return f.WithRemedy("If it is one of your machines, your known_hosts holds its plain key: let sally ssh config --identity-agent write the configuration, or remove the line (ssh-keygen -R HOST).")
	case cert.ValidBefore <= uint64(max(now.Unix(), 0)):
		return f.WithRemedy("A machine's agent renews its certificate as long as it reaches the server; its local administrator can run there: sally agent doctor")
	}
	return f.WithRemedy("It is a machine of another directory, or somebody who poses as yours: tell your administrator if you have expected a machine of your own there.")
}

// Mint gets a certificate for one machine, without a sign-in page: whoever needs
// one is told which command shows it.
func (i *agentIdentity) Mint(ctx context.Context, machine string, key ssh.PublicKey) (*ssh.Certificate, error) {
	c, err := i.a.obtain(ctx, i.s, key, machine, false)
	return c.cert, err
}
