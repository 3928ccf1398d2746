package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/term"
)

// Config is everything the command line takes from outside, so that tests stand
// in for the terminal, the clock and the browser. System fills it for real use.
type Config struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Env reads the environment.
	Env func(string) string
	// IsTerminal reports whether one of the three streams is a terminal.
	IsTerminal func(stream any) bool
	// ReadPassword reads a line without echo from the terminal; nil where there
	// is none.
	ReadPassword func() (string, error)
	Now          func() time.Time
	Rand         io.Reader
	// Wait returns after d, or with ctx's error.
	Wait func(ctx context.Context, d time.Duration) error
	// OpenBrowser shows a page to the person; an error means no browser.
	OpenBrowser func(url string) error
	// Run runs a program to its end and returns its exit code.
	Run func(ctx context.Context, p Program) (int, error)
	// Dial connects to the address of a host, to see which key its sshd proves.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// HostName is the name of this computer.
	HostName func() (string, error)
	// Executable is the path of this program, written into ssh configurations.
	Executable string
	Version    string
	// MachineRoot is where this computer's pins as a machine lie, "" for "/", and
	// MachineOwner whose they must be; Metadata is its metadata service, "" for
	// the usual address.
	MachineRoot string
	// JoinHost makes this computer a machine, and LeaveHost ends that. They are the
	// agent's; nil where this program has none.
	JoinHost     func(ctx context.Context, j HostJoin) error
	LeaveHost    func(ctx context.Context, l HostLeave) error
	MachineOwner uint32
	Metadata     string
}

// Program is a program to run on our own streams; never a shell's line.
type Program struct {
	Path string
	Args []string
	Env  []string // NAME=value, added to our environment
	// Insist says that a signal to end may be repeated until it does.
	Insist bool
}

// HostJoin is one attempt to join this computer.
type HostJoin struct {
	Token       string
	Address     string // host:port to reach the server at; may be empty
	Name, Group string
	Tags        map[string]string
	EnableLogin bool
	Rejoin      bool // the computer is a machine already, and becomes one anew
}

// HostLeave ends what a join began.
type HostLeave struct {
	Force bool // also when the server cannot be told
}

func (c Config) machineRoot() string {
	if c.MachineRoot == "" {
		return "/"
	}
	return c.MachineRoot
}

// System returns the Config of the real computer.
func System(version string) Config {
	c := Config{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: os.Getenv, Now: time.Now, Rand: rand.Reader,
		IsTerminal: isTerminal, ReadPassword: readPassword, Wait: wait, Version: version,
		OpenBrowser: func(page string) error { return openBrowser(os.Getenv, page) },
	}
	if path, err := os.Executable(); err == nil {
		c.Executable = path
	}
	return c
}

// complete fills what a caller left out.
func (c Config) complete() Config {
	d := System(c.Version)
	fill(&c.Stdin, d.Stdin)
	fill(&c.Stdout, d.Stdout)
	fill(&c.Stderr, d.Stderr)
	fill(&c.Rand, d.Rand)
	if c.Env == nil {
		c.Env = d.Env
	}
	if c.IsTerminal == nil {
		c.IsTerminal = d.IsTerminal
	}
	if c.Now == nil {
		c.Now = d.Now
	}
	if c.Wait == nil {
		c.Wait = d.Wait
	}
	if c.Run == nil {
		c.Run = c.runProgram
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	if c.OpenBrowser == nil {
		c.OpenBrowser = d.OpenBrowser
	}
	if c.HostName == nil {
		c.HostName = os.Hostname
	}
	if c.Executable == "" {
		c.Executable = d.Executable
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	return c
}

func fill[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func readPassword() (string, error) {
	b, err := term.ReadPassword(int(os.Stdin.Fd()))
	return string(b), err
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

var errNoBrowser = errors.New("no web browser was found")

// openBrowser starts the person's browser with one argument and no shell:
// $BROWSER where it is set (words, %s for the address, a trailing & ignored),
// else the desktop's opener where there is a desktop.
func openBrowser(env func(string) string, page string) error {
	if u, err := url.Parse(page); err != nil || u.Scheme != "https" {
		return errNoBrowser
	}
	var argv []string
	switch {
	case env("BROWSER") != "":
		argv = browserCommand(env("BROWSER"), page)
	case runtime.GOOS == "darwin":
		argv = []string{"open", page}
	case env("DISPLAY") != "" || env("WAYLAND_DISPLAY") != "":
		argv = []string{"xdg-open", page}
	}
	if len(argv) == 0 {
		return errNoBrowser
	}
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:gosec,noctx // the person's own browser outlives the command
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }()
	return nil
}

func browserCommand(setting, page string) []string {
	first, _, _ := strings.Cut(setting, ":/")
	words := strings.Fields(strings.TrimSuffix(strings.TrimSpace(setting), "&"))
	if len(words) == 0 {
		return nil
	}
	if len(words) == 1 && first != "" {
		words = []string{filepath.SplitList(setting)[0]}
	}
	placed := false
	for i, w := range words[1:] {
		if strings.Contains(w, "%s") {
			words[i+1], placed = strings.ReplaceAll(w, "%s", page), true
		}
	}
	if !placed {
		words = append(words, page)
	}
	return words
}
