package sshd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sallyport/internal/agent/durable"
	"sallyport/internal/fault"
)

// Wired reports whether the configuration is in place, as the journal says.
func (w *Wiring) Wired() bool {
	j, err := w.load()
	return err == nil && j.Phase == installed
}

// Recover finishes what a kill interrupted: a change is undone, a removal is
// completed. It is called before anything else.
func (w *Wiring) Recover(ctx context.Context) error {
	if err := durable.Folder(w.at(StateFolder), 0o700); err != nil {
		return err
	}
	j, err := w.load()
	if err != nil {
		return err
	}
	switch j.Phase {
	case changing:
		return w.undo(ctx, j)
	case removing:
		return w.takeOut(ctx, j)
	}
	return w.sweep(j.Files)
}

// Apply brings the configuration to the wanted state and tests it. It is
// idempotent. On any error everything is as it was before the call. What was
// installed for the same wish and was changed by somebody since is not written
// again: that is drift, and the error says where.
//
// The steps, by the numbers that Config.Step hears:
//
//	1 keep FILE     the text as it is, in the state folder
//	2 journal       a change is under way, of these files
//	3 stage FILE    the new text beside each file
//	4 switch FILE   one rename each; PAM last, because it takes effect at once
//	5 ask           sshd -T for every Match
//	6 reload        sshd reads its configuration
//	7 self-test     a real login, and that nothing else opens
//	8 journal       installed
//	9 sweep         what stands beside the files goes
//
// Going back is 11 put back FILE, 12 reload, 13 journal. A removal is 2, 3, 4
// (or remove), 6, 8, 9 and 14 forget.
func (w *Wiring) Apply(ctx context.Context, want Wanted) error {
	if err := w.Recover(ctx); err != nil {
		return err
	}
	files, p, err := w.plan(ctx, want)
	if err != nil {
		return err
	}
	j, err := w.load()
	if err != nil {
		return err
	}
	changed, err := w.differs(files)
	if err != nil {
		return err
	}
	goal := want.goal(p)
	if j.Phase == installed && (len(changed) == 0 || j.Goal == goal) {
		if j.Goal != goal {
			j.Goal = goal
			if err := w.save(j); err != nil {
				return err
			}
		}
		return w.Check(ctx, want)
	}
	if j.Phase != installed {
		if err := w.floor(ctx); err != nil {
			return err
		}
	}
	if err := w.candidates(ctx, files, p); err != nil {
		return err
	}
	next, err := w.begin(j, files)
	if err != nil {
		return err
	}
	next.Goal = goal
	if err := w.switchOver(ctx, want, files, next); err != nil {
		var k killed
		if errors.As(err, &k) {
			return err
		}
		return errors.Join(err, w.undo(context.WithoutCancel(ctx), next))
	}
	return w.sweep(next.Files)
}

// goal names what a change leads to: the wish, and how this version fulfils it.
func (want Wanted) goal(p parts) string {
	account, session := pamBlocks(want.Domains)
	return digest(fmt.Sprintf("%v\n%q\n%s%s", want, sshdLines(want.Domains, p.helper, want.HostCertificate, p.manner), account, session))
}

// candidates tests the new texts before any file is touched: sudo's with
// visudo(8), sshd's with sshd -t.
func (w *Wiring) candidates(ctx context.Context, files []file, p parts) error {
	// What is refused now is not ours, and is not made ours.
	if out, err := w.cfg.Run(ctx, p.sshd, "-t"); err != nil {
		return fault.Wrap(err, fault.Conflict, "ExtensionConfigurationRefused", "sshd refuses its configuration as it is, so nothing was changed: %s", firstLine(out)).
			WithRemedy("Correct the line that the message names (sshd -t shows it), then set the extension again.")
	}
	for _, f := range files {
		var argv []string
		path := filepath.Join(w.at(StateFolder), "candidate")
		switch f.Path {
		case sudoersPath:
			argv = []string{p.visudo, "-c", "-f", path}
		case mainPath:
			argv = []string{p.sshd, "-t", "-f", path}
		case dropInPath: // is a configuration by itself; the whole is tested by Check
			argv = []string{p.sshd, "-t", "-f", path}
		default:
			continue
		}
		if err := durable.Write(path, []byte(f.Content), 0o440); err != nil {
			return err
		}
		out, err := w.cfg.Run(ctx, argv...)
		err = errors.Join(err, os.Remove(path))
		if err != nil {
			return fault.Wrap(err, fault.Conflict, "ExtensionConfigurationRefused", "%s would not be accepted: %s", f.Path, firstLine(out)).
				WithRemedy("Correct the configuration that the message names, then set the extension again.")
		}
	}
	return nil
}

// begin keeps what is there and writes the journal.
func (w *Wiring) begin(j journal, files []file) (journal, error) {
	known := map[string]entry{}
	for _, e := range j.Files {
		known[e.Path] = e
	}
	next := journal{Phase: changing, Prior: j.Phase}
	for _, f := range files {
		e, err := w.record(f, known)
		if err != nil {
			return next, err
		}
		delete(known, f.Path)
		next.Files = append(next.Files, e)
	}
	for _, e := range j.Files { // wired once, not wanted any more: kept for the removal
		if _, left := known[e.Path]; left {
			next.Files = append(next.Files, e)
		}
	}
	if err := w.step("2 journal"); err != nil {
		return next, err
	}
	return next, w.save(next)
}

