package sshd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sallyport/internal/fault"
)

// drifted makes the error that names what is wrong. Its public text ends up in
// the sentence that refused people read.
func drifted(format string, args ...any) error {
	return fault.New(fault.Conflict, "ExtensionDrift", format, args...).WithRemedy("Undo that change, or set the extension again.")
}

// Check asks whether everything of ours is in force: our lines are in the files,
// and sshd, asked for probe names under each other Match, says every value of
// ours (sshd(8), -T and -C). The error is a fault whose text names the fault.
func (w *Wiring) Check(ctx context.Context, want Wanted) error {
	files, p, err := w.plan(want)
	if err != nil {
		return err
	}
	changed, err := w.differs(files)
	if err != nil {
		return err
	}
	if len(changed) > 0 {
		return drifted("%s does not hold what protects directory accounts.", changed[0].Path)
	}
	if out, err := w.cfg.Run(ctx, p.sshd, "-t"); err != nil {
		return fault.Wrap(err, fault.Conflict, "ExtensionDrift", "sshd refuses its configuration: %s.", firstLine(out)).WithRemedy("Correct it: sshd -t shows the line.")
	}
	probes, err := w.probes(want.Domains)
	if err != nil {
		return err
	}
	expected := expectations(p.helper)
	for _, probe := range probes {
		out, err := w.cfg.Run(ctx, p.sshd, "-T", "-C", probe.String())
		if err != nil {
			return fault.Wrap(err, fault.Conflict, "ExtensionDrift", "sshd cannot say what it would do: %s.", firstLine(out))
		}
		if err := compare(string(out), expected, probe); err != nil {
			return err
		}
	}
	return nil
}

// expectations is what `sshd -T` must print for one of ours, by keyword.
func expectations(helper string) map[string]string {
	m := map[string]string{"usepam": "yes"}
	for _, o := range options(helper) {
		key, value, _ := strings.Cut(o, " ")
		m[strings.ToLower(key)] = value
	}
	return m
}

// compare checks the answer for one probe. sshd prints a keyword that lists
// things on several lines, and leaves out what is not set.
func compare(out string, expected map[string]string, probe connection) error {
	have := map[string][]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		have[key] = append(have[key], strings.Trim(value, " "))
	}
	for key, value := range expected {
		got := strings.Join(have[key], " ")
		if got == value || got == "" && value == "none" {
			continue
		}
		if key == "usepam" {
			return drifted("sshd has UsePAM %s, and roles are checked through PAM.", orUnset(got))
		}
		return drifted("sshd has %s %s for %s.", key, orUnset(got), probe)
	}
	return nil
}

func orUnset(v string) string {
	if v == "" {
		return "(unset)"
	}
	return v
}

func firstLine(out []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if len(line) > 200 {
		line = line[:200]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, line)
}

// connection is what sshd -C wants to know of a connection.
type connection struct {
	user, host, addr, laddr, lport string
}

func (c connection) String() string {
	return fmt.Sprintf("user=%s,host=%s,addr=%s,laddr=%s,lport=%s", c.user, c.host, c.addr, c.laddr, c.lport)
}

// probes are names of ours from a plain connection and from one that satisfies
// each other Match of the configuration, as far as a connection can.
func (w *Wiring) probes(domains []string) ([]connection, error) {
	matches, err := w.matches()
	if err != nil {
		return nil, err
	}
	names := []string{"00000000-0000-4000-8000-000000000000"}
	for _, d := range domains {
		names = append(names, "sallyport-probe@"+d)
	}
	var all []connection
	for _, name := range names {
		plain := connection{user: name, host: "localhost", addr: "127.0.0.1", laddr: "127.0.0.1", lport: "22"}
		all = append(all, plain)
		for _, m := range matches {
			if c := satisfy(plain, m, domains); c != plain {
				all = append(all, c)
			}
		}
	}
	return all, nil
}

// satisfy changes a connection so that a Match line applies to it.
func satisfy(c connection, match string, domains []string) connection {
	f := strings.Fields(match)
	for i := 1; i+1 < len(f); i += 2 {
		pattern, _, _ := strings.Cut(f[i+1], ",")
		pattern = strings.Trim(pattern, `"`)
		if strings.HasPrefix(pattern, "!") || strings.ContainsAny(pattern, ",= ") {
			continue
		}
		literal := strings.NewReplacer("*", "x", "?", "x").Replace(pattern)
		switch strings.ToLower(f[i]) {
		case "user":
			for _, d := range domains {
				if strings.HasSuffix(literal, "@"+d) {
					c.user = literal
				}
			}
		case "host":
			c.host = literal
		case "address":
			c.addr = literalAddress(pattern)
		case "localaddress":
			c.laddr = literalAddress(pattern)
		case "localport":
			c.lport = literal
		}
	}
	return c
}

// literalAddress makes an address of an address pattern.
func literalAddress(pattern string) string {
	pattern, _, _ = strings.Cut(pattern, "/")
	return strings.NewReplacer("*", "1", "?", "1").Replace(pattern)
}

// maxIncludes bounds how many files a configuration may be made of.
const maxIncludes = 256

// matches returns the Match lines of the configuration that are not ours, from
// the main file and from everything that it includes.
func (w *Wiring) matches() ([]string, error) {
	files, err := w.sources()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, path := range files {
		text, err := w.text(path)
		if err != nil {
			continue // sshd -t has the last word on what can be read
		}
		for line := range strings.Lines(strip(text)) {
			if f := strings.Fields(line); len(f) > 1 && strings.EqualFold(f[0], "Match") {
				found = append(found, strings.Join(f, " "))
			}
		}
	}
	return found, nil
}

// sources lists the files of sshd's configuration (sshd_config(5), Include).
func (w *Wiring) sources() ([]string, error) {
	queue, seen := []string{mainPath}, map[string]bool{}
	var files []string
	for len(queue) > 0 && len(files) < maxIncludes {
		path := queue[0]
		queue = queue[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		files = append(files, path)
		text, err := w.text(path)
		if errors.Is(err, fs.ErrNotExist) && path != mainPath {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) < 2 || !strings.EqualFold(f[0], "Include") {
				continue
			}
			for _, pattern := range f[1:] {
				if pattern = strings.Trim(pattern, `"`); !filepath.IsAbs(pattern) {
					pattern = filepath.Join("/etc/ssh", pattern)
				}
				found, _ := filepath.Glob(w.at(pattern))
				for _, p := range found {
					queue = append(queue, "/"+strings.TrimPrefix(strings.TrimPrefix(p, w.cfg.Root), "/"))
				}
			}
		}
	}
	return files, nil
}

// Mark is a cheap sign of whether any watched file may have changed: the agent
// runs Check when it differs from the last one.
func (w *Wiring) Mark() string {
	paths, err := w.sources()
	if err != nil {
		return "unreadable: " + err.Error()
	}
	paths = append(paths, userCAPath, sudoersMain, sudoersPath, nssPath, dropInFolder)
	for _, s := range pamServices() {
		paths = append(paths, filepath.Join(pamFolder, s.name))
	}
	var b strings.Builder
	for _, p := range paths {
		info, err := os.Lstat(w.at(p))
		if err != nil {
			fmt.Fprintf(&b, "%s -\n", p)
			continue
		}
		fmt.Fprintf(&b, "%s %d %s %s\n", p, info.Size(), info.Mode(), info.ModTime().Format(time.RFC3339Nano))
	}
	return b.String()
}
