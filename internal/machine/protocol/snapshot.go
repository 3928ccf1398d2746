package protocol

import (
	"crypto"
	"errors"
	"fmt"
	"time"

	"sallyport/internal/audit"
)

// Access is what a person may do on one machine.
type Access string

// The accesses. None is listed too: its POSIX record lets sshd reach the place
// where a refused person is told why.
const (
	None  Access = "none"
	Login Access = "login"
	Admin Access = "admin"
)

// Principal is one directory identity as a machine knows it.
type Principal struct {
	ObjectID  string    `json:"id"`
	LoginName string    `json:"login"` // UPN, or the object id of a service principal
	Access    Access    `json:"access"`
	Reason    string    `json:"reason,omitempty"`  // for None: a Reason constant
	UID       uint32    `json:"uid"`               // also the gid of the private group
	Name      string    `json:"name,omitempty"`    // display name, for GECOS; printable, no colon
	NotBefore time.Time `json:"notBefore"`         // certificates issued before it are refused
	Factors   []string  `json:"factors,omitempty"` // factors the certificate must carry for this access
}

// Reasons for None, from which the agent makes the sentence.
const (
	ReasonNoRole   = "no-role"  // neither login role at any scope above the machine
	ReasonDisabled = "disabled" // the account is disabled
	ReasonOwner    = "owner"    // has a control-plane role only
	ReasonDeleted  = "deleted"  // no longer in the directory
)

// LocalAdministrator is the VM's administrator account, osProfile in Azure: a
// local account, kept working when Sallyport is gone.
type LocalAdministrator struct {
	Name string   `json:"name"`
	Keys []string `json:"keys"` // authorized_keys lines
}

// SnapshotDocument is everything that one machine has been told. It is signed
// with the snapshot key, bound to the machine and to its key, and replaces its
// predecessor whole.
type SnapshotDocument struct {
	Tenant        string              `json:"tenant"`
	MachineID     string              `json:"machineId"`
	KeyThumbprint string              `json:"keyThumbprint"` // of the machine's own key
	Epoch         int64               `json:"epoch"`
	Version       int64               `json:"version"`
	IssuedAt      time.Time           `json:"issuedAt"`
	GoodUntil     time.Time           `json:"goodUntil"`
	ResourceID    string              `json:"resourceId"`
	Domains       []string            `json:"domains"`
	Identity      bool                `json:"identity"`     // the machine's managed identity is on
	LoginEnabled  bool                `json:"loginEnabled"` // a login extension is wanted
	Revision      int64               `json:"revision"`     // desired revision, reported back when reached
	UserStale     int64               `json:"userStale"`    // seconds a login grant holds without the server
	AdminStale    int64               `json:"adminStale"`   // the same for administrators
	Administrator *LocalAdministrator `json:"administrator,omitempty"`
	// Up to capability 1, Principals is everybody. From capability 2 on, Grants is
	// who has a role here, and Accounts the version of the table of accounts that
	// the machine must hold at least; then Principals is empty.
	Principals []Principal `json:"principals"`
	Accounts   int64       `json:"accounts,omitempty"`
	Grants     []Grant     `json:"grants,omitempty"`
	Revoked    []string    `json:"revoked"` // certificate serials, decimal: no login, and no session that one opened
	// From capability 3 on: what the machine said to speak, so that whoever carries
	// its polls cannot have what follows left out by saying less; sessions that are
	// ended by their id, and after how many seconds any session is ended; 0 is never.
	Capability int            `json:"capability,omitempty"`
	Ended      []EndedSession `json:"ended,omitempty"`
	SessionMax int64          `json:"sessionMax,omitempty"`
	// From capability 4 on: the extension is the preview version, with device codes
	// (device.go). A machine that does not speak it is not told of the extension.
	Preview bool `json:"preview,omitempty"`
	// From capability 5 on: the build that the machine is to run.
	Upgrade *UpgradeWish `json:"upgrade,omitempty"`
	// From capability 6 on: user-assigned identities are assigned to the machine.
	Assigned   bool        `json:"assigned,omitempty"`
	AuditHead  *audit.Head `json:"auditHead,omitempty"`
	AuditKeyID string      `json:"auditKeyId,omitempty"`
	AuditSig   []byte      `json:"auditSig,omitempty"`
}

// OpenSnapshot verifies an envelope with one of the manifest's snapshot keys
// and parses it. Binding (machine, key, epoch, version, times) is the caller's:
// it knows what it holds.
func OpenSnapshot(e Envelope, keys []crypto.PublicKey) (SnapshotDocument, error) {
	for _, pub := range keys {
		if id, err := Thumbprint(pub); err != nil || id != e.KeyID {
			continue
		}
		payload, err := e.Open(pub, TypeSnapshot)
		if err != nil {
			return SnapshotDocument{}, err
		}
		var d SnapshotDocument
		if err := Decode(payload, &d); err != nil {
			return SnapshotDocument{}, fmt.Errorf("snapshot: %w", err)
		}
		return d, nil
	}
	return SnapshotDocument{}, errors.New("the snapshot is signed by a key that the manifest does not list")
}
