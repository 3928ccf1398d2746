package oauth

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"sallyport/internal/address"
	"sallyport/internal/audit"
	"sallyport/internal/conditional"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/signin"
)

// userCodeAlphabet has no vowels, so that no words appear, and nothing that is
// read as something else.
const (
	userCodeAlphabet = "BCDFGHJKLMNPQRSTVWXZ23456789"
	userCodeLength   = 8
)

// DeviceAnswer is RFC 8628 section 3.2 with Entra's message, which az prints.
type DeviceAnswer struct {
	UserCode        string `json:"user_code"`
	DeviceCode      string `json:"device_code"`
	VerificationURI string `json:"verification_uri"`
	VerificationURL string `json:"verification_url"`
	ExpiresIn       int64  `json:"expires_in"`
	Interval        int64  `json:"interval"`
	Message         string `json:"message"`
}

// Device answers a device authorization request.
func (s *Service) Device(ctx context.Context, by audit.By, r Request) (DeviceAnswer, error) {
	x, err := s.authenticateClient(ctx, by, r)
	if err != nil {
		return DeviceAnswer{}, errFault(err)
	}
	if !x.client.Public {
		return DeviceAnswer{}, refuse("unauthorized_client", 7000218, "The device code grant is for public clients only.")
	}
	if err := s.readScope(x, ""); err != nil {
		return DeviceAnswer{}, err
	}
	if err := s.settings().mayUseDeviceCode(); err != nil {
		return DeviceAnswer{}, s.switchedOff(ctx, x, grantDeviceShort, err)
	}
	code, err := s.random()
	if err != nil {
		return DeviceAnswer{}, err
	}
	d := Device{
		Hash: s.cfg.Hash("device code", code), Client: x.client.AppID, Scope: x.scope.Text, Address: x.by.Address,
		State: DevicePending, CreatedAt: x.by.At, Ends: x.by.At.Add(deviceLife),
	}
	if err := s.storeDevice(ctx, &d); err != nil {
		return DeviceAnswer{}, err
	}
	uri := s.cfg.URL + "/device"
	return DeviceAnswer{
		UserCode: d.UserCode, DeviceCode: code, VerificationURI: uri, VerificationURL: uri, ExpiresIn: int64(deviceLife.Seconds()), Interval: int64(devicePoll.Seconds()),
		Message: fmt.Sprintf("To sign in, use a web browser to open the page %s and enter the code %s to authenticate.", uri, d.UserCode),
	}, nil
}

