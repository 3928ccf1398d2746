package protocol

import (
	"crypto"
	"errors"
	"fmt"
	"time"
)

// Account is one identity of the directory: what every machine knows of it,
// whatever its roles there.
type Account struct {
	ObjectID  string    `json:"id"`
	LoginName string    `json:"login"` // UPN, or the object id of a service principal
	UID       uint32    `json:"uid"`   // also the gid of the private group
	Name      string    `json:"name,omitempty"`
	Disabled  bool      `json:"disabled,omitempty"`
	NotBefore time.Time `json:"notBefore"` // certificates issued before it are refused
}

// Grant is what one machine knows of an identity's roles there. Who has no grant
// has no role.
type Grant struct {
	ObjectID string   `json:"id"`
	Access   Access   `json:"access"`
	Reason   string   `json:"reason,omitempty"`  // for None
	Factors  []string `json:"factors,omitempty"` // the certificate must carry these
}

// AccountsDocument is the table of accounts, or what changed in it since an
// older version. It is signed with the snapshot key and the same for all
// machines, so that a change of a person is derived and signed once, however
// many machines there are. A version is a position of the change feed: a table
// of version N has everything up to N and may have more.
type AccountsDocument struct {
	Tenant  string    `json:"tenant"`
	Epoch   int64     `json:"epoch"`
	From    int64     `json:"from"` // the version that it continues; 0: this is the whole table
	Version int64     `json:"version"`
	Changed []Account `json:"changed"`
	Removed []string  `json:"removed,omitempty"` // object ids
}

// OpenAccounts verifies an envelope with one of the manifest's snapshot keys and
// parses it. Whether it continues what is held is the caller's to judge.
func OpenAccounts(e Envelope, keys []crypto.PublicKey) (AccountsDocument, error) {
	var d AccountsDocument
	for _, pub := range keys {
		if id, err := Thumbprint(pub); err != nil || id != e.KeyID {
			continue
		}
		payload, err := e.Open(pub, TypeAccounts)
		if err != nil {
			return d, err
		}
		if err := Decode(payload, &d); err != nil {
			return d, fmt.Errorf("accounts: %w", err)
		}
		if d.Epoch < 1 || d.From < 0 || d.Version < d.From || d.Version < 1 {
			return d, errors.New("accounts: epoch or version is out of range")
		}
		return d, nil
	}
	return d, errors.New("the accounts are signed by a key that the manifest does not list")
}

// Principal joins an account with its grant on one machine; the zero Grant is
// none.
func (a Account) Principal(g Grant) Principal {
	p := Principal{ObjectID: a.ObjectID, LoginName: a.LoginName, UID: a.UID, Name: a.Name, NotBefore: a.NotBefore, Access: g.Access, Reason: g.Reason, Factors: g.Factors}
	switch {
	case a.Disabled:
		p.Access, p.Reason, p.Factors = None, ReasonDisabled, nil
	case g.ObjectID != a.ObjectID || g.Access != Login && g.Access != Admin && g.Reason == "":
		p.Access, p.Reason, p.Factors = None, ReasonNoRole, nil
	}
	return p
}
