package sshd

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sallyport/internal/agent/shim"
	"sallyport/internal/fault"
)

func conflict(format string, args ...any) *fault.Error {
	return fault.New(fault.Conflict, codeConflict, format, args...)
}

// plan works out every file as it should be, without changing any.
func (w *Wiring) plan(ctx context.Context, want Wanted) ([]file, parts, error) {
	p, err := w.parts()
	if err != nil {
		return nil, p, err
	}
	if p.manner, err = w.manner(ctx, p, want); err != nil {
		return nil, p, err
	}
	if len(want.Domains) == 0 || len(want.UserCAs) == 0 {
		return nil, p, fault.New(fault.Internal, "ExtensionIncomplete", "no domain or no user CA key is known")
	}
	if err := w.conflicts(); err != nil {
		return nil, p, err
	}
	files := []file{{Path: userCAPath, Mode: 0o644, Content: strings.Join(want.UserCAs, "\n") + "\n", Ours: true}}
	if p.sudo {
		f, err := w.sudoers()
		if err != nil {
			return nil, p, err
		}
		files = append(files, f)
	}
	nss, err := w.text(nssPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, p, err
	}
	files = append(files, file{Path: nssPath, Mode: 0o644, Content: editNSS(nss), Ours: errors.Is(err, fs.ErrNotExist)})
	main, err := w.text(mainPath)
	if err != nil {
		return nil, p, err
	}
	lines := sshdLines(want.Domains, p.helper, want.HostCertificate, p.manner)
	if included(main) && w.exists(dropInFolder) {
		files = append(files, file{Path: dropInPath, Mode: 0o644, Content: block(lines...), Ours: true})
		if clean := strip(main); clean != main {
			files = append(files, file{Path: mainPath, Mode: 0o644, Content: clean})
		}
	} else {
		files = append(files, file{Path: mainPath, Mode: 0o644, Content: editMain(main, lines)})
	}
	pam, err := w.pam(want.Domains, p.manner)
	return append(files, pam...), p, err
}

// sudoers grants by group id, not name: a local group of the same name gets
// nothing (CVE-2026-34397, CVE-2025-59044). Everybody of ours is spared the
// password that nobody has, which grants nothing: sudo then asks PAM before it
// looks whether there is a rule, and PAM says the sentence.
func (w *Wiring) sudoers() (file, error) {
	main, err := w.text(sudoersMain)
	if err != nil {
		return file{}, err
	}
	for line := range strings.Lines(main) {
		f := strings.Fields(line)
		if len(f) == 2 && (f[0] == "@includedir" || f[0] == "#includedir") && strings.TrimSuffix(f[1], "/") == filepath.Dir(sudoersPath) {
			return file{Path: sudoersPath, Mode: 0o440, Ours: true, Content: block(
				"Defaults:%#"+uitoa(shim.GIDUsers)+" !authenticate",
				"%#"+uitoa(shim.GIDAdmins)+" ALL=(ALL:ALL) NOPASSWD: ALL")}, nil
		}
	}
	return file{}, conflict("%s does not include the folder %s", sudoersMain, filepath.Dir(sudoersPath)).
		WithRemedy("Add the line @includedir %s with visudo, then set the extension again.", filepath.Dir(sudoersPath))
}

func (w *Wiring) pam(domains []string, m manner) ([]file, error) {
	var files []file
	for _, s := range pamServices() {
		path := filepath.Join(pamFolder, s.name)
		text, ours, err := w.pamText(s.name)
		if errors.Is(err, fs.ErrNotExist) {
			if s.name == "sshd" {
				return nil, missing("this machine has no PAM configuration for sshd", "Install openssh-server completely, then set the extension again.")
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		edited, ok := editPAM(text, s, domains, m)
		if !ok {
			return nil, conflict("%s has no account phase to stand in", path).WithRemedy("Restore the distribution's file, then set the extension again.")
		}
		if ours {
			edited = copied() + edited
		}
		files = append(files, file{Path: path, Mode: 0o644, Content: edited, Ours: ours})
	}
	return files, nil
}

// copied begins a PAM file that exists only in the vendor's folder, where nothing
// may be changed: PAM reads ours in its place (pam.conf(5)).
func copied() string {
	return block("# a copy of the file of this name in " + vendorPAM + ", which it hides")
}

const vendorPAM = "/usr/lib/pam.d"

// pamText reads a service's configuration; ours says that the file in /etc is, or
// will be, a copy of the vendor's.
func (w *Wiring) pamText(service string) (text string, ours bool, err error) {
	text, err = w.text(filepath.Join(pamFolder, service))
	if errors.Is(err, fs.ErrNotExist) {
		text, err = w.text(filepath.Join(vendorPAM, service))
		return text, err == nil, err
	}
	return strings.TrimPrefix(text, copied()), strings.HasPrefix(text, copied()), err
}

// conflicts finds what would make our names somebody else's.
func (w *Wiring) conflicts() error {
	for _, s := range pamServices() {
		text, err := w.text(filepath.Join(pamFolder, s.name))
		if err == nil && strings.Contains(text, "pam_aad.so") {
			return conflict("an older login extension (pam_aad.so) is still configured in %s/%s", pamFolder, s.name).
				WithRemedy("Remove that extension from the machine, then set this one again.")
		}
	}
	names, err := LocalNames(w.cfg.Root)
	if err != nil {
		return err
	}
	for _, g := range []string{shim.GroupUsers, shim.GroupAdmins, shim.GroupIdentity} {
		if names[g] {
			return conflict("the machine has a local user or group named %s", g).WithRemedy("Rename it, then set the extension again.")
		}
	}
	if !names[helperUser] {
		return missing("the system user "+helperUser+" does not exist on this machine", "Install the package of sally on this machine, then set the extension again.")
	}
	return nil
}

// LocalNames returns the names of /etc/passwd and /etc/group below root. They are
// read directly: a lookup through NSS would ask us.
func LocalNames(root string) (map[string]bool, error) {
	names := map[string]bool{}
	for _, path := range []string{"/etc/passwd", "/etc/group"} {
		f, err := os.Open(filepath.Join(root, path))
		if err != nil {
			return nil, err
		}
		s := bufio.NewScanner(f)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			if name, _, ok := strings.Cut(s.Text(), ":"); ok && name != "" {
				names[name] = true
			}
		}
		if err := errors.Join(s.Err(), f.Close()); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// differs lists the files whose content is not the planned one.
func (w *Wiring) differs(files []file) ([]file, error) {
	var changed []file
	for _, f := range files {
		now, err := w.text(f.Path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err != nil || now != f.Content {
			changed = append(changed, f)
		}
	}
	return changed, nil
}
