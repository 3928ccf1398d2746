package server

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/oauth"
)

// devices lets people approve on a web page that a machine lets them in: the
// preview version of the login extension.
type devices struct{ *deployment }

// maxLogin bounds a login name.
const maxLogin = 255

// Device makes a code for somebody who connects to the machine that asks. It is
// signed with the snapshot key, so that only this code is shown to the person.
func (d devices) Device(ctx context.Context, by audit.By, r protocol.DeviceRequest) (protocol.DeviceAnswer, error) {
	none := protocol.DeviceAnswer{}
	if err := d.machineGate(); err != nil {
		return none, err
	}
	w, err := identities(d).wantOf(by)
	if err != nil {
		return none, err
	}
	if !w.Preview {
		return none, refusedDevice(protocol.DeviceNotAllowed)
	}
	if from, err := netip.ParseAddr(r.From); r.From != "" && (err != nil || from.Zone() != "") || !guid.Valid(r.ObjectID) || r.LoginName == "" || len(r.LoginName) > maxLogin {
		return none, fault.New(fault.Invalid, "InvalidDeviceRequest", "login, object id or address is malformed")
	}
	code, reason, err := d.oauth.BeginMachine(ctx, by, oauth.MachineSignIn{MachineID: w.MachineID, MachineName: protocol.MachineName(w.ResourceID.String()), LoginName: r.LoginName, ObjectID: r.ObjectID,
		Confirmation: r.Confirmation, From: r.From, Life: time.Duration(r.LifeSeconds) * time.Second})
	if err != nil {
		return none, err
	}
	if reason != "" {
		return none, refusedDevice(reason)
	}
	payload, err := json.Marshal(protocol.DeviceCode{MachineID: w.MachineID, Tenant: d.manifest.Tenant, LoginName: r.LoginName, ObjectID: r.ObjectID, Confirmation: r.Confirmation,
		UserCode: code.UserCode, CorrelationID: code.CorrelationID, ExpiresAt: code.Ends.UTC()})
	if err != nil {
		return none, err
	}
	e, err := d.documents.Sign(protocol.TypeDeviceCode, payload)
	return protocol.DeviceAnswer{Secret: code.Secret, Code: e}, err
}

// refusedDevice carries a reason, which is one of the protocol's states, as an
// error code.
func refusedDevice(reason string) error {
	return fault.New(fault.Forbidden, reason, "no code was made for this login: %s", reason)
}

// DevicePoll says how a login stands.
func (d devices) DevicePoll(ctx context.Context, by audit.By, r protocol.DevicePoll) (protocol.DeviceState, error) {
	if err := d.machineGate(); err != nil {
		return protocol.DeviceState{}, err
	}
	w, err := identities(d).wantOf(by)
	if err != nil {
		return protocol.DeviceState{}, err
	}
	if !w.Preview {
		return protocol.DeviceState{State: protocol.DeviceNotAllowed}, nil
	}
	if r.Gone {
		return protocol.DeviceState{State: protocol.DeviceExpired}, d.oauth.LeaveMachine(ctx, by, r.Secret)
	}
	certificate, reason, err := d.oauth.PollMachine(ctx, by, r.Secret)
	switch {
	case err != nil:
		return protocol.DeviceState{}, err
	case certificate != "":
		return protocol.DeviceState{State: protocol.DeviceApproved, Certificate: certificate}, nil
	case reason != "":
		return protocol.DeviceState{State: reason}, nil
	}
	return protocol.DeviceState{State: protocol.DevicePending}, nil
}
