package sshd

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/fault"
)

// manner is how people log in: with a certificate, or, in the preview version of
// the extension, by PAM's conversation (keyboard-interactive, RFC 4256).
type manner struct {
	preview bool
	// old is OpenSSH before 8.7, which has keyboard-interactive only where the
	// global keyword ChallengeResponseAuthentication says so too.
	old bool
	// closed: nobody else of the machine has keyboard-interactive, and nobody gets
	// it by that keyword.
	closed bool
}

// probeUser is nobody: sshd -T wants a connection where there is a Match.
const probeUser = "user=root,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22"

// dump is what sshd says of its configuration.
func (w *Wiring) dump(ctx context.Context, p parts) (map[string]string, error) {
	out, err := w.cfg.Run(ctx, p.sshd, "-T", "-C", probeUser)
	if err != nil {
		return nil, fault.Wrap(err, fault.Conflict, codeDrift, "sshd cannot say what it would do: %s.", firstLine(out))
	}
	return settings(out), nil
}

func (w *Wiring) manner(ctx context.Context, p parts, want Wanted) (manner, error) {
	m := manner{preview: want.Preview}
	if !m.preview {
		return m, nil
	}
	have, err := w.dump(ctx, p)
	if err != nil {
		return m, err
	}
	if _, m.old = have["challengeresponseauthentication"]; !m.old {
		return m, nil
	}
	value, err := w.challenge(mainPath, 0)
	m.closed = value != "" && !strings.EqualFold(value, "yes")
	return m, err
}

// deepest is how deep sshd follows Include (servconf.c, SERVCONF_MAX_DEPTH).
const deepest = 16

// challenge finds what the machine itself says of ChallengeResponseAuthentication:
// the first line outside a Match, files read where they are included, as sshd reads
// them (sshd_config(5)). OpenSSH before 8.7 offers keyboard-interactive to all where
// it is yes, which is the default, and to nobody where it is no, whatever
// KbdInteractiveAuthentication says outside a Match (sshd.c).
func (w *Wiring) challenge(path string, depth int) (string, error) {
	text, err := w.text(path)
	if depth > deepest || depth > 0 && errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for _, l := range linesOf(path, text) {
		switch {
		case l.is("Match"):
			return "", nil // it ends with its file
		case l.is("ChallengeResponseAuthentication"), l.is("SkeyAuthentication"):
			return strings.Trim(l.words[1], `"`), nil
		case l.is("Include"):
			for _, p := range w.named(l.words[1:]) {
				if value, err := w.challenge(p, depth+1); value != "" || err != nil {
					return value, err
				}
			}
		}
	}
	return "", nil
}

// changed is the options of the Match block for the preview: no key opens
// anything, PAM asks, and PAM alone.
func (m manner) changed(options []string) []string {
	if !m.preview {
		return options
	}
	out := slices.DeleteFunc(options, func(o string) bool {
		return strings.HasPrefix(o, "AuthenticationMethods ") || strings.HasPrefix(o, "PubkeyAuthentication ")
	})
	return append(out, "AuthenticationMethods keyboard-interactive:pam", "PubkeyAuthentication no", "KbdInteractiveAuthentication yes")
}

// around is what stands before and behind the Match block.
func (m manner) around() (before, behind []string) {
	if !m.old {
		return nil, nil
	}
	before = []string{"ChallengeResponseAuthentication yes"}
	if m.closed {
		behind = []string{"Match all", "  KbdInteractiveAuthentication no"}
	}
	return before, behind
}

// pamAuth are our lines in sshd's auth phase, for the preview. Nothing behind them
// is asked for the people of the directory; without our library the rest is, which
// knows no password of theirs, and the account phase refuses them.
func pamAuth(domains []string) string {
	return block("auth  [success=done ignore=ignore module_unknown=ignore default=die]  pam_sallyport.so domains=" + strings.Join(domains, ","))
}

// placeAuth puts the lines before everything else of the auth phase.
func placeAuth(text string, domains []string) string {
	var b strings.Builder
	placed := false
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		first := len(f) > 1 && (strings.EqualFold(strings.TrimPrefix(f[0], "-"), "auth") || f[0] == "@include" && !slices.Contains([]string{"common-account", "common-password", "common-session", "common-session-noninteractive"}, f[1]))
		if first && !placed {
			b.WriteString(pamAuth(domains))
			placed = true
		}
		b.WriteString(line)
	}
	if !placed {
		return pamAuth(domains) + text
	}
	return b.String()
}

// usualGrace is sshd's own LoginGraceTime (sshd_config(5)); the longest stands for
// none.
const (
	usualGrace   = 2 * time.Minute
	longestGrace = 15 * time.Minute
)

// Grace is how long sshd waits for somebody to be let in.
func (w *Wiring) Grace(ctx context.Context) time.Duration {
	p, err := w.parts()
	if err != nil {
		return usualGrace
	}
	have, err := w.dump(ctx, p)
	if err != nil {
		return usualGrace
	}
	seconds, err := strconv.Atoi(have["logingracetime"])
	switch {
	case err != nil || seconds < 0:
		return usualGrace
	case seconds == 0:
		return longestGrace
	}
	return min(time.Duration(seconds)*time.Second, longestGrace)
}
