package sshd

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"sallyport/internal/fault"
)

// drifted makes the error that names what is wrong. Its public text ends up in
// the sentence that refused people read.
func drifted(format string, args ...any) *fault.Error {
	return fault.New(fault.Conflict, codeDrift, format, args...).WithRemedy("Undo that change, or set the extension again.")
}

// wideOpen is drift in which sshd would let somebody in without asking PAM, and so
// us: nothing may be answered to sshd then, not even for a sentence.
func wideOpen(format string, args ...any) *fault.Error {
	return fault.New(fault.Conflict, codeOpen, format, args...).WithRemedy("Undo that change, or set the extension again.")
}

// Open reports whether an error of Check means that logins are not asked of us.
func Open(err error) bool { return err != nil && fault.As(err).Code == codeOpen }

// Check asks whether everything of ours is in force: our lines are in the files,
// and sshd, asked for probe names under each other Match, says every value of
// ours (sshd(8), -T and -C). The error is a fault whose text names the fault and
// its place, the most dangerous first; Unsure tells one that is no finding.
func (w *Wiring) Check(ctx context.Context, want Wanted) error {
	return worst(w.Examine(ctx, want))
}

// Examine is Check that goes on behind the first fault: everything that is wrong,
// each with its place and what to do.
func (w *Wiring) Examine(ctx context.Context, want Wanted) []error {
	var found []error
	files, p, err := w.plan(ctx, want)
	if err != nil {
		return []error{w.asWeakness(err)}
	}
	changed, err := w.differs(files)
	if err != nil {
		return []error{err}
	}
	for _, f := range changed {
		found = append(found, w.lost(f))
	}
	for _, f := range files {
		if err := w.owned(f.Path); err != nil {
			found = append(found, err)
		}
	}
	if out, err := w.cfg.Run(ctx, p.sshd, "-t"); err != nil {
		return append(found, fault.Wrap(err, fault.Conflict, codeDrift, "sshd refuses its configuration: %s.", firstLine(out)).WithRemedy("Correct it: sshd -t shows the line."))
	}
	probes, err := w.probes(want.Domains)
	if err != nil {
		return append(found, err)
	}
	expected, seen := expectations(p.helper, p.manner), map[string]bool{}
	for _, probe := range probes {
		out, err := w.cfg.Run(ctx, p.sshd, "-T", "-C", probe.String())
		if err != nil {
			return append(found, fault.Wrap(err, fault.Conflict, codeDrift, "sshd cannot say what it would do: %s.", firstLine(out)))
		}
		for _, err := range w.compare(settings(out), expected, probe) {
			if text := fault.As(err).Text; !seen[text] {
				seen[text] = true
				found = append(found, err)
			}
		}
	}
	return found
}

// asWeakness makes a missing part, once installed, what it is: without the PAM
// module nobody asks us.
func (w *Wiring) asWeakness(err error) error {
	if !Unsure(err) && w.Asks() != nil {
		f := fault.As(err)
		return fault.Wrap(err, fault.Conflict, codeOpen, "%s.", strings.TrimSuffix(f.Text, ".")).WithRemedy("%s", f.Remedy)
	}
	return err
}

// Asks reports whether sshd, asking PAM, asks us. It is cheap: the agent looks
// before every answer to sshd, so that no moment lies between somebody's edit and
// its effect.
func (w *Wiring) Asks() error {
	path := filepath.Join(pamFolder, "sshd")
	text, err := w.text(path)
	if err != nil || !asked(text) {
		return wideOpen("%s does not ask Sallyport first.", path)
	}
	if w.library("security/pam_unix.so", "security/pam_sallyport.so") == "" {
		return wideOpen("the library pam_sallyport.so is not installed beside the system's own PAM modules.")
	}
	return nil
}

// lost says what a file lacks.
func (w *Wiring) lost(f file) error {
	now, err := w.text(f.Path)
	if Unsure(err) {
		return err
	}
	if err != nil {
		return drifted("%s is gone, which protects directory accounts.", f.Path)
	}
	if f.Path == filepath.Join(pamFolder, "sshd") && !asked(now) {
		return wideOpen("%s does not hold what protects directory accounts: %s", place(f.Path, difference(now, f.Content)), lackOf(now, f.Content))
	}
	return drifted("%s does not hold what protects directory accounts: %s", place(f.Path, difference(now, f.Content)), lackOf(now, f.Content))
}

