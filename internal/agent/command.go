package agent

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/agent/caller"
	"sallyport/internal/agent/control"
	"sallyport/internal/agent/inventory"
	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/root"
	"sallyport/internal/agent/sandbox"
	"sallyport/internal/agent/session"
	"sallyport/internal/agent/shim"
	"sallyport/internal/agent/sshd"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// Command returns `sally agent` of a build with the given version.
func Command(version string) *cobra.Command {
	c := &cobra.Command{Use: "agent", Short: "The machine agent: join a server, decide logins, show the state of this machine", Args: cobra.NoArgs, SilenceUsage: true,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(joinCommand(version), rootCommand(version), runCommand(version), statusCommand(), doctorCommand(), upgradeCommand(version), homeCommand(), identityCommand(), uninstallCommand())
	return c
}

func joinCommand(version string) *cobra.Command {
	var file, address string
	c := &cobra.Command{Use: "join --token-file FILE", Short: "Make this computer the machine that a join token names", Args: cobra.NoArgs,
		Long: "Join verifies the server against the token before it sends anything secret, then stores who this machine is and whom it trusts.\n" +
			"The token is read from a file that only root can read, or from standard input (-); the file is removed afterwards.",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needRoot(); err != nil {
				return err
			}
			token, err := readToken(c.InOrStdin(), file)
			if err != nil {
				return err
			}
			network, err := userID("/", networkUser)
			if err != nil {
				return err
			}
			m, err := Join(c.Context(), JoinConfig{Root: "/", Network: int(network), Token: token, Address: address, Facts: facts(c.Context(), version), Wait: wait, Tries: 15, Log: logger(c.ErrOrStderr(), "join")})
			if err != nil {
				return err
			}
			if file != "-" {
				if err := os.Remove(file); err != nil {
					return fmt.Errorf("the machine has joined, but the used token could not be removed: %w", err)
				}
			}
			fmt.Fprintf(c.OutOrStdout(), "This machine is %s\n(machine id %s) of %s.\n", m.ResourceID, m.MachineID, m.URL)
			return nil
		}}
	c.Flags().StringVar(&file, "token-file", "", "file with the join token, or - for standard input")
	c.Flags().StringVar(&address, "address", "", "HOST:PORT to reach the server at, where its name does not lead there")
	_ = c.MarkFlagRequired("token-file")
	return c
}

const maxToken = 4096

// readToken reads a token from a file that nobody else can read.
func readToken(stdin io.Reader, file string) (string, error) {
	if file == "-" {
		b, err := io.ReadAll(io.LimitReader(stdin, maxToken))
		return strings.TrimSpace(string(b)), err
	}
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return "", fault.Wrap(err, fault.Invalid, "TokenFileUnreadable", "the token file cannot be read: %v", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return "", fault.New(fault.Invalid, "TokenFileOpen", "%s can be read by others", file).WithRemedy("Run: chmod 600 %s", file)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxToken))
	return strings.TrimSpace(string(b)), err
}

func rootCommand(version string) *cobra.Command {
	return &cobra.Command{Use: "root", Short: "Run the root part: verify, decide, wire (started by init)", Args: cobra.NoArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needRoot(); err != nil {
				return err
			}
			keepLittle(c)
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			pins, err := pin.Load("/", 0)
			if err != nil {
				return err
			}
			var peers root.Peers
			if peers.Network, err = userID("/", networkUser); err != nil {
				return err
			}
			if peers.Helper, err = userID("/", helperUser); err != nil {
				return err
			}
			// A second line: a machine that does not let go of a privilege has no worse
			// agent than one that never had this.
			if err := sandbox.Root(); err != nil {
				logger(c.ErrOrStderr(), "root")("privileges are kept: %v", err)
			}
			if err := personSlices().ReleaseAll(shim.IDMin, shim.UIDMax); err != nil {
				logger(c.ErrOrStderr(), "root")("a slice that was stopped does not go on: %v", err)
			}
			config := RootConfig(pins, logger(c.ErrOrStderr(), "root"), nil)
			config.Upgrades = upgrades(version, logger(c.ErrOrStderr(), "root"))
			config.Inventory = func(ctx context.Context) protocol.Inventory { return inventory.Collect(ctx, inventoryConfig(version)) }
			s, err := root.New(config)
			if err != nil {
				return err
			}
			if err := s.Run(ctx, peers); err != nil && ctx.Err() == nil {
				return err
			}
			return nil
		}}
}

// littleGrowth is the collector's GOGC of both parts: they allocate little, and
// are on every machine.
const littleGrowth = 50

// keepLittle makes a process small that stays for as long as the machine runs:
// every other command of the program goes, and with it what their flags and
// texts take.
func keepLittle(c *cobra.Command) {
	debug.SetGCPercent(littleGrowth)
	for keep := c; keep.HasParent(); keep = keep.Parent() {
		for _, other := range keep.Parent().Commands() {
			if other != keep {
				keep.Parent().RemoveCommand(other)
			}
		}
	}
	debug.FreeOSMemory()
}

