package arm

import (
	"net/http"
	"strconv"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/scope"
)

// mountAccess: the namespace Sallyport.Access, which Azure does not have.
func (h *Handler) mountAccess(m *httpd.Mux) {
	m.Handle("arm.machines.list", h.machines)
	m.Handle("arm.machines.get", h.machine)
	m.Handle("arm.auditRecords.list", h.auditRecords)
	m.Handle("arm.auditRecords.verify", h.verifyAudit)
}

func (h *Handler) machines(c *httpd.Call) error {
	at, err := scope.Parse("/" + c.Var("scope"))
	if err != nil {
		return err
	}
	if at == h.auditScope() {
		at = scope.ID{} // the root management group encloses everything
	}
	list, err := h.cfg.Engine.Each(c.R.Context(), c.By, resource.Query{Under: at, Type: types.VirtualMachine})
	if err != nil {
		return err
	}
	out := []map[string]any{}
	for _, vm := range list {
		if shown, ok := h.showMachine(c, vm); ok {
			out = append(out, shown)
		}
	}
	return c.JSON(http.StatusOK, h.page(c, out, ""))
}

func (h *Handler) machine(c *httpd.Call) error {
	id, err := scope.Parse("/" + c.Var("scope"))
	if err != nil {
		return err
	}
	vm, err := h.cfg.Engine.Find(c.R.Context(), c.By, id)
	if err != nil {
		return err
	}
	shown, ok := h.showMachine(c, vm)
	if !ok {
		return fault.New(fault.Invalid, "NotAMachine", "'%s' is no machine", id.Name())
	}
	return c.JSON(http.StatusOK, shown)
}

// showMachine is what a client needs to reach a machine and to say beforehand
// why it could not.
func (h *Handler) showMachine(c *httpd.Call, vm resource.Resource) (map[string]any, bool) {
	f, ok := types.FactsOf(vm)
	if !ok {
		return nil, false
	}
	if s, err := h.cfg.Backend.State(c.R.Context(), f.MachineID); err == nil {
		f.Power = s.Power
		if s.PrivateAddress != "" {
			f.PrivateAddress, f.Loopback, f.SSHPort = s.PrivateAddress, s.Loopback, s.SSHPort
		}
	}
	agent, _ := h.cfg.Agents.Agent(f.MachineID)
	want, _ := h.cfg.Machines.Want(f.MachineID)
	addresses := agent.Addresses
	if f.PrivateAddress != "" {
		addresses = []string{f.PrivateAddress}
	}
	if addresses == nil {
		addresses = []string{}
	}
	principal := ""
	if t := h.cfg.Tenant(); len(t.Domains) > 0 {
		principal = protocol.HostPrincipal(f.MachineID, t.Domains[0])
	}
	return map[string]any{
		"id": vm.ID.String() + "/providers/Sallyport.Access/machines/default", "name": "default", "type": "Sallyport.Access/machines",
		"properties": map[string]any{
			"machineId": f.MachineID, "resourceId": vm.ID.String(), "hostPrincipal": principal, "addresses": addresses, "loopbackAddress": f.Loopback, "sshPort": f.SSHPort,
			"state":        f.Power,
			"agent":        map[string]any{"version": agent.Version, "lastSeen": seen(agent.LastSeen), "openssh": agent.OpenSSH, "os": agent.OS},
			"snapshot":     map[string]any{"version": agent.Snapshot, "acknowledged": agent.Acknowledged, "loginEnabled": want.LoginEnabled},
			"provisioning": map[string]any{"state": agent.Provisioned, "exitCode": agent.ExitCode, "message": agent.Message},
		},
	}, true
}

func seen(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC()
}

const readAudit = "Sallyport.Access/auditRecords/read"

// auditScope is the root management group, above everything that is recorded:
// reading the audit is granted there.
func (h *Handler) auditScope() scope.ID { return scope.ManagementGroup(h.cfg.Tenant().ID) }

func (h *Handler) auditRecords(c *httpd.Call) error {
	if err := h.cfg.Engine.Authorize(c.R.Context(), c.By, readAudit, h.auditScope()); err != nil {
		return err
	}
	q, err := auditQuery(c)
	if err != nil {
		return err
	}
	records, err := h.cfg.Audit.Records(c.R.Context(), q)
	if err != nil {
		return err
	}
	if records == nil {
		records = []audit.Record{}
	}
	next := ""
	if len(records) == q.Limit {
		next = strconv.FormatInt(records[len(records)-1].Sequence, 10)
	}
	return c.JSON(http.StatusOK, h.page(c, records, next))
}

func auditQuery(c *httpd.Call) (AuditQuery, error) {
	values := c.R.URL.Query()
	q := AuditQuery{Limit: 100}
	terms, err := types.ParseFilter(values.Get("$filter"))
	if err != nil {
		return q, err
	}
	for _, t := range terms {
		field := map[string]*string{"correlationid": &q.CorrelationID, "principalid": &q.Principal, "type": &q.Type}[t.Name]
		if field == nil || t.Call || *field != "" || t.Value == "" {
			return q, fault.New(fault.Invalid, "InvalidFilter", "audit records cannot be filtered by %q", t.Name).WithRemedy("They filter by correlationId, principalId and type, each with eq '...'.").WithTarget("$filter")
		}
		*field = t.Value
	}
	top, err := readTop(values)
	if err != nil {
		return q, err
	}
	if top > 0 {
		q.Limit = min(top, 1000)
	}
	if token := values.Get("$skipToken"); token != "" {
		if q.Before, err = strconv.ParseInt(token, 10, 64); err != nil || q.Before < 1 {
			return q, fault.New(fault.Invalid, "InvalidParameter", "$skipToken is not one that this server gave").WithTarget("$skipToken")
		}
	}
	return q, nil
}

// verifyAudit walks the whole chain. A broken chain is an answer, not an error:
// the caller asked whether it holds.
func (h *Handler) verifyAudit(c *httpd.Call) error {
	if err := h.cfg.Engine.Authorize(c.R.Context(), c.By, readAudit, h.auditScope()); err != nil {
		return err
	}
	n, heads, err := h.cfg.Audit.Verify(c.R.Context())
	out := map[string]any{"ok": err == nil, "records": n, "writer": "", "head": "", "message": "every record is in its place and unaltered"}
	if err != nil {
		out["message"] = err.Error()
	}
	if len(heads) > 0 {
		last := heads[len(heads)-1]
		out["writer"], out["head"] = last.Writer, last.Hash
	}
	return c.JSON(http.StatusOK, out)
}
