package sshd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

const probeFolder = StateFolder + "/probe"

// candidate is sshd's configuration for the self-test: the main file and the
// drop-ins as they are, by path.
type candidate struct {
	main    string
	dropIns map[string]string
	skip    line // left out, to see whether it is the reason
}

// candidate reads the configuration. Files that are included from elsewhere are
// read by sshd where they are.
func (w *Wiring) candidate() (candidate, error) {
	c := candidate{dropIns: map[string]string{}}
	var err error
	if c.main, err = w.text(mainPath); err != nil || !included(c.main) {
		return c, err
	}
	found, err := filepath.Glob(w.at(dropInFolder) + "/*.conf")
	if err != nil {
		return c, err
	}
	for _, f := range found {
		path := filepath.Join(dropInFolder, filepath.Base(f))
		text, err := w.text(path)
		if err != nil {
			return c, err
		}
		c.dropIns[path] = text
	}
	return c, nil
}

// lines are those that can be the reason of a refusal.
func (c candidate) lines() []line {
	all := linesOf(mainPath, c.main)
	for path, text := range c.dropIns {
		all = append(all, linesOf(path, text)...)
	}
	var can []line
	for _, l := range all {
		if !l.is("Match") && !l.is("Include") && !l.is("UsePAM") {
			can = append(can, l)
		}
	}
	return can
}

// write lays the configuration into a folder. Two words differ from the machine's:
// where the drop-ins lie, and which key signs certificates.
func (c candidate) write(folder string, ca ssh.PublicKey) error {
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := os.MkdirAll(folder+"/sshd_config.d", 0o700); err != nil {
		return err
	}
	trusted := folder + "/ca.pub"
	files := map[string]string{trusted: string(ssh.MarshalAuthorizedKey(ca)), folder + "/sshd_config": redirect(c.without(mainPath, c.main), folder, trusted)}
	for path, text := range c.dropIns {
		files[folder+"/sshd_config.d/"+filepath.Base(path)] = redirect(c.without(path, text), folder, trusted)
	}
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// without is a file without the line that is left out.
func (c candidate) without(path, text string) string {
	if c.skip.path != path {
		return text
	}
	all := strings.SplitAfter(text, "\n")
	all[c.skip.number-1] = "\n"
	return strings.Join(all, "")
}

func redirect(text, folder, trusted string) string {
	var b strings.Builder
	for l := range strings.Lines(text) {
		f := words(l)
		switch {
		case len(f) == 2 && strings.EqualFold(f[0], "TrustedUserCAKeys") && f[1] == userCAPath:
			l = "TrustedUserCAKeys " + trusted + "\n"
		case len(f) > 1 && strings.EqualFold(f[0], "Include"):
			for i := range f {
				if p := strings.Trim(f[i], `"`); p == dropInFolder+"/*.conf" || p == "sshd_config.d/*.conf" {
					f[i] = folder + "/sshd_config.d/*.conf"
				}
			}
			l = strings.Join(f, " ") + "\n"
		}
		b.WriteString(l)
	}
	return b.String()
}

// reason finds why a visit was refused. What sshd logs does not name a line, so it
// is found by trying: the line without which the visitor gets in.
func (w *Wiring) reason(ctx context.Context, p parts, c candidate, refused error) error {
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	var r *refusal
	if !errors.As(refused, &r) {
		return refused
	}
	if r.asked.Account && !r.asked.Session || r.pam() {
		return failedTest(refused, "PAM refused it: %s/sshd or a file that it includes lets nobody of the directory in, although Sallyport's own lines did%s", pamFolder, saying(r))
	}
	for _, l := range sorted(c.lines(), r.log) {
		if ctx.Err() != nil {
			break
		}
		c.skip = l
		if err := w.visit(ctx, p, c); err == nil {
			return failedTest(refused, "%s refuses people of the directory: %q; without that line the login succeeds", l, strings.Join(l.words, " "))
		}
	}
	return failedTest(refused, "sshd refused it, and no single line of its configuration is the reason%s", saying(r))
}

// saying is the last that sshd said of it.
func saying(r *refusal) string {
	text := r.log
	if i := strings.LastIndex(text, "; "); i >= 0 && len(text) > 300 {
		text = text[len(text)-300:]
	}
	if said := firstLine([]byte(r.said)); said != "" {
		text = said + "; " + text
	}
	return fmt.Sprintf(" (sshd said: %s)", text)
}

// sorted puts the lines first whose keyword sshd named.
func sorted(all []line, log string) []line {
	var named, rest []line
	for _, l := range all {
		if strings.Contains(strings.ToLower(log), strings.ToLower(l.words[0])) {
			named = append(named, l)
		} else {
			rest = append(rest, l)
		}
	}
	return append(named, rest...)
}
