package root

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/agent/durable"
	"sallyport/internal/agent/grants"
	"sallyport/internal/agent/pin"
	"sallyport/internal/agent/shim"
	"sallyport/internal/agent/sshd"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/machine/protocol"
)

// held is what survives a restart: the counters that never go back, and the
// snapshot that they belong to, in one file so that they cannot part.
type held struct {
	ManifestEpoch   int64 `json:"manifestEpoch"`
	ManifestVersion int64 `json:"manifestVersion"`
	Epoch           int64 `json:"epoch"`
	Version         int64 `json:"version"`
	AccountsEpoch   int64 `json:"accountsEpoch,omitempty"`
	AccountsVersion int64 `json:"accountsVersion,omitempty"`
	// Capability of the snapshot, and then the lowest that its epoch may still have:
	// it outlives a snapshot whose key was withdrawn.
	Capability int           `json:"capability,omitempty"`
	Signed     time.Time     `json:"signed"`  // highest signed time seen
	BootID     string        `json:"bootId"`  // of the boot in which the snapshot came
	Elapsed    time.Duration `json:"elapsed"` // of the boot clock, then
	Endings    []*ending     `json:"endings,omitempty"`
	// Withdrawn are keys that any manifest called compromised. They stay so, also
	// when a restored server has forgotten it.
	Withdrawn []string `json:"withdrawn,omitempty"`
	// Rebuild says that the counters were lost: until a fresh snapshot gives new
	// ones, nobody is let in.
	Rebuild  bool               `json:"rebuild,omitempty"`
	Snapshot *protocol.Envelope `json:"snapshot,omitempty"`
}

// view is everything that decisions read: never changed, only replaced.
type view struct {
	held     held
	signed   protocol.SignedManifest
	manifest protocol.Manifest
	userCAs  []ssh.PublicKey
	hostCAs  []ssh.PublicKey
	table    table
	doc      *protocol.SnapshotDocument
	people   map[string]*protocol.Principal // by login name
	revoked  map[string]bool
	local    map[string]bool // names of local users and groups
}

// restore verifies what was kept as if it had just arrived.
func (s *Service) restore() view {
	v := view{held: s.restoreHeld()}
	signed, manifest, ok := s.restoreManifest(v.held)
	if !ok {
		return v
	}
	before := v.held
	if v.trust(signed, manifest); before.ManifestVersion != 0 && len(v.held.Withdrawn) > len(before.Withdrawn) {
		// A kill came between the manifest and what it ends. The list does not say
		// what a withdrawn key was for.
		v.held.Endings = append(v.held.Endings, withdrawnEnding())
	}
	var err error
	if v.table, err = s.restoreAccounts(v.held); err != nil {
		s.cfg.Log("%v", err)
	}
	if v.held.Snapshot == nil {
		return v
	}
	doc, err := s.verify(*v.held.Snapshot, v)
	if err == nil && !v.table.holds(doc) {
		err = errors.New("its accounts are not there")
	}
	if err != nil {
		// A revoked snapshot key: wait for the next one, and let nobody in.
		s.cfg.Log("the kept snapshot is not used: %v", err)
		v.held.Snapshot, v.table = nil, table{}
		return v
	}
	v.held.Capability = doc.Capability // older files do not say it
	return v.with(doc, s.localNames())
}

// trust takes over a verified manifest.
func (v *view) trust(signed protocol.SignedManifest, m protocol.Manifest) {
	v.signed, v.manifest = signed, m
	v.distrust(m)
	v.held.ManifestEpoch, v.held.ManifestVersion = m.Epoch, m.Version
}

// distrust gives up the keys that a manifest calls compromised.
func (v *view) distrust(m protocol.Manifest) {
	for _, k := range m.Keys {
		if k.Purpose == protocol.Compromised && !slices.Contains(v.held.Withdrawn, k.ID) {
			v.held.Withdrawn = append(slices.Clone(v.held.Withdrawn), k.ID)
		}
	}
	v.userCAs, v.hostCAs = sshKeys(v.keys(protocol.UserCA)), sshKeys(v.keys(protocol.HostCA))
}

// keys returns the trusted keys of one purpose.
func (v view) keys(p protocol.Purpose) []crypto.PublicKey {
	return slices.DeleteFunc(v.manifest.For(p), func(k crypto.PublicKey) bool {
		id, err := protocol.Thumbprint(k)
		return err != nil || slices.Contains(v.held.Withdrawn, id)
	})
}

// with returns the view with a verified snapshot.
func (v view) with(doc protocol.SnapshotDocument, local map[string]bool) view {
	v.doc, v.local = &doc, local
	everybody := v.table.everybody(doc)
	v.people = make(map[string]*protocol.Principal, len(everybody))
	for i := range everybody {
		if p := &everybody[i]; usable(*p, doc.Domains) {
			v.people[p.LoginName] = p
		}
	}
	v.revoked = make(map[string]bool, len(doc.Revoked))
	for _, serial := range doc.Revoked {
		v.revoked[serial] = true
	}
	return v
}

