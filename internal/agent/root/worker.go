package root

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/shim"
	"sallyport/internal/agent/sshd"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// watchEvery is how often the configuration files are looked at, should the kernel
// not tell of a change.
const watchEvery = 10 * time.Second

// work brings the machine to the state that the view wants, again and again: it
// is level-triggered, so a kill at any moment needs no special case.
func (s *Service) work(ctx context.Context) {
	if err := s.cfg.Wiring.Recover(ctx); err != nil {
		s.cfg.Log("an interrupted change of the configuration could not be undone: %v", err)
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	look := time.NewTicker(healEvery)
	defer look.Stop()
	changes := s.cfg.Wiring.Changes(ctx)
	done := attempt{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			done = s.apply(ctx, done)
		case <-changes:
			done = s.watch(ctx, done)
		case <-tick.C:
			done = s.watch(ctx, done)
		case <-look.C:
			s.heal(&done)
		case answer := <-s.tests:
			answer <- s.cfg.Wiring.SelfTest(ctx, s.wanted(s.now()))
		}
	}
}

// attempt is what the worker tried last, so that it does not repeat itself.
type attempt struct {
	key    string
	mark   string
	err    error
	nss    nssWritten
	force  *sshd.Wanted // what was put into force last; nil: unknown
	unsure bool         // the last look said nothing: look again
}

// apply brings files and configuration up to date. Who may not be here any more
// is guard's, which waits for none of this.
func (s *Service) apply(ctx context.Context, last attempt) attempt {
	v := s.now()
	if v.doc == nil {
		s.applied(v, s.cfg.Wiring.Wired())
		return last
	}
	nssErr := s.writeNSS(v, &last)
	if nssErr != nil {
		s.cfg.Log("name service file: %v", nssErr)
	}
	adminErr := s.administrator(ctx, v.doc.Administrator)
	if adminErr != nil {
		s.cfg.Log("administrator account: %v", adminErr)
	}
	last = s.wire(ctx, v, last)
	wired := s.cfg.Wiring.Wired()
	if wired {
		s.weigh(ctx, &last)
	} else {
		s.noteDrift(nil)
	}
	s.applied(v, last.err != nil && wired)
	// A name service file that could not be written is no drift: with a full disk,
	// those who are in the old one log in, and heal writes the new one.
	failed := last.err
	if failed == nil {
		failed = nssErr
	}
	r := reached{revision: v.doc.Revision, provisioned: "Succeeded", wired: wired}
	switch {
	case failed != nil:
		r.provisioned, r.exitCode, r.message = "Failed", sshd.ExitCode(failed), fault.As(failed).Public()
		if v.doc.LoginEnabled && !identified(v.doc) && !r.wired {
			r.exitCode = sshd.ExitNoIdentity
		}
	case adminErr != nil:
		r.provisioned, r.exitCode, r.message = "Failed", 1, fault.As(adminErr).Public()
	case v.doc.Preview:
		r.message = "Sign-in with a code and a web page is on (preview)."
	case v.doc.LoginEnabled:
		r.message = "Sign-in with directory accounts is on."
	}
	s.mu.Lock()
	r.manifest, r.drift, r.open, r.checked = s.reached.manifest, s.reached.drift, s.reached.open, s.reached.checked
	s.reached = r
	s.mu.Unlock()
	s.events.Poke()
	return last
}

// applied notes that the view's manifest is in force, unless sshd still has an
// older one.
func (s *Service) applied(v view, older bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !older {
		s.reached.manifest = [2]int64{v.held.ManifestEpoch, v.held.ManifestVersion}
	}
	close(s.worked)
	s.worked = make(chan struct{})
}

