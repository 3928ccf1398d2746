package oauth

import (
	"context"
	"net/url"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/signin"
)

// MachineSignIn is what a machine asks for in the name of somebody who connects to
// it: a sign-in that the person approves on a web page.
type MachineSignIn struct {
	MachineID    string // the machine that asks, as its key says
	MachineName  string // of its resource, for the page
	LoginName    string
	ObjectID     string // whose the login name is: nobody else can approve
	Confirmation string // req_cnf: the key that the certificate is for
	From         string // where the person connects from, as the machine says
	Life         time.Duration
}

// MachineCode is a code that was made.
type MachineCode struct {
	Secret        string // what the machine polls with
	UserCode      string
	CorrelationID string
	Ends          time.Time
}

// The bounds of a machine's codes. A certificate that such a sign-in gives is used
// at once and once.
const (
	leastMachineLife = 5 * time.Second
	devicesOfMachine = 32 // a machine has 16 waiting, and tells with a delay that one has gone
	machineCertLife  = 5 * time.Minute
)

// grantMachineDevice is how records name this grant. It is no grant_type: nobody
// can ask for it at the token endpoint.
const grantMachineDevice = "machine_device_code"

// Reasons of a machine's sign-in that was refused.
const (
	ReasonDeclined   = "declined"
	ReasonOther      = "other"
	ReasonPolicy     = "policy"
	ReasonExpired    = "expired"
	ReasonNotAllowed = "not-allowed"
	ReasonAccount    = "account"
	ReasonTooMany    = "too-many"
)

// BeginMachine makes a code. reason says why there is none.
func (s *Service) BeginMachine(ctx context.Context, by audit.By, m MachineSignIn) (code MachineCode, reason string, err error) {
	if !s.settings().AllowPreviewLogin {
		return code, ReasonNotAllowed, s.recordRefusal(ctx, by, audit.Event{Type: "device.code", Outcome: audit.Denied, Target: m.ObjectID,
			Detail: map[string]string{"machine": m.MachineID, "login": m.LoginName, "reason": ReasonNotAllowed}})
	}
	if user, err := s.account(m.ObjectID, by.At); err != nil || user.UPN != m.LoginName {
		var e *Error
		if err != nil && !asError(errFault(err), &e) {
			return code, "", err
		}
		return code, ReasonAccount, nil
	}
	if _, err := parseConfirmation(m.Confirmation); err != nil {
		return code, "", fault.Wrap(err, fault.Invalid, "InvalidDeviceRequest", "the request names no usable key")
	}
	if m.Life < leastMachineLife || m.Life > deviceLife {
		return code, "", fault.New(fault.Invalid, "InvalidDeviceRequest", "a code lives between %s and %s", leastMachineLife, deviceLife)
	}
	secret, err := s.random()
	if err != nil {
		return code, "", err
	}
	d := Device{Hash: s.cfg.Hash("device code", secret), Client: directory.LinuxSignIn, Scope: s.Audiences(SSH)[0] + "/" + defaultScope, Address: m.From, State: DevicePending,
		CreatedAt: by.At, Ends: by.At.Add(m.Life),
		Machine: MachineBound{ID: m.MachineID, Name: m.MachineName, LoginName: m.LoginName, UserID: m.ObjectID, Confirmation: m.Confirmation, CorrelationID: by.CorrelationID}}
	if err := s.storeDevice(ctx, &d); fault.Is(err, fault.Exhausted) {
		return code, ReasonTooMany, nil
	} else if err != nil {
		return code, "", err
	}
	return MachineCode{Secret: secret, UserCode: d.UserCode, CorrelationID: by.CorrelationID, Ends: d.Ends}, "", nil
}

