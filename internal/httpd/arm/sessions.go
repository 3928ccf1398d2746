package arm

import (
	"context"
	"net/http"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/httpd"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/resource/types"
	"sallyport/internal/scope"
)

// MachineSessions are what is open on machines; *machine.Service has them.
type MachineSessions interface {
	Sessions(ctx context.Context, q machine.SessionQuery) ([]machine.Session, error)
	SessionByID(ctx context.Context, machineID, id string) (n machine.Session, open bool, err error)
	EndSession(ctx context.Context, by audit.By, machineID, id string) error
	State(machineID string) (machine.State, bool)
}

const (
	machineSessions = "/providers/Sallyport.Access/machineSessions"
	readSessions    = "Sallyport.Access/machineSessions/read"
	endSessions     = "Sallyport.Access/machineSessions/end/action"
	// sessionPage is how many sessions one page looks at.
	sessionPage = 1000
)

func (h *Handler) mountSessions(m *httpd.Mux) {
	m.Handle("arm.machineSessions.list", h.machineSessions)
	m.Handle("arm.machineSessions.get", h.machineSession)
	m.Handle("arm.machineSessions.end", h.endMachineSession)
}

// machineSessions lists what the caller may see: his own sessions, and those on
// machines where he may read sessions.
func (h *Handler) machineSessions(c *httpd.Call) error {
	machineID, err := h.meantMachine(c)
	if err != nil {
		return err
	}
	q := machine.SessionQuery{MachineID: machineID, Limit: sessionPage}
	if c.R.URL.Query().Get("principal") != "" {
		q.ObjectID = h.person(c)
		// People read the directory; a program that may not is not told here who is in it.
		if err := knownPerson(q.ObjectID); err != nil && c.By.Type == audit.User {
			return err
		}
	}
	if token := c.R.URL.Query().Get("$skipToken"); token != "" {
		m, id, _ := strings.Cut(token, ".")
		if !guid.Valid(m) || !guid.Valid(id) {
			return badSkipToken()
		}
		q.AfterMachine, q.AfterID = m, id
	}
	list, err := h.cfg.Sessions.Sessions(c.R.Context(), q)
	if err != nil {
		return err
	}
	value := []map[string]any{}
	for _, n := range list {
		st, at, ok := h.placeOf(n)
		if ok && (n.ObjectID == c.By.Principal || h.cfg.Engine.Allowed(c.By, readSessions, at)) {
			value = append(value, showSession(n, st, true))
		}
	}
	next := ""
	if len(list) == sessionPage {
		last := list[len(list)-1]
		next = last.MachineID + "." + last.ID
	}
	return c.JSON(http.StatusOK, h.page(c, value, next))
}

// meantMachine is the machine that "machine" names, by its id or its resource's;
// "" for none.
func (h *Handler) meantMachine(c *httpd.Call) (string, error) {
	name := c.R.URL.Query().Get("machine")
	if !strings.HasPrefix(name, "/") {
		if id, ok := guid.Parse(name); ok || name == "" {
			return id, nil
		}
		return "", fault.New(fault.Invalid, "InvalidParameter", "machine is neither the id of a machine nor a resource id").WithTarget("machine")
	}
	id, err := scope.Parse(name)
	if err != nil {
		return "", err
	}
	vm, err := h.cfg.Engine.Find(c.R.Context(), c.By, id)
	if err != nil {
		return "", err
	}
	f, ok := types.FactsOf(vm)
	if !ok {
		return "", fault.New(fault.Invalid, "NotAMachine", "'%s' is no machine", id.Name())
	}
	return f.MachineID, nil
}

// placeOf is what is known of a session's machine, and the scope at which rights
// over the session are held.
func (h *Handler) placeOf(n machine.Session) (machine.State, scope.ID, bool) {
	st, ok := h.cfg.Sessions.State(n.MachineID)
	return st, st.ResourceID, ok
}

// foundSession is one session that the caller may see; to everybody else there is none.
func (h *Handler) foundSession(c *httpd.Call) (n machine.Session, st machine.State, open bool, err error) {
	machineID, err := h.meantMachine(c)
	if err != nil {
		return n, st, false, err
	}
	n, open, err = h.cfg.Sessions.SessionByID(c.R.Context(), machineID, c.Var("name"))
	if err != nil {
		return n, st, false, err
	}
	st, at, ok := h.placeOf(n)
	if !ok || n.ObjectID != c.By.Principal && !h.cfg.Engine.Allowed(c.By, readSessions, at) {
		return n, st, false, fault.New(fault.NotFound, "SessionNotFound", "there is no session %s that you may see", n.ID).WithRemedy("List them with: sally session list")
	}
	return n, st, open, nil
}

func (h *Handler) machineSession(c *httpd.Call) error {
	n, st, open, err := h.foundSession(c)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, showSession(n, st, open))
}

// endMachineSession ends one's own session, or another's with the right to.
func (h *Handler) endMachineSession(c *httpd.Call) error {
	n, st, open, err := h.foundSession(c)
	if err != nil {
		return err
	}
	if n.ObjectID != c.By.Principal {
		if err := h.cfg.Engine.Authorize(c.R.Context(), c.By, endSessions, st.ResourceID); err != nil {
			return err
		}
	}
	if open {
		if err := h.cfg.Sessions.EndSession(c.R.Context(), c.By, n.MachineID, n.ID); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if n, open, err = h.cfg.Sessions.SessionByID(c.R.Context(), n.MachineID, n.ID); err != nil {
			return err
		}
	}
	return c.JSON(http.StatusOK, showSession(n, st, open))
}

// The states of a session.
const (
	sessionOpen   = "Open"
	sessionEnding = "Ending" // somebody ended it, and the machine has not said that it is gone
	sessionEnded  = "Ended"
)

func showSession(n machine.Session, st machine.State, open bool) map[string]any {
	state := sessionOpen
	switch {
	case !open:
		state = sessionEnded
	case n.Ending != nil:
		state = sessionEnding
	}
	properties := map[string]any{
		"state": state, "machineId": n.MachineID, "resourceId": st.ResourceID.String(), "machine": protocol.MachineName(st.ResourceID.String()), "lastSeen": seen(st.LastSeen),
		"principalId": n.ObjectID, "principalName": n.LoginName, "since": n.Since.UTC(), "from": n.From, "kind": n.Kind, "service": n.Service, "tty": n.TTY, "elevatedProcesses": n.Elevated,
		"certificate": map[string]any{"serial": n.Serial, "keyId": n.KeyID}, "correlationId": n.CorrelationID,
	}
	if e := n.Ending; e != nil {
		properties["ending"] = map[string]any{"by": e.By, "at": e.At.UTC(), "correlationId": e.CorrelationID, "goneAt": seen(e.GoneAt), "processes": e.Processes, "left": e.Left}
	}
	return map[string]any{"id": machineSessions + "/" + n.ID, "name": n.ID, "type": "Sallyport.Access/machineSessions", "properties": properties}
}
