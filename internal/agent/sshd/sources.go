package sshd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"sallyport/internal/agent/shim"
)

// line is one line of sshd's configuration that is not ours.
type line struct {
	path   string
	number int
	words  []string // keyword and arguments, at least two
}

func (l line) String() string { return fmt.Sprintf("%s:%d", l.path, l.number) }

func (l line) is(key string) bool { return strings.EqualFold(l.words[0], key) }

// lines are those of the main file and of everything that it includes, without
// ours. What cannot be read is left out: sshd -t has the last word on that.
func (w *Wiring) lines() ([]line, error) {
	files, err := w.sources()
	if err != nil {
		return nil, err
	}
	var all []line
	for _, path := range files {
		if text, err := w.text(path); err == nil {
			all = append(all, linesOf(path, text)...)
		}
	}
	return all, nil
}

func linesOf(path, text string) []line {
	var all []line
	n, ours := 0, false
	for l := range strings.Lines(text) {
		n++
		switch trimmed := strings.TrimRight(l, "\n"); {
		case trimmed == begin:
			ours = true
		case trimmed == end:
			ours = false
		}
		if f := words(l); !ours && len(f) > 1 && !strings.HasPrefix(f[0], "#") {
			all = append(all, line{path, n, f})
		}
	}
	return all
}

// words are the keyword and the arguments of a line: sshd_config(5) lets a
// keyword be followed by '='.
func words(text string) []string {
	text = strings.TrimSpace(text)
	if i := strings.IndexAny(text, " \t="); i > 0 {
		text = text[:i] + " " + strings.TrimLeft(text[i:], " \t=")
	}
	return strings.Fields(text)
}

// matches returns the Match lines of the configuration that are not ours.
func (w *Wiring) matches() ([]string, error) {
	all, err := w.lines()
	var found []string
	for _, l := range all {
		if l.is("Match") {
			found = append(found, strings.Join(l.words, " "))
		}
	}
	return found, err
}

// origin says where a value of sshd's comes from: " (FILE:LINE)", or nothing when
// no line says it. A line that says the very value comes before one that names the
// keyword.
func (w *Wiring) origin(key, value string) string {
	all, err := w.lines()
	if err != nil {
		return ""
	}
	first := ""
	for _, l := range all {
		if !l.is(key) {
			continue
		}
		if strings.EqualFold(strings.Trim(strings.Join(l.words[1:], " "), `"`), value) {
			return " (" + l.String() + ")"
		}
		if first == "" {
			first = " (" + l.String() + ")"
		}
	}
	return first
}

// Notes are settings that are no fault and that an administrator should know of:
// what goes on for local accounts alone, and what holds for directory accounts too.
func (w *Wiring) Notes() []string {
	all, err := w.lines()
	if err != nil {
		return nil
	}
	var notes []string
	for _, l := range all {
		switch key := l.words[0]; strings.ToLower(key) {
		case "allowusers", "allowgroups":
			notes = append(notes, fmt.Sprintf("%s: %s does not apply to directory accounts; for them the group %s does", l, key, shim.GroupUsers))
		case "denyusers", "denygroups", "forcecommand", "chrootdirectory":
			notes = append(notes, fmt.Sprintf("%s: %s holds for directory accounts too, where it matches them", l, key))
		case "authorizedkeyscommand", "authorizedprincipalsfile", "authorizedprincipalscommand", "trustedusercakeys":
			if l.words[1] != "none" {
				notes = append(notes, fmt.Sprintf("%s: %s goes on for local accounts, and does not apply to directory accounts", l, key))
			}
		}
	}
	return notes
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
			f := words(line)
			if len(f) < 2 || !strings.EqualFold(f[0], "Include") {
				continue
			}
			queue = append(queue, w.named(f[1:])...)
		}
	}
	return files, nil
}

// named lists the files that the patterns of an Include name, in sshd's order.
func (w *Wiring) named(patterns []string) (list []string) {
	for _, pattern := range patterns {
		if pattern = strings.Trim(pattern, `"`); !filepath.IsAbs(pattern) {
			pattern = filepath.Join("/etc/ssh", pattern)
		}
		found, _ := filepath.Glob(w.at(pattern))
		for _, p := range found {
			list = append(list, "/"+strings.TrimPrefix(strings.TrimPrefix(p, w.cfg.Root), "/"))
		}
	}
	return list
}

// Mark is a cheap sign of whether any watched file may have changed: the agent
// runs Check when it differs from the last one.
func (w *Wiring) Mark() string {
	paths, err := w.sources()
	if err != nil {
		return "unreadable: " + err.Error()
	}
	paths = append(paths, userCAPath, sudoersMain, sudoersPath, nssPath, dropInFolder)
	for _, dir := range w.libraryFolders() {
		paths = append(paths, filepath.Join(dir, "libnss_sallyport.so.2"), filepath.Join(dir, "security/pam_sallyport.so"))
	}
	paths = append(paths, "/usr/sbin/sshd", w.first(helperPaths()...))
	for _, s := range pamServices() {
		paths = append(paths, filepath.Join(pamFolder, s.name))
	}
	var b strings.Builder
	for _, p := range paths {
		// What a link leads to changes without the link.
		fmt.Fprintf(&b, "%s %s %s\n", p, inode(os.Lstat(w.at(p))), inode(os.Stat(w.at(p))))
	}
	return b.String()
}

// inode is a file's identity and the time of its last change, which is nobody's to
// set; "-" for none.
func inode(info fs.FileInfo, err error) string {
	if err != nil {
		return "-"
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "-"
	}
	return fmt.Sprintf("%d.%d %d %s %d.%d", st.Dev, st.Ino, info.Size(), info.Mode(), st.Ctim.Sec, st.Ctim.Nsec)
}
