package machine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"sallyport/internal/directory"
	"sallyport/internal/machine/protocol"
)

const (
	// changedMax is up to how many changed accounts are told one by one; a machine
	// that misses more gets the whole table.
	changedMax = 10_000
	// kept is how many signed documents are kept for machines that hold the same.
	kept = 8
)

// accountKinds are the feed's kinds of changes that are changes of accounts.
func accountKinds() []string { return []string{"user", "servicePrincipal"} }

// accountTable makes the documents that tell machines of accounts, once for all
// that hold the same.
type accountTable struct {
	mu   sync.Mutex // held while a document is made, so that it is made once
	made []madeAccounts

	lastMu sync.Mutex
	last   int64 // position of the newest change of an account; -1: not known yet
}

type madeAccounts struct {
	from, to        int64
	epoch, manifest int64
	envelope        protocol.Envelope
}

// accountsAt returns the version of the table: the position of the newest change.
func (s *Service) accountsAt(ctx context.Context) (int64, error) {
	t := &s.accounts
	t.lastMu.Lock()
	defer t.lastMu.Unlock()
	if t.last < 0 {
		if err := s.cfg.Read(ctx, func(tx Tx) (err error) {
			t.last, err = tx.LastChange(accountKinds())
			return err
		}); err != nil {
			return 0, fmt.Errorf("accounts: %w", err)
		}
		t.last = max(t.last, 1)
	}
	return t.last, nil
}

// newestAccounts is accountsAt without asking the store; -1 while it is not known.
func (s *Service) newestAccounts() int64 {
	t := &s.accounts
	t.lastMu.Lock()
	defer t.lastMu.Unlock()
	return t.last
}

// accountChanged notes a change of an account.
func (s *Service) accountChanged(position int64) {
	t := &s.accounts
	t.lastMu.Lock()
	defer t.lastMu.Unlock()
	t.last = max(t.last, position)
}

// accountsFor returns what brings a machine's table to version to, or nil when
// it is there.
func (s *Service) accountsFor(ctx context.Context, m protocol.Manifest, to int64, r protocol.PollRequest) (*protocol.Envelope, error) {
	from := max(r.Accounts, 0)
	switch {
	case r.AccountsEpoch != m.Epoch:
		from = 0
	case from >= to:
		return nil, nil
	}
	t := &s.accounts
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.find(from, to, m); e != nil {
		return e, nil
	}
	ids, known, err := s.changedSince(ctx, from, to)
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	if !known {
		// The whole table is one document, whatever machines say that they hold.
		from = 0
		if e := t.find(from, to, m); e != nil {
			return e, nil
		}
	}
	doc := protocol.AccountsDocument{Tenant: m.Tenant, Epoch: m.Epoch, From: from, Version: to}
	s.fill(&doc, ids)
	payload, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	envelope, err := s.cfg.Keys.Sign(protocol.TypeAccounts, payload)
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	t.made = append(t.made, madeAccounts{from: from, to: to, epoch: m.Epoch, manifest: m.Version, envelope: envelope})
	if n := len(t.made) - kept; n > 0 {
		t.made = slices.Delete(t.made, 0, n)
	}
	return &envelope, nil
}

// find returns a document that was made before; the caller holds mu.
func (t *accountTable) find(from, to int64, m protocol.Manifest) *protocol.Envelope {
	for _, made := range t.made {
		if made.from == from && made.to == to && made.epoch == m.Epoch && made.manifest == m.Version {
			return &made.envelope
		}
	}
	return nil
}

// changedSince lists the accounts that changed in (from, to]; known is false
// where the feed does not tell.
func (s *Service) changedSince(ctx context.Context, from, to int64) (ids []string, known bool, err error) {
	if from == 0 {
		return nil, false, nil
	}
	err = s.cfg.Read(ctx, func(tx Tx) (err error) {
		ids, known, err = tx.ChangedKeys(accountKinds(), from, to, changedMax)
		return err
	})
	return ids, known, err
}

// fill puts the changed accounts into a document, or all of them into a whole
// one. An account is told as it is now, which may be newer than the version says,
// never older.
func (s *Service) fill(doc *protocol.AccountsDocument, ids []string) {
	if doc.From == 0 {
		var users []directory.User
		var principals []directory.ServicePrincipal
		s.cfg.Directory.Users(func(u directory.User) bool { users = append(users, u); return true })
		s.cfg.Directory.ServicePrincipals(func(p directory.ServicePrincipal) bool { principals = append(principals, p); return true })
		doc.Changed = accounts(users, principals)
		return
	}
	for _, id := range ids {
		if a, ok := s.account(id); ok {
			doc.Changed = append(doc.Changed, a)
		} else {
			doc.Removed = append(doc.Removed, id)
		}
	}
}

// account returns an identity that has a POSIX identity.
func (s *Service) account(id string) (protocol.Account, bool) {
	if u, ok := s.cfg.Directory.User(id); ok {
		return userAccount(u), u.UID != 0
	}
	p, ok := s.cfg.Directory.ServicePrincipal(id)
	return principalAccount(p), ok && p.UID != 0
}