// usable refuses a record that could be anything but one of ours, whoever
// signed it: a uid of the system, say (CVE-2025-5689).
func usable(p protocol.Principal, domains []string) bool {
	return shim.Ours(p.LoginName, domains) && guid.Valid(p.ObjectID) && p.UID >= shim.IDMin && p.UID < visitorUID
}

func (s *Service) localNames() map[string]bool {
	local, err := sshd.LocalNames(s.cfg.Root)
	if err != nil {
		s.cfg.Log("local users and groups cannot be read: %v", err)
	}
	return local
}

func (s *Service) save(h held) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return durable.Write(s.at(heldPath), b, 0o600)
}

func refused(format string, args ...any) error {
	return fault.New(fault.Forbidden, "DocumentRefused", format, args...)
}

// verify checks signature and binding: this tenant, this machine, this key.
func (s *Service) verify(e protocol.Envelope, v view) (protocol.SnapshotDocument, error) {
	doc, err := protocol.OpenSnapshot(e, v.keys(protocol.Snapshot))
	if err != nil {
		return doc, fault.Wrap(err, fault.Forbidden, "DocumentRefused", "the snapshot is refused: %v", err)
	}
	p := s.cfg.Pins
	if doc.Tenant != p.Tenant || doc.MachineID != p.MachineID || doc.KeyThumbprint != p.KeyThumbprint {
		return doc, refused("the snapshot was made for another machine")
	}
	if len(doc.Domains) == 0 || doc.UserStale <= 0 || doc.AdminStale <= 0 || doc.IssuedAt.IsZero() || doc.Epoch < 1 {
		return doc, refused("the snapshot lacks domains, times or its epoch")
	}
	if doc.Upgrade != nil && doc.Upgrade.Check() != nil {
		return doc, refused("the snapshot wishes for a build that is none")
	}
	// They are written into the configurations of sshd and PAM.
	if slices.ContainsFunc(doc.Domains, func(d string) bool { return !shim.Ours("a@"+d, []string{d}) }) {
		return doc, refused("the snapshot names a domain that is none")
	}
	return doc, nil
}

// Manifest takes over a manifest that is signed by the pinned key and not older
// than the held one.
func (s *Service) Manifest(m protocol.SignedManifest) error {
	s.deliver.Lock()
	defer s.deliver.Unlock()
	manifest, err := s.cfg.Pins.OpenManifest(m)
	if err != nil {
		return fault.Wrap(err, fault.Forbidden, "DocumentRefused", "the manifest is refused: %v", err)
	}
	v := s.now()
	if none := v.manifest.Tenant == ""; !none && !manifest.Newer(v.manifest) || v.held.seen(manifest) {
		return refused("the manifest is older than the one held: version %d of epoch %d", manifest.Version, manifest.Epoch)
	}
	if manifest.Epoch == v.manifest.Epoch && manifest.Version == v.manifest.Version {
		return nil
	}
	v = s.withdraw(manifest)
	if err := pin.SaveManifest(s.cfg.Root, m); err != nil {
		return err
	}
	v.trust(m, manifest)
	s.unsigned(&v)
	if err := s.save(v.held); err != nil {
		return err
	}
	s.replace(v)
	s.mends(partManifest)
	s.judgeHost(v)
	return nil
}

// withdrawn says that every session of ours ends, because a key that opened them may
// be in other hands: a thief's processes cannot be told from their victim's.
func withdrawn(old, next view) bool {
	for _, ca := range old.manifest.Keys {
		if ca.Purpose == protocol.UserCA && !slices.Contains(old.held.Withdrawn, ca.ID) && slices.Contains(next.held.Withdrawn, ca.ID) {
			return true
		}
	}
	return false
}

func withdrawnEnding() *ending {
	return &ending{All: true, Message: "Sallyport: the key that your certificate was signed with was withdrawn, so every session is ended. Connect again; your sign-in is still good."}
}

