package arm

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
)

// Revocations are what was taken away, and which machines know; *machine.Service
// has them.
type Revocations interface {
	Revocations(ctx context.Context, behind machine.RevocationPlace, after time.Time, limit int) ([]machine.Pending, error)
	RevocationByID(ctx context.Context, id string) (p machine.Pending, concerned int, found bool, err error)
	State(machineID string) (machine.State, bool)
}

const (
	revocationsPath = "/providers/Sallyport.Access/revocations"
	readRevocations = "Sallyport.Access/revocations/read"
	revocationPage  = 100
	// waitingMost is how many machines are shown that have not acknowledged one.
	waitingMost = 1000
)

func (h *Handler) mountRevocations(m *httpd.Mux) {
	m.Handle("arm.revocations.list", h.revocationReader(h.revocations))
	m.Handle("arm.revocations.get", h.revocationReader(h.revocation))
}

func (h *Handler) revocationReader(next httpd.HandlerFunc) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		if err := h.cfg.Engine.Authorize(c.R.Context(), c.By, readRevocations, h.auditScope()); err != nil {
			return err
		}
		return next(c)
	}
}

func (h *Handler) revocations(c *httpd.Call) error {
	values := c.R.URL.Query()
	behind := machine.RevocationPlace{}
	if token := values.Get("$skipToken"); token != "" {
		n, id, _ := strings.Cut(token, ".")
		behind.ID = id
		var err error
		if behind.Position, err = strconv.ParseInt(n, 10, 64); err != nil || behind.Position < 1 {
			return badSkipToken()
		}
	}
	limit := revocationPage
	top, err := readTop(values)
	if err != nil {
		return err
	}
	if top > 0 {
		limit = min(top, revocationPage)
	}
	list, err := h.cfg.Revocations.Revocations(c.R.Context(), behind, c.By.At.Add(-machine.RevocationMemory), limit)
	if err != nil {
		return err
	}
	out, next := make([]map[string]any, len(list)), ""
	for i, p := range list {
		out[i] = h.showRevocation(p, nil)
	}
	if len(list) == limit {
		next = fmt.Sprintf("%d.%s", list[limit-1].Position, list[limit-1].ID)
	}
	return c.JSON(http.StatusOK, h.page(c, out, next))
}

func (h *Handler) revocation(c *httpd.Call) error {
	p, concerned, found, err := h.cfg.Revocations.RevocationByID(c.R.Context(), strings.ToLower(c.Var("name")))
	if err != nil {
		return err
	}
	if !found {
		return fault.New(fault.NotFound, "RevocationNotFound", "there is no revocation of this id").WithRemedy("List them with: sally access revocation list. They are kept for %d days.", machine.RevocationMemory/(24*time.Hour))
	}
	left, err := h.leftBehind(c.R.Context(), p)
	if err != nil {
		return err
	}
	shown := h.showRevocation(p, &concerned)
	shown["properties"].(map[string]any)["left"] = left
	return c.JSON(http.StatusOK, shown)
}

const (
	// leftFor is how long after a revocation a machine's word on what it ended
	// counts as an answer to it: it may have been away.
	leftFor  = 7 * 24 * time.Hour
	leftMost = 1000
)

// leftBehind is what machines told that they could not end of what a revocation
// ends: of the person, the session or the machine that it names. Of a group that
// it names the machines' records say no more than whose processes were ended.
func (h *Handler) leftBehind(ctx context.Context, p machine.Pending) ([]map[string]any, error) {
	records, err := h.cfg.Audit.Records(ctx, audit.Filter{Type: "machine." + protocol.EventSessionEnd, Since: p.At, Until: p.At.Add(leftFor), Limit: leftMost})
	if err != nil {
		return nil, err
	}
	left := []map[string]any{}
	for _, r := range records {
		if told := r.Detail[protocol.FactLeft]; told != "" && answers(r, p) {
			left = append(left, map[string]any{"resourceId": r.Target, "principalId": r.Detail["objectId"], "principalName": r.Detail["login"], "at": r.Time.UTC(), "correlationId": r.CorrelationID, "left": told})
		}
	}
	return left, nil
}

// answers reports whether an end that a machine tells of is one that a revocation
// asked for.
func answers(r audit.Record, p machine.Pending) bool {
	session, person := r.Detail[protocol.FactSession], r.Detail["objectId"]
	switch {
	case p.Type == machine.EventSessionEnd:
		return session != "" && p.What == "session "+session || r.CorrelationID == p.CorrelationID // what goes on has no session's id
	case strings.HasPrefix(p.Type, "resource."):
		under := strings.ToLower(p.Target) + "/"
		return strings.HasPrefix(under, strings.ToLower(r.Target)+"/")
	}
	return person != "" && (p.Target == person || strings.HasSuffix(p.What, " "+person))
}

func (h *Handler) showRevocation(p machine.Pending, concerned *int) map[string]any {
	properties := map[string]any{"type": p.Type, "target": p.Target, "what": p.What, "at": p.At.UTC(), "by": p.By, "byName": p.ByName, "correlationId": p.CorrelationID, "position": p.Position,
		"acknowledged": len(p.Machines) == 0, "machinesWaiting": len(p.Machines)}
	if concerned != nil {
		waiting := []map[string]any{}
		for _, id := range p.Machines[:min(len(p.Machines), waitingMost)] {
			st, _ := h.cfg.Revocations.State(id)
			waiting = append(waiting, map[string]any{"machineId": id, "resourceId": st.ResourceID.String(), "machine": protocol.MachineName(st.ResourceID.String()), "lastSeen": seen(st.LastSeen)})
		}
		properties["machines"], properties["waiting"] = *concerned, waiting
	}
	return map[string]any{"id": revocationsPath + "/" + p.ID, "name": p.ID, "type": "Sallyport.Access/revocations", "properties": properties}
}