// wire puts the configuration in or takes it out. An attempt that failed is
// repeated with the next snapshot; one that succeeded is checked again only when
// a file has changed.
func (s *Service) wire(ctx context.Context, v view, last attempt) attempt {
	want := s.wanted(v)
	next := attempt{nss: last.nss, force: last.force, key: fmt.Sprint(v.doc.LoginEnabled, identified(v.doc), want), mark: s.cfg.Wiring.Mark()}
	wired := s.cfg.Wiring.Wired()
	switch {
	case !v.doc.LoginEnabled:
		next.err, next.force = s.cfg.Wiring.Remove(ctx), nil
	case !identified(v.doc) && !wired:
		next.err = fault.New(fault.Precondition, "IdentityRequired", "the extension needs the machine's system-assigned managed identity").
			WithRemedy("Run: sally vm identity assign, then set the extension again.")
	case last.err == nil && !last.unsure && wired && last.key == next.key && last.mark == next.mark:
		s.reloadHost(ctx, false)
		return next
	default:
		if next.err = s.cfg.Wiring.Apply(ctx, want); next.err == nil {
			next.force = &want
		}
	}
	if next.err != nil {
		s.cfg.Log("configuration: %v", next.err)
	}
	before := next.mark
	next.mark = s.cfg.Wiring.Mark()
	if v.doc.LoginEnabled && next.err == nil {
		// A change of files made sshd read everything anew already, but for the CAs.
		s.reloadHost(ctx, before != next.mark && !casAlone(last.force, want))
	}
	return next
}

// casAlone reports whether nothing but the user CAs changes, for which sshd is not
// made to read anything.
func casAlone(before *sshd.Wanted, want sshd.Wanted) bool {
	if before == nil {
		return false
	}
	want.UserCAs = before.UserCAs
	return fmt.Sprint(want) == fmt.Sprint(*before)
}

func (s *Service) wanted(v view) sshd.Wanted {
	if v.doc == nil {
		return sshd.Wanted{}
	}
	want := sshd.Wanted{Domains: slices.Clone(v.doc.Domains), Revision: v.doc.Revision, Preview: v.doc.Preview}
	for _, ca := range v.userCAs {
		want.UserCAs = append(want.UserCAs, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(ca))))
	}
	s.mu.RLock()
	want.HostCertificate = !s.host.validBefore.IsZero()
	s.mu.RUnlock()
	return want
}

// writeNSS lists everybody of the snapshot, also those without a grant: they
// must get as far as the sentence that says why. Only administrators are in the
// group that sudo knows (CVE-2020-8903, CVE-2020-8907: the user role brings no
// group that is as good as root).
func (s *Service) writeNSS(v view, last *attempt) error {
	db := s.database(v)
	key := fmt.Sprint(db)
	if key == last.nss.content && last.nss.mark == s.nssMark() {
		return nil
	}
	if err := shim.WriteNSS(s.at(nssPath), db); err != nil {
		return err
	}
	last.nss = nssWritten{content: key, mark: s.nssMark()}
	return nil
}

// database is what the name service knows of a view.
func (s *Service) database(v view) shim.Database {
	db := shim.Database{Domains: v.doc.Domains, Groups: []shim.Group{{Name: shim.GroupUsers, GID: shim.GIDUsers}, {Name: shim.GroupAdmins, GID: shim.GIDAdmins}, {Name: shim.GroupIdentity, GID: shim.GIDIdentity}}}
	shell := "/bin/sh"
	if s.exists("/bin/bash") {
		shell = "/bin/bash"
	}
	seen := map[uint32]bool{}
	for _, p := range v.people {
		if v.local[p.LoginName] || seen[p.UID] {
			continue
		}
		seen[p.UID] = true
		groups := []uint32{shim.GIDUsers}
		if p.Access == protocol.Admin {
			groups = append(groups, shim.GIDAdmins)
		}
		db.Users = append(db.Users, shim.User{Name: p.LoginName, UID: p.UID, GID: p.UID, Gecos: shim.Gecos(p.Name), Home: homeFolder + "/" + p.LoginName, Shell: shell, Groups: groups})
	}
	slices.SortFunc(db.Users, func(a, b shim.User) int { return strings.Compare(a.Name, b.Name) })
	return db
}