// gatherTime is how late the server may learn of a login: reports made in the
// middle of it would slow it down.
const gatherTime = time.Second

// RootConfig connects the root part to this machine. step hears of each step of a
// change of its configuration (sshd.Config); nil but where a test kills it there.
func RootConfig(pins pin.Machine, log func(string, ...any), step func(string) error) root.Config {
	table := proc.Table{Dir: "/proc"}
	wired, daemon := wiring(table, step)
	return root.Config{Root: "/", Pins: pins, Identity: identityEndpoint(), Callers: caller.Sockets{Table: caller.Table{Path: "/proc/net/tcp"}}, Now: time.Now, Boot: newBoot(), Rand: rand.Reader, Processes: table, Wiring: wired, Run: run, Reload: daemon.Reload, Log: log, Gather: gatherTime,
		Ender: newEnder(table)}
}

// newEnder ends sessions on this machine.
func newEnder(table proc.Table) *session.Ender {
	return session.New(session.Config{Root: "/", Processes: table, Signaller: session.Pidfd{}, Holder: personSlices(), Daemons: "/run", Terminals: "/dev/pts", ProcFolder: table.Dir, Wait: wait, Self: os.Getpid()})
}

// personSlices are where systemd keeps what persons run, if it does.
func personSlices() session.Slices {
	return session.Slices{Folders: []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}, Self: "/proc/self/cgroup"}
}

func wiring(table proc.Table, step func(string) error) (*sshd.Wiring, sshd.Daemon) {
	plain := func(ctx context.Context, argv ...string) ([]byte, error) { return run(ctx, root.Command{Argv: argv}) }
	daemon := sshd.Daemon{Root: "/", Processes: table, ProcFolder: table.Dir, Run: plain}
	start := func(ctx context.Context, conn *os.File, argv ...string) (sshd.Started, error) {
		return start(ctx, table, conn, argv)
	}
	return sshd.New(sshd.Config{Root: "/", Run: plain, Reload: daemon.Reload, Try: daemon.Try, Start: start, Rand: rand.Reader, Step: step}), daemon
}

// ownUser refuses whoever is neither root nor the network part's user.
func ownUser(network uint32) error {
	if me := os.Geteuid(); me != 0 && me != int(network) {
		return fault.New(fault.Forbidden, "NotTheNetworkUser", "the network part runs as the user %s", networkUser).WithRemedy("Start it as that user, or as root: it becomes that user then.")
	}
	return nil
}

func confine(uid, gid uint32) error {
	if _, err := sandbox.Network(uid, gid); err != nil {
		return fault.Wrap(err, fault.Precondition, "SandboxFailed", "the network part cannot be confined on this machine: %v", err)
	}
	return nil
}

func runCommand(version string) *cobra.Command {
	return &cobra.Command{Use: "run", Short: "Run the network part: poll, report, renew (started by init)", Args: cobra.NoArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			uid, gid, err := userIDs("/", networkUser)
			if err != nil {
				return err
			}
			if err := ownUser(uid); err != nil {
				return err
			}
			keepLittle(c)
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			pins, err := pin.Load("/", 0)
			if err != nil {
				return err
			}
			key, err := LoadKey("/", uid)
			if err != nil {
				return err
			}
			// From here on nothing but this policy is between the network and the machine.
			if err := confine(uid, gid); err != nil {
				return err
			}
			New(Config{Pins: pins, Key: key, Root: control.Client{Path: control.SocketPath}, Version: version, Addresses: addresses, Now: time.Now, Wait: wait, Rand: rand.Reader,
				Callers: func(ctx context.Context, f func(caller.Taken)) error {
					return caller.Take(ctx, caller.SocketPath, 0, f)
				}, Interfaces: interfaces, Inventory: true,
				Log: logger(c.ErrOrStderr(), "run")}).Run(ctx)
			return nil
		}}
}

func logger(w io.Writer, part string) func(string, ...any) {
	return log.New(w, "sally agent "+part+": ", log.LstdFlags|log.LUTC|log.Lmsgprefix).Printf
}

func statusCommand() *cobra.Command {
	var raw bool
	c := &cobra.Command{Use: "status", Short: "Show what this machine has been told and how fresh it is", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			answer, err := ask(c.Context(), control.Request{Op: control.OpStatus})
			if err != nil {
				return err
			}
			if raw {
				answer.Status.Manifest = nil
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(answer.Status)
			}
			printStatus(c.OutOrStdout(), answer.Status)
			return nil
		}}
	c.Flags().BoolVar(&raw, "json", false, "as JSON")
	return c
}

func ask(ctx context.Context, r control.Request) (control.Answer, error) { return askAt(ctx, "/", r) }

