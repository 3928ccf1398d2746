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
	if err := durable.Folder(w.at(stateFolder), 0o700); err != nil {
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
	return nil
}

// Apply brings the configuration to the wanted state and tests it. It is
// idempotent. On any error everything is as it was before the call.
func (w *Wiring) Apply(ctx context.Context, want Wanted) error {
	if err := w.Recover(ctx); err != nil {
		return err
	}
	files, p, err := w.plan(want)
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
	if len(changed) == 0 && j.Phase == installed {
		return w.Check(ctx, want)
	}
	if err := w.beside(ctx, files, p); err != nil {
		return err
	}
	next, err := w.begin(j, files)
	if err != nil {
		return err
	}
	if err := w.switchOver(ctx, want, files, next); err != nil {
		var k killed
		if errors.As(err, &k) {
			return err
		}
		return errors.Join(err, w.undo(context.WithoutCancel(ctx), next))
	}
	next.Phase, next.Prior = installed, ""
	return w.save(next)
}

// killed is an error of a test's Step: everything stays as a kill would leave it.
type killed struct{ error }

func (w *Wiring) step(name string) error {
	if w.cfg.Step == nil {
		return nil
	}
	if err := w.cfg.Step(name); err != nil {
		return killed{err}
	}
	return nil
}

// beside tests the new texts before any file is touched: sudo's with visudo(8),
// sshd's with sshd -t.
func (w *Wiring) beside(ctx context.Context, files []file, p parts) error {
	for _, f := range files {
		var argv []string
		path := filepath.Join(w.at(stateFolder), "candidate")
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
	return next, w.save(next)
}

// switchOver writes the files in an order in which a person of this machine can
// always log in: PAM last, because it takes effect at once.
func (w *Wiring) switchOver(ctx context.Context, want Wanted, files []file, j journal) error {
	entries := map[string]entry{}
	for _, e := range j.Files {
		entries[e.Path] = e
	}
	// sshd opens TrustedUserCAKeys anew for every login (sshd_config(5)), so that a
	// rotation of the CA needs no signal, during which sshd would not listen.
	reread := j.Prior != installed
	for _, f := range files {
		if now, err := w.text(f.Path); err == nil && now == f.Content {
			continue
		}
		reread = reread || f.Path != userCAPath
		if err := w.write(entries[f.Path], f.Content); err != nil {
			return err
		}
	}
	if err := w.Check(ctx, want); err != nil {
		return err
	}
	if !reread {
		return nil
	}
	if err := w.step("reload"); err != nil {
		return err
	}
	if err := w.cfg.Reload(ctx); err != nil {
		return fmt.Errorf("reload sshd: %w", err)
	}
	if err := w.cfg.Try(ctx); err != nil {
		return fault.Wrap(err, fault.Conflict, "ExtensionSelfTestFailed", "the self-test after the change failed, so it was undone: %v", err).
			WithRemedy("Run as root on the machine: sally agent doctor")
	}
	return nil
}

// undo puts every file back to what it was before the change.
func (w *Wiring) undo(ctx context.Context, j journal) error {
	for i := len(j.Files) - 1; i >= 0; i-- {
		e := j.Files[i]
		if e.Before == "" {
			if err := w.remove(e.Path); err != nil {
				return err
			}
			continue
		}
		text, err := w.kept(e.Before)
		if err != nil {
			return err
		}
		if now, err := w.text(e.Path); err == nil && now == text {
			continue
		}
		if err := w.write(e, text); err != nil {
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
	if err := w.cfg.Reload(ctx); err != nil {
		return fmt.Errorf("reload sshd after the undo: %w", err)
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
	j.Phase = removing
	if err := w.save(j); err != nil {
		return err
	}
	return w.takeOut(ctx, j)
}

// takeOut removes us from every file, PAM first, and forgets what was kept.
func (w *Wiring) takeOut(ctx context.Context, j journal) error {
	for i := len(j.Files) - 1; i >= 0; i-- {
		if err := w.restore(j.Files[i]); err != nil {
			return err
		}
	}
	if err := w.cfg.Reload(ctx); err != nil {
		return fmt.Errorf("reload sshd after the removal: %w", err)
	}
	if err := w.save(journal{}); err != nil {
		return err
	}
	for _, e := range j.Files {
		for _, name := range []string{e.Original, e.Before} {
			if name != "" {
				if err := durable.Remove(filepath.Join(w.at(stateFolder), name)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// restore takes one file back: byte for byte if it is as we wrote it, else by
// removing our lines from what somebody made of it.
func (w *Wiring) restore(e entry) error {
	now, err := w.text(e.Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if e.Original == "" {
		return w.remove(e.Path)
	}
	text := without(e.Path, now)
	if digest(now) == e.Written {
		if text, err = w.kept(e.Original); err != nil {
			return err
		}
	}
	if text == now {
		return nil
	}
	return w.write(e, text)
}