// PollMachine answers how a machine's sign-in stands: a certificate, once, or why
// there will be none; both empty while nobody has answered.
func (s *Service) PollMachine(ctx context.Context, by audit.By, secret string) (certificate, reason string, err error) {
	hash := s.cfg.Hash("device code", secret)
	var d Device
	var found bool
	if err := s.cfg.Read(ctx, func(tx Tx) error { d, found, err = tx.DeviceRequest(hash); return err }); err != nil {
		return "", "", err
	}
	switch {
	case !found || d.Machine.ID == "" || d.Machine.ID != by.Principal:
		return "", ReasonExpired, nil // another machine's is none
	case d.State == DeviceDenied && d.Machine.Reason != "":
		return "", d.Machine.Reason, nil
	case d.State == DeviceDenied:
		return "", ReasonDeclined, nil
	case d.State == DeviceUsed || !by.At.Before(d.Ends):
		return "", ReasonExpired, nil
	case d.State == DevicePending:
		return "", "", nil
	case d.State != DeviceApproved || d.UserID != d.Machine.UserID:
		return "", ReasonOther, nil
	case !s.settings().AllowPreviewLogin:
		return "", ReasonNotAllowed, nil
	}
	done := false
	used := d
	used.State = DeviceUsed
	err = s.cfg.Write(ctx, func(tx Tx) error { done, err = tx.PutDeviceState(used, DeviceApproved); return err })
	if err != nil || !done {
		return "", ReasonExpired, err
	}
	return s.machineCertificate(ctx, by, d)
}

// LeaveMachine ends a machine's sign-in for which nobody waits any more: its code
// opens nothing, and takes no room.
func (s *Service) LeaveMachine(ctx context.Context, by audit.By, secret string) error {
	hash := s.cfg.Hash("device code", secret)
	return s.cfg.Write(ctx, func(tx Tx) error {
		d, found, err := tx.DeviceRequest(hash)
		if err != nil || !found || d.Machine.ID == "" || d.Machine.ID != by.Principal {
			return err
		}
		d.State, d.Machine.Reason = DeviceDenied, ReasonExpired
		_, err = tx.PutDeviceState(d, DevicePending)
		return err
	})
}

// machineCertificate has the approved sign-in pass through the one function that
// every certificate passes through.
func (s *Service) machineCertificate(ctx context.Context, by audit.By, d Device) (certificate, reason string, err error) {
	form := url.Values{"token_type": {"ssh-cert"}, "req_cnf": {d.Machine.Confirmation}, "machine": {d.Machine.ID}}
	by.Client, by.CorrelationID = d.Client, d.Machine.CorrelationID // ours, from when it began
	x := &exchange{Request: Request{Form: form}, by: by, client: machineClient(), cert: true, machine: d.Machine.ID}
	if err := s.readScope(x, d.Scope); err != nil {
		return "", "", err
	}
	a, err := s.answer(ctx, x, session{grant: grantMachineDevice, user: directory.User{ID: d.UserID}, id: d.Session, factors: d.Factors, signedInAt: d.SignedInAt, device: d.Hash,
		until: by.At.Add(machineCertLife), caller: d.Address})
	var e *Error
	if asError(err, &e) {
		return "", ReasonPolicy, nil
	}
	return a.AccessToken, "", err
}

// machineClient is the client of such a sign-in: the machine's sign-in itself.
func machineClient() directory.Application {
	return directory.Application{AppID: directory.LinuxSignIn, DisplayName: "Azure Linux VM Sign-In"}
}

// judgeMachine says whether a person's approval of a machine's sign-in counts: it
// must be the very person that the login name belongs to, not one of the same
// tenant (CVE-2026-45108), and policy must allow it, so that the page can say so.
func (s *Service) judgeMachine(by audit.By, d Device, user directory.User, n signin.Session) (reason string, refusal error) {
	if user.ID != d.Machine.UserID || user.UPN != d.Machine.LoginName {
		return ReasonOther, refuse("access_denied", 50105, "The code signs in %s to the machine %s, and you are %s. Nothing was opened. If somebody sent you this code, tell your administrator.", d.Machine.LoginName, show(d.Machine.Name), user.UPN)
	}
	if !s.settings().AllowPreviewLogin {
		return ReasonNotAllowed, refuse("access_denied", 70003, "Signing in to machines with a code is switched off in this tenant. An administrator can allow it: sally tenant update --allow-preview-login true.")
	}
	scope := Scope{Resource: SSH, Audience: s.Audiences(SSH)[0]}
	if err := s.policyError(scope, s.evaluate(user.ID, scope, n.SignedInAt, n.Factors, by.At)); err != nil {
		return ReasonPolicy, err
	}
	return "", nil
}