func askAt(ctx context.Context, rootFolder string, r control.Request) (control.Answer, error) {
	if err := needRoot(); err != nil {
		return control.Answer{}, err
	}
	if !pin.Joined(rootFolder) {
		return control.Answer{}, pin.ErrNotJoined()
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return control.Client{Path: filepath.Join(rootFolder, control.SocketPath)}.Ask(ctx, r)
}

func printStatus(w io.Writer, st *control.Status) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-16s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("machine", "%s", st.ResourceID)
	line("machine id", "%s", st.MachineID)
	for _, text := range st.Damage {
		line("state", "DAMAGED: %s", text)
	}
	if st.Version == 0 {
		line("snapshot", "none yet; nobody of the directory can log in")
	} else {
		line("snapshot", "version %d, %s old", st.Version, time.Duration(st.AgeSeconds)*time.Second)
		line("logins", "%s", holds("users", st.UserUntil, st.UserStale))
		line("sudo", "%s", holds("administrators", st.AdminUntil, st.AdminStale))
		line("people", "%d known, %d with a grant", st.Principals, st.Allowed)
	}
	state := "off"
	if st.Extension {
		state = "on"
	}
	line("sign-in", "%s", state)
	line("provisioning", "%s %s", st.Provisioned, st.Message)
	if !st.HostUntil.IsZero() {
		line("host certificate", "until %s", st.HostUntil.UTC().Format(time.RFC3339))
	}
	if st.Clock != "" {
		line("clock", "WRONG: %s", st.Clock)
	}
	if n := len(st.Witnessed); n > 0 {
		h := st.Witnessed[n-1]
		line("audit", "%s has been seen at record %d, %s; %d heads are kept", h.Head.Writer, h.Head.Sequence, h.At.UTC().Format(time.RFC3339), n)
	}
	if st.AuditAlarm != "" {
		line("audit", "WRONG since %s; see docs/operations.md, Audit", st.AuditAlarm)
	}
	if st.Endpoint != "" {
		line("identity", "%s", st.Endpoint)
	}
	if st.EventsWaiting > 0 || st.EventsDropped > 0 {
		line("events", "%d wait for the server, %d were given up", st.EventsWaiting, st.EventsDropped)
	}
	if st.EventsTrouble != "" {
		line("events", "WRONG: they are in memory alone, for they cannot be written: %s", st.EventsTrouble)
	}
	if st.Drift != "" {
		line("drift", "%s", st.Drift)
	}
	if u := st.Upgrade; u != nil {
		line("upgrade", "%s %s", strings.TrimSpace("to "+u.Version+": "+u.State), u.Reason)
	}
	printSessions(line, st)
}

// printSessions lists who is here now, a line each.
func printSessions(line func(name, format string, args ...any), st *control.Status) {
	line("sessions", "%d open", len(st.Sessions)+st.MoreSessions)
	for _, n := range st.Sessions {
		what := []string{strings.TrimSpace(string(n.Kind) + " " + n.TTY)}
		if n.From != "" {
			what = append(what, "from "+n.From)
		}
		if n.Elevated > 0 {
			what = append(what, fmt.Sprintf("%d processes as somebody else", n.Elevated))
		}
		line("", "%s  %s  since %s  %s", n.ID, n.LoginName, n.Since.UTC().Format(time.RFC3339), strings.Join(what, ", "))
	}
}

// holds says until when a role may log in if the server is not heard again.
func holds(who string, until time.Time, stale int64) string {
	bound := time.Duration(stale) * time.Second
	if until.IsZero() {
		return fmt.Sprintf("REFUSED: %s are let in for %s without the server, and it has not been heard for longer, or the clock is wrong", who, bound)
	}
	return fmt.Sprintf("of %s until %s if the server is not heard again (%s without it)", who, until.UTC().Format(time.RFC3339), bound)
}

func homeCommand() *cobra.Command {
	c := &cobra.Command{Use: "home", Short: "Decide about home folders whose name belongs to another account now", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(&cobra.Command{Use: "list", Short: "List the names that somebody has used on this machine", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		answer, err := ask(c.Context(), control.Request{Op: control.OpHomes})
		if err != nil {
			return err
		}
		for _, h := range answer.Homes {
			claim := ""
			if h.Claimant != "" {
				claim = "  claimed by " + h.Claimant
			}
			fmt.Fprintf(c.OutOrStdout(), "%s  belongs to %s%s\n", h.Name, h.ObjectID, claim)
		}
		return nil
	}})
	c.AddCommand(&cobra.Command{Use: "adopt NAME", Short: "Give the old home's files to the account that has the name now", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		answer, err := ask(c.Context(), control.Request{Op: control.OpAdopt, Name: args[0]})
		if err == nil {
			fmt.Fprintln(c.OutOrStdout(), answer.Text)
		}
		return err
	}})
	c.AddCommand(&cobra.Command{Use: "archive NAME", Short: "Move the old home away; the account that has the name now gets a new one", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		answer, err := ask(c.Context(), control.Request{Op: control.OpArchive, Name: args[0]})
		if err == nil && answer.Text != "" {
			fmt.Fprintln(c.OutOrStdout(), "The old home is "+answer.Text)
		}
		return err
	}})
	return c
}
