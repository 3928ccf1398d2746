package root

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"sallyport/internal/agent/durable"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// table is the accounts that this machine knows, whatever their roles here:
// never changed, only replaced. The zero table is none.
type table struct {
	Epoch    int64                       `json:"epoch"`
	Version  int64                       `json:"version"`
	Accounts map[string]protocol.Account `json:"accounts"` // by object id
}

// older reports whether a table is older than another.
func (t table) older(than table) bool {
	return t.Epoch < than.Epoch || t.Epoch == than.Epoch && t.Version < than.Version
}

// restoreAccounts reads the kept table. One that is older than what this machine
// has seen is not used; the next poll brings a whole one.
func (s *Service) restoreAccounts(h held) (table, error) {
	var t table
	b, err := durable.Read(s.at(accountsPath), s.cfg.Owner, 2*protocol.MaxDocument)
	if errors.Is(err, fs.ErrNotExist) {
		return table{}, nil
	}
	if err == nil {
		err = protocol.Decode(b, &t)
	}
	if err != nil {
		return table{}, fmt.Errorf("kept accounts: %w", err)
	}
	if t.older(table{Epoch: h.AccountsEpoch, Version: h.AccountsVersion}) {
		s.cfg.Log("the kept accounts are older than ones that this machine has seen, and are not used")
		return table{}, nil
	}
	return t, nil
}

// Accounts takes over the table of accounts, or what changed in the held one
// since exactly its version.
func (s *Service) Accounts(e protocol.Envelope) error {
	s.deliver.Lock()
	defer s.deliver.Unlock()
	v := s.now()
	doc, err := protocol.OpenAccounts(e, v.keys(protocol.Snapshot))
	if err != nil {
		return fault.Wrap(err, fault.Forbidden, "DocumentRefused", "the accounts are refused: %v", err)
	}
	if doc.Tenant != s.cfg.Pins.Tenant {
		return refused("the accounts are of another tenant")
	}
	if doc.Epoch > v.manifest.Epoch {
		return refused("the accounts are of epoch %d, and the manifest knows no epoch after %d", doc.Epoch, v.manifest.Epoch)
	}
	next := table{Epoch: doc.Epoch, Version: doc.Version}
	h := v.held
	switch {
	case next.older(table{Epoch: h.AccountsEpoch, Version: h.AccountsVersion}):
		return refused("the accounts are older than the ones held: version %d of epoch %d", doc.Version, doc.Epoch)
	case doc.From == 0:
		next.Accounts = make(map[string]protocol.Account, len(doc.Changed))
	case doc.Epoch != v.table.Epoch || doc.From != v.table.Version:
		return refused("the changes of accounts since version %d do not continue the held version %d", doc.From, v.table.Version)
	default:
		next.Accounts = maps.Clone(v.table.Accounts)
	}
	for _, a := range doc.Changed {
		next.Accounts[a.ObjectID] = a
	}
	for _, id := range doc.Removed {
		delete(next.Accounts, id)
	}
	after := v
	if after.table = next; v.doc != nil {
		after = after.with(*v.doc, v.local)
		h.Endings = endings(v, after)
	}
	first := h // what ends, with the counters as they were
	h.AccountsEpoch, h.AccountsVersion = next.Epoch, next.Version
	after.held = h
	s.foresee(after)
	// What ends follows from the difference to the old table: a kill after the new
	// one is kept would forget it.
	if !slices.Equal(h.Endings, v.held.Endings) {
		if err := s.save(first); err != nil {
			return err
		}
	}
	if err := s.saveAccounts(next); err != nil {
		return err
	}
	// A kill before this leaves a table that is newer than the counter says, which
	// is as good.
	if err := s.save(h); err != nil {
		return err
	}
	s.replace(after)
	return nil
}

func (s *Service) saveAccounts(t table) error {
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return durable.Write(s.at(accountsPath), b, 0o600)
}

// everybody joins the accounts with a snapshot's grants. A snapshot of the first
// protocol version says it all itself.
func (t table) everybody(doc protocol.SnapshotDocument) []protocol.Principal {
	if doc.Accounts == 0 {
		return doc.Principals
	}
	grants := make(map[string]protocol.Grant, len(doc.Grants))
	for _, g := range doc.Grants {
		grants[g.ObjectID] = g
	}
	list := make([]protocol.Principal, 0, len(t.Accounts))
	for id, a := range t.Accounts {
		list = append(list, a.Principal(grants[id]))
	}
	return list
}

// holds reports whether the accounts are there that a snapshot demands.
func (t table) holds(doc protocol.SnapshotDocument) bool {
	return doc.Accounts == 0 || t.Epoch == doc.Epoch && t.Version >= doc.Accounts
}
