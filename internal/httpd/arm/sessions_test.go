package arm_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	machines "sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/scope"
)

const (
	sessionMachine = "0bbbbbbb-0000-4000-8000-000000000001"
	adminsSession  = "0bbbbbbb-0000-4000-8000-000000000002"
	nobodys        = "0bbbbbbb-0000-4000-8000-000000000003"
	lostSession    = "0bbbbbbb-0000-4000-8000-000000000004"
)

// openSessions are two people's sessions on one machine, and one on a machine
// that is not known.
type openSessions struct {
	shown bool
	ended []string
}

func (o *openSessions) all() []machines.Session {
	if !o.shown {
		return nil
	}
	one := func(machine, id, who string) machines.Session {
		return machines.Session{MachineID: machine, Session: protocol.Session{ID: id, ObjectID: who, Since: time.Unix(1, 0), Kind: protocol.SessionPTY}}
	}
	return []machines.Session{one(sessionMachine, adminsSession, admin), one(sessionMachine, nobodys, nobody), one(nobodys, lostSession, nobody)}
}

func (o *openSessions) Sessions(_ context.Context, q machines.SessionQuery) (list []machines.Session, err error) {
	for _, n := range o.all() {
		if (q.ObjectID == "" || q.ObjectID == n.ObjectID) && (q.MachineID == "" || q.MachineID == n.MachineID) {
			list = append(list, n)
		}
	}
	return list, nil
}

func (o *openSessions) SessionByID(_ context.Context, machineID, id string) (machines.Session, bool, error) {
	for _, n := range o.all() {
		if n.ID == id && (machineID == "" || machineID == n.MachineID) {
			return n, true, nil
		}
	}
	return machines.Session{}, false, fault.New(fault.NotFound, "SessionNotFound", "no")
}

func (o *openSessions) EndSession(_ context.Context, by audit.By, _, id string) error {
	o.ended = append(o.ended, by.Principal+" "+id)
	return nil
}

func (o *openSessions) State(id string) (machines.State, bool) {
	at, err := scope.Parse(machine)
	return machines.State{Machine: machines.Machine{ID: id, ResourceID: at}}, err == nil && id == sessionMachine
}

// Everybody sees and ends his own sessions; those of others only with the right
// to, at the machine. Whoever may not see one does not learn that it is there.
func TestMachineSessions_WhoseTheyAre(t *testing.T) {
	s := newServer(t)
	s.sessions.shown = true
	const list = "/providers/Sallyport.Access/machineSessions"
	for _, c := range []struct {
		who, method, path string
		want, count       int
	}{
		{admin, http.MethodGet, list, 200, 2},
		{nobody, http.MethodGet, list, 200, 1},
		{nobody, http.MethodGet, list + "?principal=" + admin, 200, 0},
		{admin, http.MethodGet, list + "?principal=" + nobody, 200, 1},
		{admin, http.MethodGet, list + "?principal=admin@corp.example", 200, 1},
		{admin, http.MethodGet, list + "?machine=" + sessionMachine, 200, 2},
		{admin, http.MethodGet, list + "?machine=" + nobodys, 200, 0},
		{admin, http.MethodGet, list + "?machine=x", 400, -1},
		{admin, http.MethodGet, list + "?$skipToken=x", 400, -1},
		{nobody, http.MethodGet, list + "?machine=" + machine, 403, -1},
		{nobody, http.MethodGet, list + "/" + adminsSession, 404, -1},
		{nobody, http.MethodGet, list + "/" + nobodys, 200, -1},
		{nobody, http.MethodGet, list + "/" + lostSession, 404, -1},
		{nobody, http.MethodPost, list + "/" + adminsSession + "/end", 404, -1},
		{nobody, http.MethodPost, list + "/" + nobodys + "/end", 200, -1},
		{admin, http.MethodPost, list + "/" + nobodys + "/end", 200, -1},
		{admin, http.MethodPost, list + "/" + lostSession + "/end", 404, -1},
	} {
		answer, v := s.call(c.who, c.method, c.path, "")
		if answer.StatusCode != c.want {
			t.Errorf("%s %s as %s: %d %v", c.method, c.path, c.who, answer.StatusCode, v)
		}
		if strings.Contains(c.path, adminsSession) {
			said(t, v, "arm.SessionNotFound.yours")
		}
		if value, _ := dig(v, "value").([]any); c.count >= 0 && len(value) != c.count {
			t.Errorf("%s as %s: %v", c.path, c.who, value)
		}
	}
	if got := s.sessions.ended; len(got) != 2 || got[0] != nobody+" "+nobodys || got[1] != admin+" "+nobodys {
		t.Errorf("ended %v", got)
	}
}
