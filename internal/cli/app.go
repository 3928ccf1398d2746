package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"sallyport/internal/cli/client"
	"sallyport/internal/cli/output"
	"sallyport/internal/cli/output/jmespath"
	"sallyport/internal/fault"
)

// app is one run of the command line: what it was given and what it has opened.
type app struct {
	cfg          Config
	format       string
	query        string
	subscription string
	quiet        bool
	verbose      bool
	debug        bool
	raw          bool // print what the server answered

	out     output.Config
	folder  *client.Folder
	profile *client.Profile
}

// prepare checks the global flags before anything is sent: a query with a
// mistake must not be found after a machine was made.
func (a *app) prepare() error {
	if a.quiet && (a.verbose || a.debug) {
		return clientError{"--only-show-errors can't be used together with --debug or --verbose"}
	}
	f, err := output.ParseFormat(a.format)
	if err != nil {
		return usageError{sentence(err)}
	}
	terminal := a.cfg.IsTerminal(a.cfg.Stdout)
	a.out = output.Config{Format: f, Color: terminal && a.cfg.Env("NO_COLOR") == "", Terminal: terminal}
	if a.query != "" {
		if a.out.Query, err = jmespath.Compile(a.query); err != nil {
			return usageError{"argument --query: " + sentence(err)}
		}
	}
	return nil
}

// open returns the configuration folder: SALLY_CONFIG_DIR, else ~/.sallyport.
func (a *app) open() (*client.Folder, error) {
	if a.folder != nil {
		return a.folder, nil
	}
	dir := a.cfg.Env("SALLY_CONFIG_DIR")
	if dir == "" {
		home := a.cfg.Env("HOME")
		if home == "" {
			return nil, fault.New(fault.Invalid, "ConfigFolder", "neither SALLY_CONFIG_DIR nor HOME is set").WithRemedy("Set one of them.")
		}
		dir = filepath.Join(home, ".sallyport")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	a.folder, err = client.OpenFolder(dir, a.cfg.Wait)
	return a.folder, err
}

// clientConfig is what the client package takes from us.
func (a *app) clientConfig() (client.Config, error) {
	f, err := a.open()
	if err != nil {
		return client.Config{}, err
	}
	return client.Config{
		Folder: f, Now: a.cfg.Now, Rand: a.cfg.Rand, Wait: a.cfg.Wait, Agent: "sally/" + a.cfg.Version, Notice: a.warn, Metadata: a.cfg.Metadata,
		Log: func(format string, args ...any) {
			if a.debug {
				a.say("DEBUG: "+format, args...)
			}
		},
	}, nil
}

// readProfile reads the profile once.
func (a *app) readProfile() (client.Profile, error) {
	if a.profile != nil {
		return *a.profile, nil
	}
	f, err := a.open()
	if err != nil {
		return client.Profile{}, err
	}
	p, err := f.Profile()
	if err != nil {
		return client.Profile{}, err
	}
	a.profile = &p
	return p, nil
}

// session acts as the account that --subscription names, else the default one.
// An account that had no subscription when it signed in may have been given a
// role since: that is looked up here.
func (a *app) session(ctx context.Context) (*client.Session, error) {
	s, err := a.identity()
	if err != nil || s.Account().ID != s.Account().TenantID {
		return s, err
	}
	found, err := a.subscriptions(ctx, s)
	if err != nil {
		return nil, err
	}
	if found[0].ID == found[0].TenantID {
		return s, nil
	}
	if err := a.folder.UpdateProfile(ctx, func(p *client.Profile) error { p.SignedIn(found); a.profile = p; return nil }); err != nil {
		return nil, err
	}
	return s.Server().As(found[0]), nil
}

// identity is session for what needs no subscription.
func (a *app) identity() (*client.Session, error) {
	p, err := a.readProfile()
	if err != nil {
		return nil, err
	}
	account, err := p.Find(a.subscription)
	if err != nil {
		return nil, err
	}
	cfg, err := a.clientConfig()
	if err != nil {
		return nil, err
	}
	return client.Open(cfg, p, account)
}

// subscriptionOf returns the session's subscription id.
func subscriptionOf(s *client.Session) (string, error) {
	account := s.Account()
	if account.ID == account.TenantID {
		return "", fault.New(fault.NotFound, "NoSubscription", "%s has no subscription on %s.", account.User.Name, account.Server).
			WithRemedy("When you have been given a role, run: sally account list --refresh")
	}
	return account.ID, nil
}

// reason is why a file could not be had, without its name, which the sentence says.
func reason(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// say prints a line for the person on standard error.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintln(a.cfg.Stderr, output.Clean(fmt.Sprintf(format, args...)))
}

// warn prints a warning unless --only-show-errors.
func (a *app) warn(text string) {
	if !a.quiet {
		a.say("WARNING: %s", fault.Sentence("%s", text))
	}
}

// print writes a result in the chosen format. v is a value to marshal, or JSON
// as json.RawMessage.
func (a *app) print(v any, columns ...output.Column) error {
	doc, err := encode(v)
	if err != nil {
		return err
	}
	if !a.raw {
		if doc, err = azShape(doc); err != nil {
			return err
		}
	}
	c := a.out
	c.Columns = columns
	return output.Write(a.cfg.Stdout, c, doc)
}

func encode(v any) ([]byte, error) {
	if raw, ok := v.(json.RawMessage); ok {
		return raw, nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode the result: %w", err)
	}
	return b.Bytes(), nil
}

// progress shows a line while work takes long, on a terminal only.
func (a *app) progress(text string) (stop func()) {
	p := output.NewProgress(output.ProgressConfig{Writer: a.cfg.Stderr, Terminal: !a.quiet && a.cfg.IsTerminal(a.cfg.Stderr),
		After: func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }})
	p.Start(text)
	return p.Stop
}

