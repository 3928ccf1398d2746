package root

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"sync"

	"sallyport/internal/agent/proc"
	"sallyport/internal/agent/shim"
	"sallyport/internal/agent/sshd"
	"sallyport/internal/fault"
)

// visitorUID is the visitor's: the last of ours, which is no person's (usable), so
// that what is looked for in sessions of people leaves the visitor out.
const visitorUID = shim.UIDMax

// visit is the one login of a self-test that is under way. It is no way in: its
// name is random and lives for a second, its certificate is signed by a key that
// the machine does not trust, and it is answered for to one process alone, which
// this part has started on a connection with itself.
type visit struct {
	sshd.Visitor
	mu    sync.Mutex
	asked sshd.Asked
}

// Receive is sshd.Desk's. The visitor is in the name service until leave.
func (s *Service) Receive(v sshd.Visitor) (leave func() sshd.Asked, err error) {
	p := &visit{Visitor: v}
	view := s.now()
	if view.doc == nil {
		return nil, fault.New(fault.Unavailable, "NoSnapshot", "nothing has come from the server yet")
	}
	db := s.database(view)
	db.Users = append(db.Users, shim.User{Name: v.Login, UID: visitorUID, GID: visitorUID, Home: "/", Shell: "/bin/sh", Groups: []uint32{shim.GIDUsers}})
	if err := shim.WriteNSS(s.at(nssPath), db); err != nil {
		return nil, err
	}
	s.visitor.Store(p)
	return func() sshd.Asked {
		// The service manager that logind started for the visitor goes while its
		// account is there. Later it could load no unit, not even the one to exit by,
		// and the machine's next shutdown would wait for it for a minute and a half.
		if err := s.cfg.Ender.Dismiss(context.Background(), visitorUID); err != nil {
			s.cfg.Log("self-test: %v", err)
		}
		s.visitor.Store(nil)
		if err := shim.WriteNSS(s.at(nssPath), s.database(s.now())); err != nil {
			s.cfg.Log("name service file: %v", err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.asked
	}, nil
}

// visiting is the visit under that name, or nil.
func (s *Service) visiting(login string) *visit {
	if v := s.visitor.Load(); v != nil && v.Login == login {
		return v
	}
	return nil
}

// principal answers for the visitor's very certificate, to the sshd of the visit.
func (v *visit) principal(parent proc.Process, r shim.PrincipalsRequest) (string, error) {
	blob, err := base64.StdEncoding.DecodeString(r.Certificate)
	if err != nil || !parent.Same(v.Daemon) || !bytes.Equal(blob, v.Certificate) {
		return "", fmt.Errorf("not the visitor of the self-test")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked.Principals = true
	return v.ObjectID, nil
}

// pam answers for the visitor to the sshd of the visit, after it asked for the
// principals, and to the service manager that sshd's session starts.
func (v *visit) pam(p, parent proc.Process, r shim.PAMRequest) shim.PAMAnswer {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.Preview && r.Service == "sshd" && parent.Same(v.Daemon) {
		if a, ok := v.approve(r); ok {
			return a
		}
	}
	switch {
	case r.Phase == shim.PhaseClose || r.Service == "systemd-user":
		return shim.PAMAnswer{Allow: true}
	case r.Service != "sshd" || !p.Same(v.Daemon) || !v.asked.Principals:
		return shim.PAMAnswer{Text: "Sallyport: this name exists for a self-test only."}
	case r.Phase == shim.PhaseAccount:
		v.asked.Account = true
	case r.Phase == shim.PhaseOpen && v.asked.Account:
		v.asked.Session = true
	}
	return shim.PAMAnswer{Allow: v.asked.Account}
}

// approve answers for the visitor where PAM asks who it is: in a child of the sshd
// of the visit, which also asks for the account then.
func (v *visit) approve(r shim.PAMRequest) (shim.PAMAnswer, bool) {
	no := shim.PAMAnswer{Text: "Sallyport: this name exists for a self-test only."}
	switch {
	case r.Phase == shim.PhaseBegin:
		v.asked.Principals = true
		return shim.PAMAnswer{Prompt: "Self-test. Press Enter: "}, true
	case v.Refused || !v.asked.Principals:
		return no, r.Phase == shim.PhaseCheck || r.Phase == shim.PhaseAccount
	case r.Phase == shim.PhaseCheck:
		return shim.PAMAnswer{Allow: true}, true
	case r.Phase == shim.PhaseAccount:
		v.asked.Account = true
		return shim.PAMAnswer{Allow: true}, true
	}
	return no, false
}

// SelfTest has the worker log in as a visitor of the wired machine.
func (s *Service) SelfTest(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case s.tests <- done:
	case <-ctx.Done():
		return fault.Wrap(ctx.Err(), fault.Unavailable, "Busy", "the root part is busy")
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fault.Wrap(ctx.Err(), fault.Unavailable, "Busy", "the self-test takes too long")
	}
}
