package server

import (
	"context"
	"sync"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/credential"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
	"sallyport/internal/signin"
	"sallyport/internal/store"
)

// restored is what a deployment knows of its last restore. While it is not
// confirmed, the gate is closed: the backup may give back what was taken away
// after it, so nobody but the administrators who look through it gets anything.
type restored struct {
	ID          string                    `json:"id"`
	At          time.Time                 `json:"at"`
	Backup      string                    `json:"backup"` // id
	BackupAt    time.Time                 `json:"backupAt"`
	Build       string                    `json:"build"`
	Position    int64                     `json:"position"`
	Epoch       int64                     `json:"epoch"`             // that the manifest must have before the gate opens
	Request     *protocol.ManifestRequest `json:"request,omitempty"` // waits for the manifest key
	Confirmed   bool                      `json:"confirmed"`
	ConfirmedBy string                    `json:"confirmedBy,omitempty"` // object id
	ConfirmedAt time.Time                 `json:"confirmedAt"`
}

// gate holds the last restore in memory, as the change feed has it.
type gate struct {
	mu    sync.RWMutex
	known bool
	last  restored
}

// load reads it from the store.
func (g *gate) load(t *store.Tx) error {
	var r restored
	found, err := t.RestoreFact(&r)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known, g.last = found, r
	return nil
}

// refresh follows the change feed.
func (g *gate) refresh(t *store.Tx, kind string) error {
	if kind != store.KindRestore {
		return nil
	}
	return g.load(t)
}

// restore returns the last one; ok is false where there was none.
func (g *gate) restore() (r restored, ok bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.last, g.known
}

// closed reports whether a restore waits for its confirmation.
func (g *gate) closed() (restored, bool) {
	r, ok := g.restore()
	return r, ok && !r.Confirmed
}

// The code is Entra's for a directory that is not available for a while.
const codeRestored = "AADSTS90033"

func errRestored(r restored, what string) error {
	return fault.New(fault.Unavailable, codeRestored, "This server was restored at %s from a backup of %s, and an administrator has not confirmed yet who may do what. Until then %s.",
		r.At.Format(time.RFC3339), r.BackupAt.Format(time.RFC3339), what).
		WithRemedy("Try again later, or ask an Owner of the root management group to run: sally access review; sally access confirm-restore")
}

// principalGate is oauth's gate: while a restore is not confirmed there is no
// certificate for anybody, and sign-in for those who can confirm it or who could
// make themselves such.
func (d *deployment) principalGate(principal string, certificate bool) error {
	r, closed := d.gate.closed()
	switch {
	case !closed:
		return nil
	case certificate:
		return errRestored(r, "no certificate is issued")
	case !d.leads(principal):
		return errRestored(r, "only Global Administrators and Owners of the root management group can sign in")
	}
	return nil
}

// leads reports whether a user, by what the restored data says, is Owner of the
// root management group or may give directory roles.
func (d *deployment) leads(id string) bool {
	if _, isUser := d.directory.User(id); !isUser {
		return false // a person looks through the review, not a program
	}
	principals := append([]string{id}, d.directory.GroupsOf(id)...)
	root := scope.ManagementGroup(d.directory.Tenant().ID)
	return d.roles.Check(rbac.Query{Principals: principals, Scope: root, Action: actionConfirm}).Allowed ||
		d.roles.Check(rbac.Query{Principals: principals, Scope: scope.Directory(), Action: "microsoft.directory/roleAssignments/allProperties/allTasks"}).Allowed
}

// machineGate is machine's: machines keep what they hold, and nothing new is
// made for them.
func (d *deployment) machineGate() error {
	if r, closed := d.gate.closed(); closed {
		return errRestored(r, "machines keep the grants that they hold, and no machine joins")
	}
	return nil
}

// gatedPasswords stands before the check of passwords: a password that was
// replaced after the backup is right again, and must not open a session or
// replace itself.
type gatedPasswords struct {
	signin.Passwords
	d *deployment
}

// VerifyUPN tells the gate's reason only to who knows the password.
func (g gatedPasswords) VerifyUPN(ctx context.Context, by audit.By, upn, password, shown string) (credential.Result, error) {
	result, err := g.Passwords.VerifyUPN(ctx, by, upn, password, shown)
	if err == nil && (result.Status == credential.OK || result.Status == credential.MustChange) {
		err = g.d.principalGate(result.UserID, false)
	}
	return result, err
}

// ChangePassword is refused to everybody whom the gate refuses, whether the name
// exists or not.
func (g gatedPasswords) ChangePassword(ctx context.Context, by audit.By, upn, old, replacement string) error {
	u, _ := g.d.directory.UserByUPN(upn)
	if err := g.d.principalGate(u.ID, false); err != nil {
		return err
	}
	return g.Passwords.ChangePassword(ctx, by, upn, old, replacement)
}
