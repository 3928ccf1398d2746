package oauth

import (
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/oauth/token"
)

// Tx is what this package needs of the store, in the parts that follow.
type Tx interface {
	CodeTx
	FamilyTx
	DeviceTx
	SignInTx
	CertificateTx
	SettingsTx
	// UseClientAssertion remembers an assertion's id until it has expired; fresh
	// is false when it was there already.
	UseClientAssertion(client string, id []byte, ends time.Time) (fresh bool, err error)
	Audit(by audit.By, e audit.Event) error
}

// CodeTx keeps authorization codes. Taking is a compare-and-swap: of two takers
// exactly one gets fresh.
type CodeTx interface {
	PutAuthorizationCode(Code) error
	TakeAuthorizationCode(hash []byte) (code Code, found, fresh bool, err error)
	// AuthorizationCodeAgain reports whether a spent code was shown once more.
	AuthorizationCodeAgain(hash []byte) (bool, error)
	CountAuthorizationCodes(userID string, at time.Time) (int, error)
}

// FamilyTx keeps refresh token families.
type FamilyTx interface {
	PutRefreshFamily(token.Family) error
	RefreshFamily(id string) (token.Family, bool, error)
	// RotateRefreshFamily stores next if presented is still the current hash.
	RotateRefreshFamily(next token.Family, presented []byte) (done bool, err error)
	EndRefreshFamily(id, reason string) error
	RefreshFamilyAlive(id string) (bool, error)
}

// DeviceTx keeps device authorization requests.
type DeviceTx interface {
	// PutDeviceRequest reports false when the user code is taken.
	PutDeviceRequest(Device) (bool, error)
	DeviceRequest(hash []byte) (Device, bool, error)
	DeviceRequestByUserCode(code string) (Device, bool, error)
	// PutDeviceState stores what changed if the state still is from.
	PutDeviceState(d Device, from DeviceState) (done bool, err error)
	PollDeviceRequest(hash []byte, at time.Time) error
	DeviceCapTx
}

// DeviceCapTx bounds what strangers can make the server remember.
type DeviceCapTx interface {
	// PendingDevices counts the requests that wait for a person: of a network,
	// of its neighbourhood, and all.
	PendingDevices(network, wide string, at time.Time) (mine, near, all int, err error)
	// DropPendingDevice removes the oldest waiting request of the neighbourhood
	// that has most, if that is more than so many.
	DropPendingDevice(moreThan int, at time.Time) (bool, error)
}

// Sweeper deletes what is past its end; a server task calls it.
type Sweeper interface {
	SweepOAuth(before time.Time) (int64, error)
}

// Code is an authorization code, by its keyed hash.
type Code struct {
	Hash        []byte
	Client      string
	RedirectURI string
	Challenge   string // PKCE S256; empty for a confidential client that sent none
	Scope       string
	Nonce       string
	UserID      string
	Session     string
	Factors     map[string]time.Time
	SignedInAt  time.Time
	Ends        time.Time
	Family      string // id of the refresh family that redeeming it starts
}

// DeviceState of a device authorization request.
type DeviceState string

// The states. Used means that the tokens were fetched.
const (
	DevicePending  DeviceState = "pending"
	DeviceApproved DeviceState = "approved"
	DeviceDenied   DeviceState = "denied"
	DeviceUsed     DeviceState = "used"
)

// Device is a device authorization request (RFC 8628).
type Device struct {
	Hash       []byte // keyed hash of the device code
	UserCode   string
	Client     string
	Scope      string
	Address    string // of the device
	State      DeviceState
	CreatedAt  time.Time
	Ends       time.Time
	PolledAt   time.Time
	UserID     string
	Session    string
	Factors    map[string]time.Time
	SignedInAt time.Time
	Machine    MachineBound // of a request of a machine; zero for a program's
}

// MachineBound is what a machine's request is bound to.
type MachineBound struct {
	ID            string // of the machine that asked, and alone can poll
	Name          string
	LoginName     string
	UserID        string // the one person who can approve
	Confirmation  string
	CorrelationID string
	Reason        string // why it was refused
}