// confirm asks before something is destroyed; --yes answers in advance.
func (a *app) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !a.cfg.IsTerminal(a.cfg.Stdin) {
		return clientError{"Unable to prompt for confirmation as no tty available. Use --yes."}
	}
	_, _ = fmt.Fprintf(a.cfg.Stderr, "%s (y/n): ", question)
	line, err := a.line()
	if err != nil {
		return err
	}
	if l := strings.ToLower(line); l != "y" && l != "yes" {
		return fault.New(fault.Conflict, "Cancelled", "Operation cancelled.")
	}
	return nil
}

// line reads one line of standard input, byte by byte: what follows it belongs
// to the next reader.
func (a *app) line() (string, error) {
	var b []byte
	var one [1]byte
	for len(b) < maxArgumentFile {
		n, err := a.cfg.Stdin.Read(one[:])
		if n == 1 && one[0] == '\n' {
			break
		}
		if n == 1 {
			b = append(b, one[0])
		}
		if err == io.EOF && len(b) > 0 {
			break
		}
		if err != nil {
			return "", fault.Wrap(err, fault.Invalid, "NoInput", "nothing could be read from standard input")
		}
	}
	return strings.TrimRight(string(b), "\r"), nil
}

// secret asks for a secret without echo, or reads one line where standard input
// is no terminal.
func (a *app) secret(prompt string) (string, error) {
	if !a.cfg.IsTerminal(a.cfg.Stdin) || a.cfg.ReadPassword == nil {
		return a.line()
	}
	_, _ = fmt.Fprintf(a.cfg.Stderr, "%s: ", prompt)
	text, err := a.cfg.ReadPassword()
	_, _ = fmt.Fprintln(a.cfg.Stderr)
	return text, err
}

// do sends a call, waits for what it started and decodes the result.
func do(ctx context.Context, s *client.Session, c client.Call, v any) error {
	body, err := s.Do(ctx, c)
	if err != nil || v == nil || len(body) == 0 {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fault.Wrap(err, fault.Unavailable, "BadAnswer", "the server's answer cannot be read")
	}
	return nil
}
