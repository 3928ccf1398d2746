package machine

import (
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
)

// Machine is one joined machine. Everything from Hostname to Report is
// what the machine says of itself: shown to people, never used for a decision.
type Machine struct {
	ID         string // GUID, the vmId of its resource
	ResourceID scope.ID
	Thumbprint string // of the machine's own key
	JoinedAt   time.Time
	Hostname   string
	OS         string
	OpenSSH    string
	Agent      string
	HostKeys   []string // authorized_keys form, sorted
	Report     Reached
	// ProvenKey is the host key that the machine has last shown to hold, with
	// HostCertificate; "" for none. It alone counts as somebody's host key.
	ProvenKey string
	// Replaced is the key that the machine had before it joined again, and
	// ReplacedAt when that died; "" for a machine that joined once.
	Replaced   string
	ReplacedAt time.Time
}

// Reached is the state that a machine last reported.
type Reached struct {
	Revision    int64     `json:"revision"`
	Provisioned string    `json:"provisioned"`
	ExitCode    int       `json:"exitCode"`
	Message     string    `json:"message"`
	Addresses   []string  `json:"addresses"`
	At          time.Time `json:"at"`
	// Upgrade is what became of the wish for another build; nil where there is none.
	Upgrade *protocol.UpgradeState `json:"upgrade,omitempty"`
}

// Token is a stored join token: only the keyed hash of its secret is kept. One
// without a machine is for a new machine in the resource group that ResourceID is.
type Token struct {
	Hash       string
	MachineID  string
	ResourceID scope.ID
	MintedBy   string // object id of whoever made it, whose rights count again when it is used; "" for the server itself
	ExpiresAt  time.Time
	UsedAt     time.Time
	UsedBy     string // thumbprint of the key that joined with it
}

// Desired is what the machine's resource wants of it. Server fills it from the
// virtualMachines resource and its extensions.
type Desired struct {
	ResourceID    scope.ID
	Identity      bool // the system-assigned identity is on
	Assigned      bool // user-assigned identities are assigned to it
	LoginEnabled  bool // a login extension is wanted
	Preview       bool // it is the preview version, with device codes
	Revision      int64
	Administrator *protocol.LocalAdministrator
}

// Enrolment is a join that a person's token allows: By is that person, with the
// rights of now.
type Enrolment struct {
	By          audit.By
	At          scope.ID // the machine, or the resource group of a new one
	Name        string
	Tags        map[string]string
	EnableLogin bool
}

// Enroller is what joining needs of the resource model, inside the transaction
// that uses a token up. server fills it.
type Enroller interface {
	// MayMint refuses who may not make a token for a machine or group, and returns
	// the machine's id.
	MayMint(t Tx, by audit.By, at scope.ID) (machineID string, err error)
	// Enroll says which machine the host becomes, and makes it where it is new.
	Enroll(t Tx, r Enrolment) (machineID string, at scope.ID, err error)
	// Left notes that a machine gave up its key.
	Left(t Tx, at scope.ID) error
	// Minter is who made a token at a time, as a caller of by's request; an error
	// when he may act no more, or all that he did before was taken back since.
	Minter(principalID string, at time.Time, by audit.By) (audit.By, error)
}

// State is everything an observer may know about a machine at this moment.
type State struct {
	Machine
	LastSeen     time.Time // zero: not since this server started
	Version      int64     // of the newest snapshot made for it
	Acknowledged int64     // the version that it last said it holds
}

// Directory is who exists. *directory.Index satisfies it.
type Directory interface {
	Tenant() directory.Tenant
	Users(f func(directory.User) bool)
	ServicePrincipals(f func(directory.ServicePrincipal) bool)
	Accounts
	Group(id string) (directory.Group, bool)
	MembersOf(groupID string, transitive bool) []directory.Member
}

// Accounts finds who may sign in.
type Accounts interface {
	User(id string) (directory.User, bool)
	ServicePrincipal(id string) (directory.ServicePrincipal, bool)
}

// Roles is who may do what. *rbac.Index satisfies it.
type Roles interface {
	WhoCan(s scope.ID, action string, data bool) []rbac.Holder
	// Governing returns the nearest scope, at s or above it, for which WhoCan
	// answers the same as for s.
	Governing(s scope.ID) scope.ID
	// Encloses reports whether a scope is the other, or above it.
	Encloses(top, s scope.ID) bool
	// HeldBy reports whether one of the principals holds any role that reaches a
	// scope.
	HeldBy(s scope.ID, principals []string) bool
}

// Resources knows what the machine's resource wants; ok is false when the
// machine has no resource any more.
type Resources interface {
	Desired(machineID string) (d Desired, ok bool)
}

// Keys signs snapshots and shows the manifest.
type Keys interface {
	// Manifest returns the newest signed manifest with its content.
	Manifest() (protocol.SignedManifest, protocol.Manifest)
	// Sign signs a document of a type with the snapshot key that the manifest
	// lists first.
	Sign(payloadType string, payload []byte) (protocol.Envelope, error)
	// AuditHead returns the newest signed head of the audit chain; ok is false
	// while there is none.
	AuditHead() (h protocol.SignedHead, ok bool)
}

// HostIssuer makes host certificates. sshca is behind it.
type HostIssuer interface {
	IssueHost(r HostRequest) (HostCertificate, error)
}

// HostRequest asks for a certificate whose one principal is Principal. The
// caller has seen proof that the machine holds the key.
type HostRequest struct {
	PublicKey string // authorized_keys form
	Principal string
	KeyID     string // correlation id
	At        time.Time
}

// HostCertificate is an issued host certificate in authorized_keys form.
type HostCertificate struct {
	Line        string
	Serial      uint64
	ValidBefore time.Time
}
