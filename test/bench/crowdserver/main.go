// Command crowdserver is `sally server run` on one TCP address and, besides, on
// a unix socket that carries many connections in a few: the same handlers, TLS
// and store, for more machines than this computer has descriptors.
//
//	crowdserver STATE-FOLDER HOST:PORT SOCKET
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"sallyport/internal/httpd"
	"sallyport/internal/server"
	"sallyport/test/bench/many"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: crowdserver STATE-FOLDER HOST:PORT SOCKET")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "crowdserver:", err)
		os.Exit(1)
	}
}

func run(state, address, socket string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	var conf net.ListenConfig
	tcp, err := conf.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	unix, err := conf.Listen(ctx, "unix", socket)
	if err != nil {
		return err
	}
	log := slog.New(httpd.LogHandler(slog.NewJSONHandler(os.Stderr, nil)))
	return server.Run(ctx, server.Config{Build: "bench", State: state, Replica: "server-1", Listen: address, Sockets: []net.Listener{tcp, many.Listen(unix)}, Now: time.Now, Rand: rand.Reader, Log: log, Abuse: server.Abuse{Connections: 2000}})
}