// switchOver writes the files in an order in which a person of this machine can
// always log in: PAM last, because it takes effect at once. A disk that is full is
// met before anything is in force.
func (w *Wiring) switchOver(ctx context.Context, want Wanted, files []file, j journal) error {
	entries := map[string]entry{}
	for _, e := range j.Files {
		entries[e.Path] = e
	}
	// sshd opens TrustedUserCAKeys anew for every login (sshd_config(5)), so that a
	// rotation of the CA needs no signal, during which sshd would not listen.
	reread := j.Prior != installed
	var staged []string
	for _, f := range files {
		if now, err := w.text(f.Path); err == nil && now == f.Content {
			continue
		}
		reread = reread || f.Path != userCAPath
		if err := w.stage(entries[f.Path], f.Content); err != nil {
			return err
		}
		staged = append(staged, f.Path)
	}
	for _, path := range staged {
		if err := w.switchTo(path); err != nil {
			return err
		}
	}
	if err := w.prove(ctx, want, reread); err != nil {
		return err
	}
	if err := w.step("8 journal"); err != nil {
		return err
	}
	j.Phase, j.Prior = installed, ""
	return w.save(j)
}

// prove asks whether what was switched does what it must.
func (w *Wiring) prove(ctx context.Context, want Wanted, reread bool) error {
	if err := w.step("5 ask"); err != nil {
		return err
	}
	if err := w.Check(ctx, want); err != nil || !reread {
		return err
	}
	if err := w.step("6 reload"); err != nil {
		return err
	}
	if err := w.cfg.Reload(ctx); err != nil {
		return fmt.Errorf("reload sshd: %w", err)
	}
	if err := w.step("7 self-test"); err != nil {
		return err
	}
	if err := w.SelfTest(ctx, want); err != nil {
		f := fault.As(err)
		text := f.Text
		if f.Code != codeSelfTest {
			text = err.Error()
		}
		return fault.Wrap(err, fault.Conflict, codeSelfTest, "the self-test after the change failed, so it was undone: %s", text).WithRemedy("%s", "Correct that, then set the extension again.")
	}
	return nil
}

// undo puts every file back to what it was before the change.
func (w *Wiring) undo(ctx context.Context, j journal) error {
	for i := len(j.Files) - 1; i >= 0; i-- {
		if err := w.putBack(j.Files[i]); err != nil {
			return err
		}
	}
	back := journal{Phase: j.Prior}
	if j.Prior == installed {
		for _, e := range j.Files {
			if text, err := w.text(e.Path); err == nil {
				e.Written = digest(text)
				back.Files = append(back.Files, e)
			}
		}
	}
	if err := w.step("12 reload"); err != nil {
		return err
	}
	if err := w.cfg.Reload(ctx); err != nil {
		return fmt.Errorf("reload sshd after the undo: %w", err)
	}
	if err := w.step("13 journal"); err != nil {
		return err
	}
	return w.save(back)
}

// Remove takes the configuration out. It is idempotent, and does what it can
// without a journal too.
func (w *Wiring) Remove(ctx context.Context) error {
	if err := w.Recover(ctx); err != nil {
		return err
	}
	j, err := w.load()
	if err != nil {
		return err
	}
	if j.Phase == idle && len(j.Files) == 0 {
		return nil
	}
	if err := w.step("2 journal"); err != nil {
		return err
	}
	j.Phase = removing
	if err := w.save(j); err != nil {
		return err
	}
	return w.takeOut(ctx, j)
}

// takeOut removes us from every file, PAM first, and forgets what was kept. When
// the new texts find no room nothing is changed, and the removal stays begun.
func (w *Wiring) takeOut(ctx context.Context, j journal) error {
	var do []func() error
	for i := len(j.Files) - 1; i >= 0; i-- {
		e := j.Files[i]
		text, what, err := w.restored(e)
		switch {
		case err != nil:
			return err
		case what == drop:
			do = append(do, func() error { return w.takeAway(e.Path) })
		case what == rewrite:
			if err := w.stage(e, text); err != nil {
				var k killed
				if errors.As(err, &k) {
					return err
				}
				return errors.Join(err, w.unstage(j.Files))
			}
			do = append(do, func() error { return w.switchTo(e.Path) })
		}
	}
	for _, f := range do {
		if err := f(); err != nil {
			return err
		}
	}
	if err := w.step("6 reload"); err != nil {
		return err
	}
	if err := w.cfg.Reload(ctx); err != nil {
		return fmt.Errorf("reload sshd after the removal: %w", err)
	}
	if err := w.sweep(j.Files); err != nil {
		return err
	}
	if err := w.step("8 journal"); err != nil {
		return err
	}
	if err := w.save(journal{}); err != nil {
		return err
	}
	return w.forget(j)
}

// forget removes the kept files. One that a kill leaves behind is found by its
// content the next time.
func (w *Wiring) forget(j journal) error {
	if err := w.step("14 forget"); err != nil {
		return err
	}
	for _, e := range j.Files {
		for _, name := range []string{e.Original, e.Before} {
			if name != "" {
				if err := durable.Remove(filepath.Join(w.at(StateFolder), name)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// restoring is what a removal does with one file.
type restoring int

const (
	leave restoring = iota
	drop
	rewrite
)

// restored is what one file must hold without us: byte for byte what it held if it
// is as we wrote it, else what somebody made of it without our lines.
func (w *Wiring) restored(e entry) (string, restoring, error) {
	now, err := w.text(e.Path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", leave, nil
	case err != nil:
		return "", leave, err
	case e.Original == "":
		return "", drop, nil
	}
	text := without(e.Path, now)
	if digest(now) == e.Written {
		if text, err = w.kept(e.Original); err != nil {
			return "", leave, err
		}
	}
	if text == now {
		return "", leave, nil
	}
	return text, rewrite, nil
}
