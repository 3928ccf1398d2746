package control

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// Op names a request.
type Op string

// The requests. Those that decide something are root's alone.
const (
	OpStatus          Op = "status"
	OpManifest        Op = "deliver-manifest"
	OpAccounts        Op = "deliver-accounts"
	OpSnapshot        Op = "deliver-snapshot"
	OpEvents          Op = "take-events"
	OpHostProof       Op = "host-proof"
	OpHostCertificate Op = "deliver-host-certificate"
	OpHomes           Op = "homes"
	OpAdopt           Op = "adopt-home"
	OpArchive         Op = "archive-home"
	OpSelfTest        Op = "self-test"
	OpMembers         Op = "identity-members"
	OpAllow           Op = "allow-identity"
	OpDeny            Op = "deny-identity"
	OpDevices         Op = "take-devices"
	OpDeviceCode      Op = "deliver-device-code"
	OpDeviceState     Op = "deliver-device-state"
	OpInventory       Op = "inventory"
	OpUpgrade         Op = "take-upgrade"
	OpRelease         Op = "deliver-release"
	OpPart            Op = "deliver-part"
	OpMissing         Op = "deliver-missing"
	OpTrial           Op = "trial"
)

// Request is one question. Only the fields of its Op are set.
type Request struct {
	Op          Op                       `json:"op"`
	Manifest    *protocol.SignedManifest `json:"manifest,omitempty"`
	Accounts    *protocol.Envelope       `json:"accounts,omitempty"`
	Snapshot    *protocol.Envelope       `json:"snapshot,omitempty"`
	Acknowledge []string                 `json:"acknowledge,omitempty"` // ids of events that the server has
	Generation  int64                    `json:"generation,omitempty"`  // take-events: the status that is known
	WaitMillis  int64                    `json:"waitMillis,omitempty"`  // how long to wait for news; status: until the held manifest is in force
	Limit       int                      `json:"limit,omitempty"`       // take-events: how many at most; 0 for as many as one answer holds
	Certificate string                   `json:"certificate,omitempty"`
	Name        string                   `json:"name,omitempty"`
	Code        *protocol.Envelope       `json:"code,omitempty"`  // deliver-device-code
	State       string                   `json:"state,omitempty"` // deliver-device-state
	// Of an upgrade. Name is the path that was asked for.
	Release *protocol.Envelope `json:"release,omitempty"`
	Offset  int64              `json:"offset,omitempty"`
	Data    []byte             `json:"data,omitempty"`
}

// Answer is one answer; Error alone when it is set.
type Answer struct {
	Error  *Failure                `json:"error,omitempty"`
	Status *Status                 `json:"status,omitempty"`
	Events []protocol.MachineEvent `json:"events,omitempty"`
	Batch  *protocol.Envelope      `json:"batch,omitempty"` // the same events, signed
	Proof  *protocol.Envelope      `json:"proof,omitempty"`
	Homes  []Home                  `json:"homes,omitempty"`
	Text   string                  `json:"text,omitempty"`
	Names  []string                `json:"names,omitempty"`
	// Inventory is what the root part reads of the machine.
	Inventory *protocol.Inventory `json:"inventory,omitempty"`
	// Devices are logins that somebody is to approve on a web page.
	Devices []Device `json:"devices,omitempty"`
	// Fetch is what an upgrade lacks; nil when nothing is.
	Fetch *Fetch `json:"fetch,omitempty"`
	Trial *Trial `json:"trial,omitempty"`
}

// Fetch asks the network part for something of the server's repository: a signed
// release, or a part of a package that one names.
type Fetch struct {
	Path   string `json:"path"` // below the repository
	Offset int64  `json:"offset,omitempty"`
	Length int64  `json:"length,omitempty"` // of the part; 0 for a release
}

// Trial is how far a build has proven itself. The build before and the one behind
// it read this: what is in it stays as it is.
type Trial struct {
	Version  string `json:"version"`
	Reported bool   `json:"reported"` // the server has heard from it since it runs
}

// Device is one such login, in the words of protocol.DeviceRequest.
type Device struct {
	ID           string `json:"id"`
	Login        string `json:"login"`
	ObjectID     string `json:"objectId"`
	Confirmation string `json:"confirmation"`
	From         string `json:"from,omitempty"`
	LifeSeconds  int64  `json:"lifeSeconds"`
}

// Failure is a fault on its way through the socket.
type Failure struct {
	Kind   fault.Kind `json:"kind"`
	Code   string     `json:"code"`
	Text   string     `json:"text"`
	Remedy string     `json:"remedy,omitempty"`
}

