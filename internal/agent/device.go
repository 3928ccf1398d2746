package agent

import (
	"context"
	"time"

	"sallyport/internal/agent/control"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// approvalPause is the time between two questions to the server whether a login was
// approved; no later is somebody let in who has pressed Enter.
const approvalPause = time.Second

// devices asks the server for codes for the logins that the root part names, and
// brings back what became of them.
func (a *Agent) devices(ctx context.Context, p *pause) {
	for ctx.Err() == nil {
		answer, err := a.cfg.Root.Ask(ctx, control.Request{Op: control.OpDevices, WaitMillis: pollWait.Milliseconds()})
		if err != nil {
			p.failed(ctx, "logins to approve", err)
			continue
		}
		p.next = 0
		for _, d := range answer.Devices {
			go a.device(ctx, d)
		}
	}
}

// device sees one login through. Whatever goes wrong refuses it: the root part
// believes nothing of this that lets in.
func (a *Agent) device(ctx context.Context, d control.Device) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(d.LifeSeconds)*time.Second)
	defer cancel()
	server := asker{a}
	var made protocol.DeviceAnswer
	err := server.call(ctx, "POST", "/machine/v1/device", protocol.DeviceRequest{LoginName: d.Login, ObjectID: d.ObjectID, Confirmation: d.Confirmation, From: d.From, LifeSeconds: d.LifeSeconds}, &made)
	if err != nil {
		a.cfg.Log("code for a login: %v", err)
		_ = a.tell(ctx, d, protocol.DeviceState{State: reasonOf(err)}) // it is in the log
		return
	}
	if _, err := a.cfg.Root.Ask(ctx, control.Request{Op: control.OpDeviceCode, Name: d.ID, Code: &made.Code}); err != nil {
		a.cfg.Log("code for a login: %v", err)
		_ = a.tell(ctx, d, protocol.DeviceState{State: protocol.DeviceAway})
		a.leave(ctx, made.Secret)
		return
	}
	state := protocol.DeviceState{State: protocol.DevicePending}
	for ctx.Err() == nil {
		a.cfg.Wait(ctx, approvalPause)
		if state.State == protocol.DevicePending { // the end comes once, and is told until it is heard
			if err := server.call(ctx, "POST", "/machine/v1/device/poll", protocol.DevicePoll{Secret: made.Secret}, &state); err != nil {
				a.cfg.Log("approval of a login: %v", err)
				state = protocol.DeviceState{State: protocol.DevicePending} // the server may come back
			}
		}
		switch err := a.tell(ctx, d, state); {
		case fault.Is(err, fault.NotFound):
			a.leave(ctx, made.Secret)
			return
		case fault.Is(err, fault.Forbidden), err == nil && state.State != protocol.DevicePending:
			return
		}
	}
}

// tell brings the server's word to the root part; NotFound: nobody waits for it.
func (a *Agent) tell(ctx context.Context, d control.Device, state protocol.DeviceState) error {
	_, err := a.cfg.Root.Ask(ctx, control.Request{Op: control.OpDeviceState, Name: d.ID, State: state.State, Certificate: state.Certificate})
	if err != nil && !fault.Is(err, fault.NotFound) && ctx.Err() == nil {
		a.cfg.Log("approval of a login: %v", err)
	}
	return err
}

// leave has the code of a login for which nobody waits open nothing any more.
func (a *Agent) leave(ctx context.Context, secret string) {
	var state protocol.DeviceState
	if err := (asker{a}).call(ctx, "POST", "/machine/v1/device/poll", protocol.DevicePoll{Secret: secret, Gone: true}, &state); err != nil {
		a.cfg.Log("code for a login: %v", err)
	}
}

// reasonOf is the reason that the server gave, where it is one.
func reasonOf(err error) string {
	switch code := fault.As(err).Code; code {
	case protocol.DeviceNotAllowed, protocol.DeviceAccount, protocol.DeviceTooMany:
		return code
	}
	return protocol.DeviceAway
}
