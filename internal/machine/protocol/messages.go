package protocol

import "strings"

import "time"

// Capability is the version of this protocol that the build speaks. One number
// with a history: 1 = join, snapshot poll, report, host certificate (2026-11);
// 2 = a poll says which manifest is in force on the machine, a report which audit
// heads it has witnessed, and accounts travel apart from grants; 3 = a report
// lists the sessions that are open, and a snapshot says which of them are ended
// and how old one may become (sessions.go), and events are numbered and signed by
// the host key; 4 = the preview extension, whose logins are approved on a web page
// (device.go); 5 = a snapshot may wish for another build of the agent (upgrade.go);
// 6 = a snapshot says that user-assigned identities are there, and a request for a
// token may name one (identity.go).
const Capability = 6

// Unchanged is what a message says whose form has been the same since the first
// version, so that a server of that version takes it.
const Unchanged = 1

// JoinRequest is POST /machine/v1/join. TLS carries the machine's key; the body
// proves the right to become the machine.
type JoinRequest struct {
	Capability int    `json:"capability"`
	Token      string `json:"token"` // single use, one hour
	Hostname   string `json:"hostname"`
	OS         string `json:"os"`      // PRETTY_NAME of os-release
	OpenSSH    string `json:"openssh"` // "OpenSSH_9.2p1 ..."
	Agent      string `json:"agent"`   // version of sally
	// What a token that a person made takes besides. Name is of a new machine; with
	// Group it is compared with what the token is for. Left out where they are
	// empty, for servers that do not know them.
	Name        string            `json:"name,omitempty"`
	Group       string            `json:"resourceGroup,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	EnableLogin bool              `json:"enableLogin,omitempty"`
}

// JoinAnswer tells the machine who it is.
type JoinAnswer struct {
	MachineID  string         `json:"machineId"`
	ResourceID string         `json:"resourceId"`
	Manifest   SignedManifest `json:"manifest"`
}

// PollRequest is POST /machine/v1/poll: a long poll that answers at once when
// the machine lacks the newest snapshot, else when one appears or Wait ends.
type PollRequest struct {
	Capability int       `json:"capability"`
	Epoch      int64     `json:"epoch"`    // held
	Version    int64     `json:"version"`  // held; an answer acknowledges nothing, a poll does
	IssuedAt   time.Time `json:"issuedAt"` // of the held snapshot; the same version is signed anew as it ages
	Manifest   int64     `json:"manifest"` // version held
	// From capability 2 on: the epoch of the manifest held, and the manifest whose
	// keys are in force, sshd included. That one is acknowledged.
	ManifestEpoch   int64 `json:"manifestEpoch,omitempty"`
	AppliedEpoch    int64 `json:"appliedEpoch,omitempty"`
	AppliedManifest int64 `json:"appliedManifest,omitempty"`
	// Also from capability 2 on: epoch and version of the held table of accounts.
	AccountsEpoch int64 `json:"accountsEpoch,omitempty"`
	Accounts      int64 `json:"accounts,omitempty"`

	WaitMillis int64 `json:"waitMillis"` // at most 60,000
}

// Backdate is how long before its issue a user certificate begins to be valid,
// for clocks that lag (certificate profile). Issue time = valid after + Backdate.
const Backdate = 5 * time.Minute

// PollAnswer carries what is newer; all nil when nothing is. A machine takes
// over the manifest first, then the accounts, then the snapshot.
type PollAnswer struct {
	Accounts *Envelope       `json:"accounts,omitempty"`
	Snapshot *Envelope       `json:"snapshot,omitempty"`
	Manifest *SignedManifest `json:"manifest,omitempty"`
	Now      time.Time       `json:"now"`
}

// Report is POST /machine/v1/report: what the machine has reached, and events.
type Report struct {
	Capability  int            `json:"capability"`
	Agent       string         `json:"agent"`
	Revision    int64          `json:"revision"`    // reached; 0 before the first
	Provisioned string         `json:"provisioned"` // Succeeded, Failed, Transitioning
	ExitCode    int            `json:"exitCode"`
	Message     string         `json:"message"`
	Addresses   []string       `json:"addresses"`
	HostKeys    []string       `json:"hostKeys"` // authorized_keys form
	Events      []MachineEvent `json:"events"`
	// Batch is from capability 3 on: the same events, as an EventsDocument that the
	// machine's host key has signed. A server that reads it leaves Events alone.
	Batch *Envelope `json:"batch,omitempty"`
	// Witnessed is the newest audit head of each writer that the machine has seen.
	Witnessed []Witnessed `json:"witnessed,omitempty"`
	// From capability 3 on: every session that is open, the newest MaxSessions of
	// them; MoreSessions is how many are left out.
	Sessions     []Session `json:"sessions,omitempty"`
	MoreSessions int       `json:"moreSessions,omitempty"`
	// From capability 5 on: what became of the wish for another build.
	Upgrade *UpgradeState `json:"upgrade,omitempty"`
}

// MachineEvent is a decision that the machine made.
type MachineEvent struct {
	ID            string            `json:"id"` // GUID made by the machine: a repeat is stored once
	Time          time.Time         `json:"time"`
	Type          string            `json:"type"` // "login.allow", "login.deny", "sudo.deny", "session.end", ...
	CorrelationID string            `json:"correlationId"`
	ObjectID      string            `json:"objectId"`
	LoginName     string            `json:"login"`
	Detail        map[string]string `json:"detail"` // of EventSessionEnd: the Fact constants
	// Sequence counts the machine's events from 1. A number that is left out shows
	// the server that it has not been told of an event. 0 before capability 3.
	Sequence int64 `json:"sequence,omitempty"`
}

// CodeEvent is the error code of a report that is refused for one of its events.
const CodeEvent = "InvalidEvent"

// EventsDocument is the payload of a TypeEvents envelope: events of one machine,
// signed by its host key, so that what carries them can withhold and not invent.
type EventsDocument struct {
	MachineID string         `json:"machineId"`
	Tenant    string         `json:"tenant"`
	Events    []MachineEvent `json:"events"`
}

// HostKeyProof is the payload of a TypeHostKey envelope, signed by the host key
// itself: it shows that whoever asks for a host certificate holds the key.
type HostKeyProof struct {
	MachineID string    `json:"machineId"`
	Tenant    string    `json:"tenant"`
	HostKey   string    `json:"hostKey"` // authorized_keys form, no comment
	At        time.Time `json:"at"`      // at most five minutes old
}

// HostCertificateRequest is POST /machine/v1/hostcertificate.
type HostCertificateRequest struct {
	Proof Envelope `json:"proof"`
}

// HostCertificateAnswer holds the certificate in authorized_keys form.
type HostCertificateAnswer struct {
	Certificate string    `json:"certificate"`
	ValidBefore time.Time `json:"validBefore"`
}

// MachineName is a machine's name for people, by its resource id: the last part,
// and for an instance of a scale set Azure's SET_3.
func MachineName(resourceID string) string {
	parts := strings.Split(resourceID, "/")
	name := parts[len(parts)-1]
	if n := len(parts); n == 11 && strings.EqualFold(parts[7], "virtualMachineScaleSets") && strings.EqualFold(parts[9], "virtualMachines") {
		return parts[8] + "_" + name
	}
	return name
}

// HostPrincipal is the one principal of a machine's host certificate and the
// name that clients use as HostKeyAlias.
func HostPrincipal(machineID, domain string) string { return machineID + ".machine." + domain }
