package root

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sallyport/internal/agent/caller"
	"sallyport/internal/agent/control"
	"sallyport/internal/agent/durable"
	"sallyport/internal/agent/shim"
)

// The sockets of this part, below Config.Root.
const (
	socketFolder     = "/run/sallyport"
	pamSocket        = socketFolder + "/pam.sock"
	principalsSocket = socketFolder + "/principals.sock"
)

// Peers are the users that may ask, beside root.
type Peers struct {
	Network uint32 // the network part, on the control socket
	Helper  uint32 // sshd's AuthorizedPrincipalsCommandUser
}

// Run serves the three sockets and works until ctx ends.
func (s *Service) Run(ctx context.Context, peers Peers) error {
	if err := durable.Folder(s.at(socketFolder), 0o755); err != nil {
		return err
	}
	pam, err := shim.Listen(s.at(pamSocket), 0o600, int(s.cfg.Owner))
	if err != nil {
		return err
	}
	principals, err := shim.Listen(s.at(principalsSocket), 0o600, int(peers.Helper))
	if err != nil {
		return err
	}
	ctl, err := shim.Listen(s.at(control.SocketPath), 0o600, int(peers.Network))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	loud := s.quietly()
	refused := func(p shim.Peer, err error) { loud("pid %d was not answered: %v", p.PID, err) }
	var all sync.WaitGroup
	serve := func(l *net.UnixListener, f func(*net.UnixListener) error) {
		all.Go(func() { cancel(f(l)) })
	}
	serve(pam, func(l *net.UnixListener) error {
		return shim.ServePAM(ctx, l, shim.Config{AllowedUID: s.cfg.Owner, Refused: refused}, s.PAM)
	})
	serve(principals, func(l *net.UnixListener) error {
		return shim.ServePrincipals(ctx, l, shim.Config{AllowedUID: peers.Helper, Refused: refused}, s.Principals)
	})
	serve(ctl, func(l *net.UnixListener) error {
		return control.Serve(ctx, l, control.ServerConfig{Network: peers.Network, Handler: s, Refused: func(err error) { loud("control: %v", err) }})
	})
	all.Go(func() { s.guard(ctx) })
	if s.cfg.Identity != nil {
		handing, err := shim.ListenPackets(s.at(caller.SocketPath), 0o600, int(peers.Network))
		if err != nil {
			return err
		}
		serve(handing, func(l *net.UnixListener) error {
			return s.ident.hand.Serve(ctx, l, func(uid uint32) bool { return uid == peers.Network })
		})
		all.Go(func() { s.serveIdentity(ctx) })
	}
	all.Go(func() { s.work(ctx) })
	all.Go(func() { s.upgrades(ctx) })
	all.Wait()
	if err := s.events.Close(); err != nil {
		s.cfg.Log("event queue: %v", err)
	}
	return context.Cause(ctx)
}

// complaintPause is the time between two lines in the log about questions that
// were not answered: whoever asks them must not fill a disk.
const complaintPause = time.Second

// quietly is Log for what others bring about, at most once in a while.
func (s *Service) quietly() func(format string, args ...any) {
	var mu sync.Mutex
	var last time.Duration
	more := -1 // nothing was said yet
	return func(format string, args ...any) {
		_, elapsed := s.cfg.Boot()
		mu.Lock()
		defer mu.Unlock()
		if more >= 0 && elapsed-last < complaintPause {
			more++
			return
		}
		if more > 0 {
			format, args = format+" (and %d others before)", append(args, more)
		}
		last, more = elapsed, 0
		s.cfg.Log(format, args...)
	}
}

// Sockets returns where the sockets are, for doctor.
func Sockets(root string) []string {
	return []string{filepath.Join(root, pamSocket), filepath.Join(root, principalsSocket), filepath.Join(root, control.SocketPath)}
}

// Reachable reports whether a socket is there.
func Reachable(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().Type() == os.ModeSocket
}
