package protocol

import (
	"crypto"
	"errors"
	"fmt"
	"time"
)

// The messages below are from capability 4 on: logins that a person approves on a
// web page, for clients without certificates (the preview extension). The part of
// a machine that talks to the server is not believed by the part that decides:
// the code that a person types is signed with the snapshot key, and the approval
// is a certificate of a key that only the deciding part has.

// TypeDeviceCode is the payload type of a DeviceCode.
const TypeDeviceCode = "application/vnd.sallyport.device-code.v1+json"

// DeviceRequest is POST /machine/v1/device: somebody asks to be let in.
type DeviceRequest struct {
	LoginName    string `json:"login"`
	ObjectID     string `json:"objectId"`     // whose that name is, as the machine knows it
	Confirmation string `json:"confirmation"` // req_cnf: the public key, a JSON Web Key
	From         string `json:"from"`         // address that the person connects from, for the page; may be empty
	LifeSeconds  int64  `json:"lifeSeconds"`  // after which nobody waits any more
}

// DeviceAnswer is the answer. Secret is what the machine polls with.
type DeviceAnswer struct {
	Secret string   `json:"secret"`
	Code   Envelope `json:"code"` // a DeviceCode
}

// DeviceCode says which code a person types for which login: whoever carries it
// cannot have somebody approve another one.
type DeviceCode struct {
	MachineID     string    `json:"machineId"`
	Tenant        string    `json:"tenant"`
	LoginName     string    `json:"login"`
	ObjectID      string    `json:"objectId"`
	Confirmation  string    `json:"confirmation"`
	UserCode      string    `json:"userCode"`
	CorrelationID string    `json:"correlationId"` // the server's; the key id of the certificate
	ExpiresAt     time.Time `json:"expiresAt"`
}

// DevicePoll is POST /machine/v1/device/poll.
type DevicePoll struct {
	Secret string `json:"secret"`
	Gone   bool   `json:"gone,omitempty"` // nobody waits any more: the code is to open nothing
}

// DeviceState answers a poll.
type DeviceState struct {
	State       string `json:"state"`                 // a Device constant
	Certificate string `json:"certificate,omitempty"` // of an approved one: base64, once
}

// The states. Each but the first two is the end, and a reason.
const (
	DevicePending    = "pending"
	DeviceApproved   = "approved"
	DeviceDeclined   = "declined"    // on the page
	DeviceOther      = "other"       // somebody else than the login name's owner answered
	DevicePolicy     = "policy"      // Conditional Access refused it
	DeviceExpired    = "expired"     // nobody answered, or the code was used
	DeviceNotAllowed = "not-allowed" // the tenant has the preview switched off
	DeviceAccount    = "account"     // the account is not there, disabled, or has another name
	DeviceTooMany    = "too-many"    // codes of this machine wait already
	DeviceNoTime     = "no-time"     // sshd's patience is too short for a code; a machine's own word
	DeviceAway       = "away"        // the server did not answer; a machine's own word
	DeviceRefused    = "refused"     // the machine does not take the approval; its own word
)

// OpenDeviceCode verifies an envelope with one of the manifest's snapshot keys.
func OpenDeviceCode(e Envelope, keys []crypto.PublicKey) (DeviceCode, error) {
	for _, pub := range keys {
		if id, err := Thumbprint(pub); err != nil || id != e.KeyID {
			continue
		}
		payload, err := e.Open(pub, TypeDeviceCode)
		if err != nil {
			return DeviceCode{}, err
		}
		var d DeviceCode
		if err := Decode(payload, &d); err != nil {
			return DeviceCode{}, fmt.Errorf("device code: %w", err)
		}
		return d, nil
	}
	return DeviceCode{}, errors.New("the device code is signed by a key that the manifest does not list")
}
