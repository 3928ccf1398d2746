// Command sally is all of Sallyport: the command line that people use, the
// server, the agent on machines, and the lab.
package main

import (
	"context"
	"os"

	"sallyport/internal/agent"
	"sallyport/internal/cli"
	"sallyport/internal/lab"
	"sallyport/internal/server"
)

// version is set when the program is built (-ldflags -X).
var version = "0.0.0-dev"

func main() {
	config := cli.System(version)
	host := agent.Host{Version: version, Out: os.Stdout, Log: os.Stderr}
	config.JoinHost = func(ctx context.Context, j cli.HostJoin) error { return host.Join(ctx, agent.HostJoin(j)) }
	config.LeaveHost = func(ctx context.Context, l cli.HostLeave) error { return host.Leave(ctx, agent.HostLeave(l)) }
	root := cli.Command(config)
	root.AddCommand(server.Command(version), agent.Command(version), lab.Command())
	cli.Attach(root, "ca sign-manifest", server.SignManifestCommand())
	os.Exit(cli.Run(context.Background(), root, config, os.Args[1:]))
}
