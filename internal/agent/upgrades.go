package agent

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/upgrade"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// speaks is the version of the protocol that may be spoken: while a build is
// tried, that of the build before, so that this one can still be gone back to.
func speaks(st *control.Status) int {
	if st.Speak > 0 {
		return min(st.Speak, protocol.Capability)
	}
	return protocol.Capability
}

const (
	packageTime = 10 * time.Minute
	maxRelease  = 256 << 10
)

// upgrades fetches what the root part lacks for another build of the agent. It
// carries, and everything is verified where it arrives.
func (a *Agent) upgrades(ctx context.Context, p *pause) {
	for ctx.Err() == nil {
		answer, err := a.cfg.Root.Ask(ctx, control.Request{Op: control.OpUpgrade, WaitMillis: pollWait.Milliseconds()})
		if err == nil && answer.Fetch != nil {
			err = a.fetch(ctx, *answer.Fetch)
		}
		if err != nil {
			p.failed(ctx, "upgrade", err)
			continue
		}
		p.next = 0
	}
}

func (a *Agent) fetch(ctx context.Context, f control.Fetch) error {
	_, c, _, err := a.status(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, packageTime)
	defer cancel()
	body, err := c.file(ctx, "/repository/"+f.Path, f.Offset)
	if err != nil {
		if fault.Is(err, fault.NotFound) {
			_, told := a.cfg.Root.Ask(ctx, control.Request{Op: control.OpMissing, Name: f.Path})
			err = errors.Join(err, told)
		}
		return err
	}
	defer body.Close()
	if f.Length == 0 {
		b, err := io.ReadAll(io.LimitReader(body, maxRelease))
		if err != nil {
			return unreachable(err)
		}
		var e protocol.Envelope
		if err := protocol.Decode(b, &e); err != nil {
			return fault.Wrap(err, fault.Unavailable, "AnswerUnreadable", "the server's answer cannot be read: %v", err)
		}
		_, err = a.cfg.Root.Ask(ctx, control.Request{Op: control.OpRelease, Name: f.Path, Release: &e})
		return err
	}
	return a.parts(ctx, f, body)
}

// parts carries a package piece by piece.
func (a *Agent) parts(ctx context.Context, f control.Fetch, body io.Reader) error {
	buffer := make([]byte, control.Part)
	for left := f.Length; left > 0; {
		n, err := io.ReadFull(body, buffer[:min(left, int64(len(buffer)))])
		if n == 0 && err != nil {
			return unreachable(err)
		}
		if _, err := a.cfg.Root.Ask(ctx, control.Request{Op: control.OpPart, Name: f.Path, Offset: f.Offset + f.Length - left, Data: buffer[:n]}); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// file begins to read a file of the server's, from an offset on.
func (c *client) file(ctx context.Context, path string, offset int64) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
	if err != nil {
		return nil, err
	}
	want := http.StatusOK
	if offset > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
		want = http.StatusPartialContent
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(err)
	}
	if resp.StatusCode == want {
		return resp.Body, nil
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxRelease)) // the status says enough
	_ = resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, fault.New(fault.NotFound, "NoSuchPackage", "the server has nothing at %s", path)
	}
	return nil, refusal(resp.StatusCode, b)
}

// upgrades is this machine's packages.
func upgrades(version string, log func(string, ...any)) *upgrade.Machine {
	return upgrade.New(upgrade.Config{Root: "/", Build: version, Program: "/proc/self/exe", Run: runLong, Log: log,
		Writable: func(dir string) error { return unix.Access(dir, unix.W_OK) }})
}

// installTime is how long a package manager may take for our two packages.
const installTime = 10 * time.Minute

// runLong is run for programs that take their time.
func runLong(ctx context.Context, argv ...string) ([]byte, error) {
	path, err := program(argv[0])
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, installTime)
	defer cancel()
	cmd := prepared(ctx, path, argv[1:])
	cmd.WaitDelay = time.Second
	return cmd.CombinedOutput()
}

// upgradeCommand is the supervisor: a unit that the root part writes starts it, from
// a copy of the build that ran before.
func upgradeCommand(version string) *cobra.Command {
	return &cobra.Command{Use: "upgrade", Short: "See an upgrade of the agent through, or go back (started by systemd)", Args: cobra.NoArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needRoot(); err != nil {
				return err
			}
			keepLittle(c)
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			if err := os.Chdir("/"); err != nil {
				return err
			}
			boot := newBoot()
			s := upgrade.Supervisor{Machine: upgrades(version, logger(c.ErrOrStderr(), "upgrade")), Agent: control.Client{Path: control.SocketPath}, Wait: wait,
				Elapsed: func() time.Duration { _, elapsed := boot(); return elapsed }}
			return s.Run(ctx)
		}}
}
