package arm

import (
	"net/http"
	"strings"
	"time"

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
}

func (h *Handler) machines(c *httpd.Call) error {
	at, err := scope.Parse("/" + c.Var("scope"))
	if err != nil {
		return err
	}
	if at == h.auditScope() {
		at = scope.ID{} // the root management group encloses everything
	}
	out := []map[string]any{}
	for _, kind := range []string{types.VirtualMachine, types.ScaleSetInstance, types.HybridMachine} {
		list, err := h.cfg.Engine.Each(c.R.Context(), c.By, resource.Query{Under: at, Type: kind})
		if err != nil {
			return err
		}
		for _, m := range list {
			if shown, ok := h.showMachine(c, m); ok {
				out = append(out, shown)
			}
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
	if err := h.addInventory(c, vm.ID, shown); err != nil {
		return err
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
	agent, joined := h.cfg.Agents.Agent(f.MachineID)
	status, elsewhere := types.HybridStatusOf(vm, agent, joined, c.By.At)
	if elsewhere {
		f.Power = strings.ToLower(status.Status)
	} else if s, err := h.cfg.Backend.State(c.R.Context(), f.MachineID); err == nil {
		f.Power = s.Power
		if s.PrivateAddress != "" {
			f.PrivateAddress, f.Loopback, f.SSHPort = s.PrivateAddress, s.Loopback, s.SSHPort
		}
	}
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
	shown := map[string]any{
		"id": vm.ID.String() + "/providers/Sallyport.Access/machines/default", "name": "default", "type": "Sallyport.Access/machines",
		"properties": map[string]any{
			"machineId": f.MachineID, "resourceId": vm.ID.String(), "hostPrincipal": principal, "addresses": addresses, "loopbackAddress": f.Loopback, "sshPort": f.SSHPort,
			"state": f.Power, "note": status.Note,
			"agent":        map[string]any{"version": agent.Version, "lastSeen": seen(agent.LastSeen), "openssh": agent.OpenSSH, "os": agent.OS, "upgrade": agent.Upgrade},
			"snapshot":     map[string]any{"version": agent.Snapshot, "acknowledged": agent.Acknowledged, "loginEnabled": want.LoginEnabled && !want.Preview}, // with a certificate
			"provisioning": map[string]any{"state": agent.Provisioned, "exitCode": agent.ExitCode, "message": agent.Message},
		},
	}
	if f.OldModel {
		properties, _ := shown["properties"].(map[string]any)
		properties["newModel"] = map[string]any{"loginEnabled": f.NewLogin} // of its scale set, which it does not have yet
	}
	return shown, true
}

func seen(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC()
}