// storeDevice gives a request its user code and keeps it.
func (s *Service) storeDevice(ctx context.Context, d *Device) (err error) {
	for stored := false; !stored; {
		if d.UserCode, err = s.userCode(); err != nil {
			return err
		}
		err = s.cfg.Write(ctx, func(tx Tx) error {
			if err := roomForDevice(tx, *d); err != nil {
				return err
			}
			stored, err = tx.PutDeviceRequest(*d)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// The requests that may wait for a person at a time.
const (
	devicesOfNetwork = 20
	devicesNearby    = 200 // of a /24 or /48
	devicesOfAll     = 5_000
)

// roomForDevice refuses a place that has enough requests. When all there may be
// are there, the neighbourhood with most gives its oldest up to one with fewer:
// whoever fills the room empties his own.
func roomForDevice(tx Tx, d Device) error {
	network, wide := d.Place()
	mine, near, all, err := tx.PendingDevices(network, wide, d.CreatedAt)
	if err != nil {
		return err
	}
	full := mine >= devicesOfNetwork || near >= devicesNearby
	if d.Machine.ID != "" {
		full = mine >= devicesOfMachine
	}
	if !full && all >= devicesOfAll {
		dropped, err := tx.DropPendingDevice(near+1, d.CreatedAt)
		if err != nil {
			return err
		}
		full = !dropped
	}
	if full {
		return fault.New(fault.Exhausted, "TooManyDeviceCodes", "too many device codes wait for their confirmation.").WithRemedy("Enter one of them, or try again in a few minutes.")
	}
	return nil
}

// Place is whose share of the waiting requests one takes: that of a network and
// its neighbourhood, or of the machine that asked. What a machine says of where
// its people come from is not believed for this.
func (d Device) Place() (network, wide string) {
	if d.Machine.ID != "" {
		return "machine " + d.Machine.ID, "machine " + d.Machine.ID
	}
	return address.Network(d.Address), address.Wide(d.Address)
}

// userCode draws without bias: bytes beyond the last whole multiple are dropped.
func (s *Service) userCode() (string, error) {
	var out strings.Builder
	var b [1]byte
	for out.Len() < userCodeLength {
		if _, err := io.ReadFull(s.cfg.Rand, b[:]); err != nil {
			return "", fmt.Errorf("oauth: %w", err)
		}
		if n := len(userCodeAlphabet); int(b[0]) < 256/n*n {
			out.WriteByte(userCodeAlphabet[int(b[0])%n])
		}
	}
	return out.String(), nil
}

// PendingDevice finds the request that a person typed the code of, in any case
// and with any separators.
func (s *Service) PendingDevice(ctx context.Context, by audit.By, typed string) (Device, directory.Application, bool, error) {
	code := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -\t", r) {
			return -1
		}
		return r
	}, strings.ToUpper(typed))
	if len(code) != userCodeLength || strings.Trim(code, userCodeAlphabet) != "" {
		return Device{}, directory.Application{}, false, nil
	}
	var d Device
	var found bool
	err := s.cfg.Read(ctx, func(tx Tx) error {
		var err error
		d, found, err = tx.DeviceRequestByUserCode(code)
		return err
	})
	if err != nil || !found || d.State != DevicePending || !by.At.Before(d.Ends) {
		return Device{}, directory.Application{}, false, err
	}
	if d.Machine.ID != "" {
		return d, machineClient(), true, nil
	}
	app, ok := s.cfg.Directory.Application(d.Client)
	return d, app, ok, nil
}

// DeviceWants reports whether policy asks for a newer sign-in than a person has,
// before what a device asks for can be approved.
func (s *Service) DeviceWants(d Device, n signin.Session, at time.Time) bool {
	scope, err := s.parseScope(d.Scope, d.Client)
	if err != nil {
		return false // the redemption says so
	}
	decision := s.evaluate(n.UserID, scope, n.SignedInAt, n.Factors, at)
	return !decision.Allowed && decision.Missing == conditional.SignInFrequency
}

// DecideDevice records a signed-in person's answer.
func (s *Service) DecideDevice(ctx context.Context, by audit.By, d Device, n signin.Session, approve bool) error {
	user, err := s.account(n.UserID, n.SignedInAt)
	if err != nil {
		return err
	}
	d.UserID, d.Session, d.Factors, d.SignedInAt, d.State = user.ID, n.ID, n.Factors, n.SignedInAt, DeviceDenied
	outcome, refusal := audit.Denied, error(nil)
	if approve && d.Machine.ID != "" {
		d.Machine.Reason, refusal = s.judgeMachine(by, d, user, n)
	}
	if approve && refusal == nil {
		d.State, outcome = DeviceApproved, audit.Success
	}
	by.Principal, by.Type, by.Name, by.Client, by.Session = user.ID, audit.User, user.UPN, d.Client, n.ID
	detail := map[string]string{"device": d.Address, "scope": d.Scope}
	if d.Machine.ID != "" {
		detail["machine"], detail["login"], detail["reason"] = d.Machine.ID, d.Machine.LoginName, d.Machine.Reason
	}
	done := false
	err = s.cfg.Write(ctx, func(tx Tx) error {
		var err error
		if done, err = tx.PutDeviceState(d, DevicePending); err != nil || !done {
			return err
		}
		return tx.Audit(by, audit.Event{Type: "device.code", Outcome: outcome, Target: user.ID, Detail: detail})
	})
	switch {
	case err != nil:
		return err
	case !done:
		return refuse("invalid_grant", 70019, "The code was used already. Start again on the device.")
	}
	return refusal
}

// grantDevice is the poll of RFC 8628 section 3.4.
func (s *Service) grantDevice(ctx context.Context, x *exchange) (Answer, error) {
	text := x.get("device_code")
	if text == "" {
		text = x.get("code")
	}
	if text == "" {
		return Answer{}, missing("device_code")
	}
	d, found, err := s.pollDevice(ctx, x, s.cfg.Hash("device code", text))
	if err != nil {
		return Answer{}, err
	}
	switch {
	case !found || d.Client != x.client.AppID || d.Machine.ID != "": // a machine's request is polled by the machine
		return Answer{}, refuse("bad_verification_code", 70018, "Invalid verification code: the device code is unknown or belongs to another client.")
	case d.State == DeviceDenied:
		return Answer{}, refuse("authorization_declined", 70017, "The sign-in was declined in the browser.")
	case !x.by.At.Before(d.Ends):
		return Answer{}, errDeviceOver()
	case d.State == DevicePending && x.by.At.Sub(d.PolledAt) < devicePoll/2:
		return Answer{}, refuse("slow_down", 70016, "The device polls too often. Wait %d seconds between polls.", int(devicePoll.Seconds()))
	case d.State == DevicePending:
		return Answer{}, refuse("authorization_pending", 70016, "OAuth 2.0 device flow error. Authorization is pending. Continue polling.")
	case d.State != DeviceApproved:
		return Answer{}, errDeviceOver()
	}
	if err := s.settings().mayUseDeviceCode(); err != nil {
		return Answer{}, s.switchedOff(ctx, x, grantDeviceShort, err)
	}
	if err := s.readScope(x, d.Scope); err != nil {
		return Answer{}, err
	}
	used, done := d, false
	used.State = DeviceUsed
	err = s.cfg.Write(ctx, func(tx Tx) error {
		var err error
		done, err = tx.PutDeviceState(used, DeviceApproved)
		return err
	})
	if err != nil {
		return Answer{}, err
	}
	if !done {
		return Answer{}, errDeviceOver()
	}
	return s.answer(ctx, x, session{grant: grantDeviceShort, user: directory.User{ID: d.UserID}, id: d.Session, factors: d.Factors, signedInAt: d.SignedInAt, device: d.Hash})
}

func errDeviceOver() *Error {
	return refuse("expired_token", 70020, "The device code has expired or was used. Start again: sally login --use-device-code")
}

// pollDevice reads the request as it was before this poll and notes the poll.
func (s *Service) pollDevice(ctx context.Context, x *exchange, hash []byte) (d Device, found bool, err error) {
	err = s.cfg.Write(ctx, func(tx Tx) error {
		var err error
		if d, found, err = tx.DeviceRequest(hash); err != nil || !found || d.State != DevicePending {
			return err
		}
		return tx.PollDeviceRequest(hash, x.by.At)
	})
	return d, found, err
}
