package grants

import (
	"time"

	"sallyport/internal/machine/protocol"
)

// Way is how somebody comes in.
type Way uint8

// The ways. Zero is none.
const (
	NoWay   Way = iota
	SSH         // sshd: a certificate must have opened this very connection
	Elevate     // sudo: the person is already here and wants to be another
	Local       // su by root, cron, login: no certificate, no elevation
)

// Input is everything that a decision follows from.
type Input struct {
	Way           Way
	Login         string // login name
	CorrelationID string // a GUID made for this decision
	Now           time.Time

	MachineID string
	State     State
	Clock     Clock

	// Person is the login name's record in the snapshot; nil without one.
	Person *protocol.Principal
	// Local says that the machine has a local user or group of that name.
	Local bool
	// Kept is the object id that the login name belongs to on this machine, ""
	// for a name that nobody has used yet.
	Kept string
	// HomeUID is the owner of the home folder that is there; nil without one.
	HomeUID *uint32
	// Connection is the certificate that opened the connection; nil without one.
	Connection *Connection
}

// State is what the machine as a whole has been told.
type State struct {
	Held         bool // there is a verified snapshot
	Broken       bool // a part of the kept state is damaged
	LoginEnabled bool
	Identity     bool
	ResourceID   string
	GoodUntil    time.Time
	UserStale    time.Duration
	AdminStale   time.Duration
	Revoked      func(serial string) bool // nil: none
	// Trusted says whether a user CA, as "SHA256:...", is trusted at this moment;
	// nil: all that certificates were accepted from are.
	Trusted func(authority string) bool
	Drift   string // what weakens sshd's, PAM's or sudo's configuration; "" for nothing
}

// Clock is what is known of time without trusting the wall clock alone.
type Clock struct {
	// Age is how old the snapshot is at least: the greater of what the boot clock
	// and the wall clock say.
	Age time.Duration
	// Wrong says why the wall clock cannot be right; "" when it can.
	Wrong string
}

// Connection is the certificate that sshd showed for one connection.
type Connection struct {
	Certificate Certificate
	Age         time.Duration // since sshd asked for its principals
}

// Certificate is what a verified user certificate says.
type Certificate struct {
	KeyID       string
	Serial      string // decimal
	Authority   string // who signed it, as "SHA256:..."
	ObjectID    string // object-id@sallyport
	Tenant      string // tenant@sallyport
	Machine     string // machine@sallyport: the one machine that may accept it; "" for any
	Principals  []string
	Factors     map[string]time.Time // factors@sallyport
	IssuedAt    time.Time
	ValidBefore time.Time
}

// Decision is the answer. Text is for the person, Reason for the record.
type Decision struct {
	Allow  bool
	Reason string
	Text   string
}
