package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
	"sallyport/internal/lab/inside"
	"sallyport/internal/labwire"
)

// Command returns `sally lab` with its sub-commands, for the root of the CLI.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "lab",
		Short: "Run machines on this computer",
		Args:  cobra.NoArgs,
	}
	c.AddCommand(serveCommand(), statusCommand(), proxyCommand(),
		hidden("stage", inside.Stage), hidden("init", inside.Init))
	return c
}

// hidden makes a command that the lab runs itself.
func hidden(name string, run func() error) *cobra.Command {
	return &cobra.Command{
		Use:    name,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return run() },
	}
}

func serveCommand() *cobra.Command {
	var cfg Config
	var socket string
	var rootfs []string
	var owner int
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve lab machines on a socket (needs root)",
		Long: "Serve lab machines on a socket. Runs in the foreground as root; machines live no longer than this command\n" +
			"and those that ran start again with it. Nothing of this computer changes outside the state directory.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if cfg.RootFS, err = parseRootFS(rootfs); err != nil {
				return err
			}
			cfg.Log = slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
			ctx, cancel := signal.NotifyContext(c.Context(), unix.SIGTERM, unix.SIGINT)
			defer cancel()
			return serve(ctx, cfg, socket, owner)
		},
	}
	f := c.Flags()
	f.StringVar(&socket, "socket", "", "path of the socket to make")
	f.IntVar(&owner, "owner", -1, "uid that may use the socket, besides root")
	f.StringVar(&cfg.StateDir, "state", "", "directory for machines' files, made if missing")
	f.StringArrayVar(&rootfs, "rootfs", nil, "[SYSTEM=]DIR[:DIR...], topmost first: what machines of a system are overlays of (packaging/rootfs/layer.sh and prepare.sh print them); once for each of debian11, debian12, debian13")
	f.StringVar(&cfg.ServerAddr, "server-addr", "", "loopback HOST:PORT that machines reach as 10.77.0.1:443")
	f.IntVar(&cfg.Limits.Tasks, "machine-tasks", defaultLimits.Tasks, "how many processes and threads a machine may have")
	f.IntVar(&cfg.Limits.Memory, "machine-memory", defaultLimits.Memory, "how much memory a machine may use, in MiB, files that it reads included")
	require(c, "socket", "owner", "state", "rootfs")
	return c
}

// parseRootFS reads the values of --rootfs. One without a system is of Debian 12.
func parseRootFS(values []string) (map[labwire.System][]string, error) {
	out := map[labwire.System][]string{}
	for _, value := range values {
		system, dirs, named := strings.Cut(value, "=")
		if strings.HasPrefix(value, "/") || !named {
			system, dirs = string(labwire.SystemDebian12), value
		}
		s := labwire.System(system)
		switch {
		case !slices.Contains(labwire.Systems(), s):
			return nil, fault.New(fault.Invalid, "UnknownSystem", "--rootfs names the system %q; there are %v", system, labwire.Systems()).WithTarget("rootfs")
		case out[s] != nil:
			return nil, fault.New(fault.Invalid, "RepeatedSystem", "--rootfs names %s twice", s).WithTarget("rootfs")
		}
		out[s] = strings.Split(dirs, ":")
	}
	return out, nil
}

func serve(ctx context.Context, cfg Config, socket string, owner int) error {
	if os.Geteuid() != 0 {
		return fault.New(fault.Forbidden, "NeedsRoot", "the lab makes namespaces and mounts, which needs root").WithRemedy("run it with sudo")
	}
	if owner < 0 {
		return fault.New(fault.Invalid, "InvalidOwner", "--owner must be a uid, 0 or higher").WithTarget("owner")
	}
	if cfg.Limits.Tasks < leastLimits.Tasks || cfg.Limits.Memory < leastLimits.Memory {
		return fault.New(fault.Invalid, "InvalidLimit", "a machine cannot run with fewer than %d tasks or less than %d MiB", leastLimits.Tasks, leastLimits.Memory).WithTarget("machine-tasks")
	}
	l, err := Open(ctx, cfg)
	if err != nil {
		return err
	}
	listener, err := Listen(socket, owner)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	cfg.Log.Info("the lab is ready", "socket", socket, "owner", owner)
	return errors.Join(l.Serve(ctx, listener, owner), l.Close())
}

func statusCommand() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "status",
		Short: "List the lab's machines",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			machines, err := labwire.New(labwire.Config{Socket: socket}).List(c.Context())
			if err != nil {
				return err
			}
			return printMachines(c.OutOrStdout(), machines)
		},
	}
	c.Flags().StringVar(&socket, "socket", "", "path of the lab's socket")
	require(c, "socket")
	return c
}

func printMachines(w io.Writer, machines []labwire.Machine) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if _, err := fmt.Fprintln(table, "MACHINE\tNAME\tSYSTEM\tBACKEND\tSTATE\tADDRESS\tSSH"); err != nil {
		return err
	}
	for _, m := range machines {
		ssh := "-"
		if m.State == labwire.StateRunning {
			ssh = fmt.Sprintf("%s:%d", m.Loopback, m.SSHPort)
		}
		if _, err := fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.MachineID, m.Name, m.System, m.Backend, m.State, m.Address, ssh); err != nil {
			return err
		}
	}
	return table.Flush()
}

func proxyCommand() *cobra.Command {
	var socket, machine string
	c := &cobra.Command{
		Use:   "proxy",
		Short: "Connect standard input and output to a machine's sshd (for ssh's ProxyCommand)",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			stream, err := labwire.New(labwire.Config{Socket: socket}).Proxy(c.Context(), machine)
			if err != nil {
				return err
			}
			return pump(stream, c.InOrStdin(), c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&socket, "socket", "", "path of the lab's socket")
	c.Flags().StringVar(&machine, "machine", "", "machine id")
	require(c, "socket", "machine")
	return c
}

// pump copies until the machine closes. The end of the input is passed on; the
// reader of the input may outlive the call, because a terminal's read cannot
// be interrupted.
func pump(stream *labwire.Stream, in io.Reader, out io.Writer) error {
	closing := sync.OnceValue(stream.Close)
	defer func() { _ = closing() }()
	go func() {
		if _, err := io.Copy(stream, in); err != nil {
			_ = closing()
			return
		}
		_ = stream.CloseWrite()
	}()
	_, err := io.Copy(out, stream)
	return err
}

// require marks flags as required. Only a misspelt name can fail, which every
// test of the command would show.
func require(c *cobra.Command, flags ...string) {
	for _, flag := range flags {
		if err := c.MarkFlagRequired(flag); err != nil {
			panic(err)
		}
	}
}