// Status is what the root part holds and has reached.
type Status struct {
	MachineID  string                   `json:"machineId"`
	ResourceID string                   `json:"resourceId"`
	Tenant     string                   `json:"tenant"`
	Manifest   *protocol.SignedManifest `json:"manifest,omitempty"`
	// The manifest that is in force, sshd included; Manifest is the one held.
	AppliedEpoch    int64 `json:"appliedEpoch,omitempty"`
	AppliedManifest int64 `json:"appliedManifest,omitempty"`

	Version int64 `json:"version"` // of the held snapshot, 0 without one
	Epoch   int64 `json:"epoch"`
	// Of the held table of accounts; 0 without one.
	AccountsEpoch int64 `json:"accountsEpoch"`
	Accounts      int64 `json:"accounts"`

	IssuedAt    time.Time            `json:"issuedAt"`
	AgeSeconds  int64                `json:"ageSeconds"`
	Clock       string               `json:"clock,omitempty"`   // what is wrong with it
	Extension   bool                 `json:"extension"`         // sign-in is wired
	Preview     bool                 `json:"preview,omitempty"` // as its preview version
	Drift       string               `json:"drift,omitempty"`
	Principals  int                  `json:"principals"`
	Allowed     int                  `json:"allowed"` // with a grant
	Generation  int64                `json:"generation"`
	Revision    int64                `json:"revision"` // reached
	Provisioned string               `json:"provisioned"`
	ExitCode    int                  `json:"exitCode"`
	Message     string               `json:"message"`
	HostKeys    []string             `json:"hostKeys"`
	HostRenew   time.Time            `json:"hostRenew"`            // when the host certificate is due; zero: at once
	HostUntil   time.Time            `json:"hostUntil"`            // its end; zero without one
	Witnessed   []protocol.Witnessed `json:"witnessed,omitempty"`  // heads of the server's audit chains
	AuditAlarm  string               `json:"auditAlarm,omitempty"` // a head that contradicts them
	// How long a grant holds without the server, in seconds, and until when somebody
	// may log in by it: as user, and with sudo as administrator. Zero times: nobody may.
	UserStale  int64     `json:"userStale,omitempty"`
	AdminStale int64     `json:"adminStale,omitempty"`
	UserUntil  time.Time `json:"userUntil,omitzero"`
	AdminUntil time.Time `json:"adminUntil,omitzero"`
	// The queue of events: how many the server has not got, how many were given up,
	// and why they cannot be written.
	EventsWaiting int    `json:"eventsWaiting,omitempty"`
	EventsDropped int64  `json:"eventsDropped,omitempty"`
	EventsTrouble string `json:"eventsTrouble,omitempty"`
	// Sessions are those that are open, oldest first: the newest
	// protocol.MaxSessions; MoreSessions is how many are left out.
	Sessions     []protocol.Session     `json:"sessions,omitempty"`
	MoreSessions int                    `json:"moreSessions,omitempty"`
	Endpoint     string                 `json:"endpoint,omitempty"` // the identity service: where it answers, or why not
	Speak        int                    `json:"speak,omitempty"`    // the capability that may be spoken at most, while a build is tried; 0 for this build's
	Upgrade      *protocol.UpgradeState `json:"upgrade,omitempty"`
	Damage       []string               `json:"damage,omitempty"` // damaged parts of the kept state, each with how it is mended
}

// Home is a home folder whose name belongs to somebody.
type Home struct {
	Name     string `json:"name"`
	ObjectID string `json:"objectId"`           // whose it is
	Claimant string `json:"claimant,omitempty"` // another object that has the name now
	Archived string `json:"archived,omitempty"`
}

// Part is how much of a package one request brings at most.
const Part = maxPart

// limits of a message.
const (
	headerSize  = 4
	maxRequest  = 2 * protocol.MaxDocument
	maxAnswer   = 16 << 20
	maxListed   = 1024
	maxName     = 255
	maxWait     = 60_000
	maxCertText = 16 << 10
	maxPart     = 512 << 10
)

func malformed(format string, args ...any) error {
	return fault.New(fault.Invalid, "ControlRequestInvalid", format, args...)
}

// ParseRequest decodes and checks the JSON of a request.
func ParseRequest(b []byte) (Request, error) {
	var r Request
	if err := protocol.Decode(b, &r); err != nil {
		return Request{}, malformed("the request cannot be read: %v", err)
	}
	return r, r.check()
}

