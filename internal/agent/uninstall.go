package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/sshd"
	"sallyport/internal/fault"
)

// uninstallCommand is what a package's removal runs. It needs no server and no
// running agent.
func uninstallCommand() *cobra.Command {
	return &cobra.Command{Use: "uninstall", Short: "Take directory sign-in out of this machine's configuration, before its package is removed", Args: cobra.NoArgs,
		Long: "Gives sshd, PAM, sudo and nsswitch.conf back what they had before the extension, byte for byte, and finishes a removal that was interrupted.\n" +
			"The agent must be stopped: it would put everything in again as long as the server wants the extension.",
		Example: "  systemctl stop sallyport-agent sallyport-agent-root && sally agent uninstall",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needRoot(); err != nil {
				return err
			}
			if err := atRest(c.Context(), "/", systemctl); err != nil {
				return err
			}
			if _, err := os.Lstat(sshd.StateFolder); errors.Is(err, fs.ErrNotExist) {
				fmt.Fprintln(c.OutOrStdout(), "Directory sign-in was never set up here.")
				return nil
			}
			wired, _ := wiring(proc.Table{Dir: "/proc"}, nil)
			if err := wired.Remove(c.Context()); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), "Directory sign-in is out of this machine's configuration.")
			return nil
		}}
}

// atRest refuses while the agent runs, and ends what would start it again.
func atRest(ctx context.Context, rootFolder string, systemd func(ctx context.Context, argv ...string) error) error {
	if err := stopped(ctx, filepath.Join(rootFolder, control.SocketPath)); err != nil {
		return err
	}
	if !hasSystemd(rootFolder) {
		return nil
	}
	return endUpgrade(ctx, rootFolder, systemd)
}

// stopped refuses while the root part answers.
func stopped(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := (control.Client{Path: socket}).Ask(ctx, control.Request{Op: control.OpStatus}); err != nil {
		return nil
	}
	return fault.New(fault.Precondition, "AgentRuns", "the agent runs and would set up again what is taken out").
		WithRemedy("Run: systemctl stop sallyport-agent sallyport-agent-root; or, to remove the extension alone: sally vm extension delete.")
}