// Snapshot takes over a snapshot that is made for this machine and not older
// than anything that it has seen. The same one again changes nothing, not even
// its age.
func (s *Service) Snapshot(e protocol.Envelope) error {
	s.deliver.Lock()
	defer s.deliver.Unlock()
	v := s.now()
	doc, err := s.verify(e, v)
	if err != nil {
		return err
	}
	h := v.held
	switch {
	case doc.Epoch != v.manifest.Epoch:
		// Only the manifest key begins an epoch, and what it has begun ends the one
		// before: a server that was replaced by its backup tells nothing any more.
		return refused("the snapshot is of epoch %d, and the manifest's is %d", doc.Epoch, v.manifest.Epoch)
	case doc.Epoch < h.Epoch, doc.Epoch == h.Epoch && doc.Version < h.Version:
		return refused("the snapshot is older than the one held: version %d of epoch %d", doc.Version, doc.Epoch)
	case doc.IssuedAt.Before(h.Signed):
		return refused("the snapshot was signed before the one held, at %s", doc.IssuedAt.Format(time.RFC3339))
	case doc.Epoch == h.Epoch && doc.Capability < h.Capability:
		// Made for a poll that says less than this machine speaks: it lacks the
		// sessions that were ended, and their longest age.
		return refused("the snapshot is of capability %d, and the one held of %d", doc.Capability, h.Capability)
	case v.doc != nil && doc.Epoch == h.Epoch && doc.Version == h.Version && doc.IssuedAt.Equal(h.Signed):
		return nil
	case s.rebuilding(h, doc) != nil:
		return s.rebuilding(h, doc)
	case !v.table.holds(doc):
		return refused("the snapshot demands accounts of version %d, and version %d of epoch %d is held", doc.Accounts, v.table.Version, v.table.Epoch)
	}
	h.Epoch, h.Version, h.Signed, h.Capability, h.Snapshot = doc.Epoch, doc.Version, doc.IssuedAt, doc.Capability, &e
	h.Rebuild = false
	h.BootID, h.Elapsed = s.cfg.Boot()
	next := v.with(doc, s.localNames())
	h.Endings = endings(v, next)
	next.held = h
	s.foresee(next)
	if err := s.save(h); err != nil {
		return err
	}
	s.replace(next)
	s.mends(partHeld)
	s.witnessHead(doc, v.manifest)
	return nil
}

// replace makes a view the one that decisions read, and wakes who acts on it.
func (s *Service) replace(v view) {
	s.mu.Lock()
	s.view, s.coming = v, nil
	s.mu.Unlock()
	s.lookNow()
	s.poke()
	s.upgrade.poke()
	s.ident.poke()
}

// endings is what is to be ended when one snapshot follows another: what was before,
// but for what an administrator's role that came back would lose; what runs of who
// was an administrator and is none; and the sessions that the directory ended.
func endings(old, next view) []*ending {
	list := slices.DeleteFunc(slices.Clone(old.held.Endings), func(e *ending) bool { return e.Elevated && next.person(e.UID).Access == protocol.Admin })
	for name, was := range old.people {
		is := next.people[name]
		switch {
		case is == nil || is.ObjectID != was.ObjectID:
			continue // the worker ends what has no access at all
		case is.NotBefore.After(was.NotBefore):
			list = append(list, &ending{UID: was.UID, NotBefore: is.NotBefore, Message: "Sallyport: your sessions were ended by the directory. Sign in again: sally login"})
		case was.Access == protocol.Admin && is.Access == protocol.Login:
			list = append(list, &ending{UID: was.UID, Elevated: true, Message: "Sallyport: your administrator role on this machine was removed; what ran as administrator is ended."})
		}
	}
	return list
}

// clockOff is how wrong the wall clock may be; resign is how old a snapshot may
// be when it arrives, because the server signs an unchanged one anew that often.
const (
	clockOff = 5 * time.Minute
	resign   = 5 * time.Minute
)

// clock judges time without trusting the wall clock alone: the boot clock says
// how long ago the snapshot came, its signed time says when that was at least.
func (s *Service) clock(v view, now time.Time) grants.Clock {
	c := grants.Clock{Age: max(now.Sub(v.doc.IssuedAt), 0)}
	server := v.doc.IssuedAt // the server's time is at least this
	boot, elapsed := s.cfg.Boot()
	sameBoot := boot == v.held.BootID && elapsed >= v.held.Elapsed
	if sameBoot {
		since := elapsed - v.held.Elapsed
		server = server.Add(since)
		c.Age = max(c.Age, since)
	}
	switch off := now.Sub(server); {
	case off < -clockOff:
		c.Wrong = fmt.Sprintf("it is at least %s behind the server", (-off).Round(time.Second))
	case sameBoot && off > clockOff+resign:
		c.Wrong = fmt.Sprintf("it is about %s ahead of the server, or the server's answer was held back", (off - resign).Round(time.Second))
	}
	return c
}

// homeOwner returns who owns the home folder of a name; nil when there is none.
// Anything but a folder in its place counts as somebody else's.
func (s *Service) homeOwner(name string) *uint32 {
	info, err := os.Lstat(s.at(homeFolder + "/" + name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	nobody := ^uint32(0)
	if err != nil || !info.IsDir() {
		return &nobody
	}
	uid := ownerOf(info)
	return &uid
}