// check refuses a request without the fields of its Op or with those of another.
func (r Request) check() error {
	want := Request{Op: r.Op}
	switch r.Op {
	case OpHostProof, OpHomes, OpSelfTest, OpMembers, OpInventory, OpTrial:
	case OpManifest:
		want.Manifest = r.Manifest
	case OpAccounts:
		want.Accounts = r.Accounts
	case OpSnapshot:
		want.Snapshot = r.Snapshot
	case OpEvents:
		want.Acknowledge, want.Generation, want.WaitMillis, want.Limit = r.Acknowledge, r.Generation, r.WaitMillis, r.Limit
	case OpStatus, OpDevices, OpUpgrade:
		want.WaitMillis = r.WaitMillis
	case OpRelease:
		want.Name, want.Release = r.Name, r.Release
	case OpPart:
		want.Name, want.Offset, want.Data = r.Name, r.Offset, r.Data
	case OpMissing:
		want.Name = r.Name
	case OpDeviceCode:
		want.Name, want.Code = r.Name, r.Code
	case OpDeviceState:
		want.Name, want.State, want.Certificate = r.Name, r.State, r.Certificate
	case OpHostCertificate:
		want.Certificate = r.Certificate
	case OpAdopt, OpArchive, OpAllow, OpDeny:
		want.Name = r.Name
	default:
		return malformed("the request %q does not exist", string(r.Op[:min(len(r.Op), 40)]))
	}
	switch {
	case r.Manifest != want.Manifest, r.Accounts != want.Accounts, r.Snapshot != want.Snapshot, len(r.Acknowledge) != len(want.Acknowledge), r.Certificate != want.Certificate, r.Name != want.Name,
		r.Code != want.Code, r.State != want.State, r.Generation != want.Generation, r.WaitMillis != want.WaitMillis, r.Limit != want.Limit,
		r.Release != want.Release, r.Offset != want.Offset, len(r.Data) != len(want.Data):
		return malformed("the request %s has fields of another", r.Op)
	case r.Op == OpManifest && r.Manifest == nil, r.Op == OpAccounts && r.Accounts == nil, r.Op == OpSnapshot && r.Snapshot == nil, r.Op == OpHostCertificate && r.Certificate == "",
		r.Op == OpDeviceCode && (r.Name == "" || r.Code == nil), r.Op == OpDeviceState && (r.Name == "" || !deviceState(r.State) || (r.State == protocol.DeviceApproved) != (r.Certificate != "")), rootsAlone(r.Op) && r.Op != OpSelfTest && r.Op != OpTrial && r.Name == "",
		r.Op == OpRelease && (r.Name == "" || r.Release == nil), r.Op == OpPart && (r.Name == "" || len(r.Data) == 0), r.Op == OpMissing && r.Name == "":
		return malformed("the request %s lacks its field", r.Op)
	case len(r.Acknowledge) > maxListed, len(r.Name) > maxName, len(r.Certificate) > maxCertText, r.WaitMillis < 0, r.WaitMillis > maxWait, r.Limit < 0, r.Limit > maxListed, r.Offset < 0, len(r.Data) > maxPart:
		return malformed("a field of the request %s is too long", r.Op)
	}
	return nil
}

// deviceState is the closed list of what can be said of a login: none of it is a
// text that somebody reads.
func deviceState(state string) bool {
	switch state {
	case protocol.DevicePending, protocol.DeviceApproved, protocol.DeviceDeclined, protocol.DeviceOther, protocol.DevicePolicy, protocol.DeviceExpired, protocol.DeviceNotAllowed,
		protocol.DeviceAccount, protocol.DeviceTooMany, protocol.DeviceAway:
		return true
	}
	return false
}

// rootsAlone reports whether uid 0 alone may ask this: it decides something.
func rootsAlone(op Op) bool {
	return op == OpAdopt || op == OpArchive || op == OpSelfTest || op == OpTrial || op == OpAllow || op == OpDeny
}

// write sends one message.
func write(w io.Writer, v any, limit int) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > limit {
		return malformed("a message of %d bytes exceeds %d", len(b), limit)
	}
	frame := make([]byte, headerSize, headerSize+len(b))
	binary.BigEndian.PutUint32(frame, uint32(len(b)))
	_, err = w.Write(append(frame, b...))
	return err
}

// read receives one message.
func read(r io.Reader, limit int) ([]byte, error) {
	n, err := readLength(r, limit)
	if err != nil {
		return nil, err
	}
	return readBody(r, n)
}

func readLength(r io.Reader, limit int) (int64, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, fmt.Errorf("header: %w", err)
	}
	n := int64(binary.BigEndian.Uint32(header[:]))
	if n > int64(limit) {
		return 0, malformed("a message of %d bytes exceeds %d", n, limit)
	}
	return n, nil
}

// readBody receives the rest. Memory grows with what arrives, not with what the
// header promises.
func readBody(r io.Reader, n int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, n))
	if err == nil && int64(len(b)) != n {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// failed makes the answer of an error: public words only.
func failed(err error) Answer {
	f := fault.As(err)
	return Answer{Error: &Failure{Kind: f.Kind, Code: f.Code, Text: f.Text, Remedy: f.Remedy}}
}

func (f *Failure) err() error {
	e := fault.New(f.Kind, f.Code, "%s", f.Text)
	if f.Remedy != "" {
		return e.WithRemedy("%s", f.Remedy)
	}
	return e
}