// difference is the number of the first line that is not as it must be.
func difference(now, wanted string) int {
	have := strings.Split(now, "\n")
	for i, line := range strings.Split(wanted, "\n") {
		if i >= len(have) || have[i] != line {
			return i + 1
		}
	}
	return len(have)
}

// lackOf names the first line of ours that is not there.
func lackOf(now, wanted string) string {
	have := map[string]bool{}
	for line := range strings.Lines(now) {
		have[strings.TrimSpace(line)] = true
	}
	for line := range strings.Lines(wanted) {
		if line = strings.TrimSpace(line); line != "" && !have[line] {
			return fmt.Sprintf("%q is missing or was changed.", firstLine([]byte(line)))
		}
	}
	return "its lines were moved or added to."
}

func place(path string, line int) string {
	if line == 0 {
		return path
	}
	return path + ":" + strconv.Itoa(line)
}

// owned refuses a file that somebody beside its owner could weaken at any time.
func (w *Wiring) owned(path string) error {
	info, err := os.Lstat(w.at(path))
	if err != nil {
		return nil // lost says it
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid != w.cfg.Owner || info.Mode().Perm()&0o022 != 0 {
		return drifted("%s can be changed by others than root.", path).WithRemedy("Run: chown root %s && chmod go-w %s", path, path)
	}
	return nil
}

// expectations is what `sshd -T` must print for one of ours, by keyword.
func expectations(helper string, mode manner) map[string]string {
	m := map[string]string{"usepam": "yes"}
	for _, o := range options(helper, mode) {
		key, value, _ := strings.Cut(o, " ")
		m[strings.ToLower(key)] = value
	}
	return m
}

// settings reads what `sshd -T` prints. A keyword that lists things stands on
// several lines, and what is not set is left out.
func settings(out []byte) map[string]string {
	have := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		have[key] = strings.TrimSpace(have[key] + " " + strings.Trim(value, " "))
	}
	return have
}

// compare checks the answer for one probe.
func (w *Wiring) compare(have, expected map[string]string, probe connection) []error {
	var found []error
	for _, key := range slices.Sorted(maps.Keys(expected)) {
		got, value := have[key], expected[key]
		if got == value || got == "" && value == "none" {
			continue
		}
		from := w.origin(key, got)
		if key == "usepam" {
			found = append(found, wideOpen("sshd has UsePAM %s%s, and roles are checked through PAM.", orUnset(got), from))
			continue
		}
		found = append(found, drifted("sshd has %s %s for %s%s.", key, orUnset(got), probe, from).
			WithRemedy("Remove that line, or move it behind the block of Sallyport into a Match that leaves directory accounts out; then set the extension again."))
	}
	if got := have["permituserenvironment"]; !harmlessEnvironment(got) {
		found = append(found, drifted("sshd has PermitUserEnvironment %s%s, which no Match can take back: a person's own file could evade the command that a certificate forces.", got, w.origin("permituserenvironment", got)).
			WithRemedy("Set PermitUserEnvironment no, or a list of names without those that programs obey (LD_PRELOAD, BASH_ENV, PATH); then set the extension again."))
	}
	return found
}

// harmlessEnvironment reports whether a value of PermitUserEnvironment lets no
// variable through by which a program is made to do something else.
func harmlessEnvironment(value string) bool {
	if value == "" || value == "no" {
		return true
	}
	if value == "yes" {
		return false
	}
	for pattern := range strings.SplitSeq(value, ",") {
		for _, name := range []string{"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "BASH_ENV", "ENV", "PATH", "SHELL", "HOME", "PYTHONPATH", "PERL5LIB"} {
			if ok, err := filepath.Match(strings.TrimPrefix(pattern, "!"), name); ok || err != nil {
				return false
			}
		}
	}
	return true
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
