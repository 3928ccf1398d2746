package types

import (
	"context"
	"fmt"
	"time"

	"sallyport/internal/resource"
)

// showVM adds to the stored properties what the server knows: the machine's id
// and, when asked, its instance view.
func (m machines) showVM(ctx context.Context, v resource.View) (map[string]any, error) {
	var private vmPrivate
	if err := v.Resource.ReadPrivate(&private); err != nil {
		return nil, err
	}
	p := map[string]any{}
	if err := v.Resource.ReadProperties(&p); err != nil {
		return nil, err
	}
	p["vmId"] = private.MachineID
	p["timeCreated"] = v.Resource.CreatedAt
	if s, ok := p["storageProfile"].(map[string]any); ok {
		disk, _ := s["osDisk"].(map[string]any)
		if disk == nil {
			disk = map[string]any{}
		}
		disk["osType"] = "Linux" // az ssh asks before it connects
		s["osDisk"] = disk
		s["dataDisks"] = []any{}
	}
	if v.Expand {
		p["instanceView"] = m.instanceView(ctx, v, private)
	}
	return p, nil
}

type status struct {
	Code          string    `json:"code"`
	Level         string    `json:"level"`
	DisplayStatus string    `json:"displayStatus"`
	Message       string    `json:"message,omitempty"`
	Time          time.Time `json:"time,omitzero"`
}

func (m machines) instanceView(ctx context.Context, v resource.View, p vmPrivate) map[string]any {
	view := map[string]any{
		"computerName": machineName(v.Resource),
		"statuses":     []status{provisioning(v.Resource), m.powerStatus(ctx, p)},
		"disks":        []any{},
	}
	agent, ok := m.cfg.Agents.Agent(p.MachineID)
	if ok && !agent.LastSeen.IsZero() {
		view["osName"] = agent.OS
		view["vmAgent"] = map[string]any{"vmAgentVersion": agent.Version, "extensionHandlers": []any{}, "statuses": []status{
			{Code: "ProvisioningState/succeeded", Level: "Info", DisplayStatus: "Ready", Message: "Guest Agent is running", Time: agent.LastSeen},
		}}
	} else {
		view["vmAgent"] = map[string]any{"vmAgentVersion": "Unknown", "statuses": []status{
			{Code: "ProvisioningState/Unavailable", Level: "Warning", DisplayStatus: "Not Ready", Message: "VM status blob is found but not yet populated: the machine's agent has not reported."},
		}}
	}
	extensions := make([]map[string]any, 0, len(v.Children))
	for _, c := range v.Children {
		extensions = append(extensions, extensionView(c))
	}
	if len(extensions) > 0 {
		view["extensions"] = extensions
	}
	return view
}

func provisioning(r resource.Resource) status {
	switch r.State {
	case resource.Succeeded:
		return status{Code: "ProvisioningState/succeeded", Level: "Info", DisplayStatus: "Provisioning succeeded", Time: r.ChangedAt}
	case resource.Failed:
		s := status{Code: "ProvisioningState/failed", Level: "Error", DisplayStatus: "Provisioning failed", Time: r.ChangedAt}
		if r.Error != nil {
			s.Code, s.Message = "ProvisioningState/failed/"+r.Error.Code, r.Error.Message
		}
		return s
	case resource.Deleting:
		return status{Code: "ProvisioningState/deleting", Level: "Info", DisplayStatus: "Deleting"}
	}
	return status{Code: "ProvisioningState/updating", Level: "Info", DisplayStatus: "Updating"}
}

// powerStatus asks the back end, and says what it last knew when that is away.
func (m machines) powerStatus(ctx context.Context, p vmPrivate) status {
	seen := p.SeenPower
	if state, err := m.cfg.Backend.State(ctx, p.MachineID); err == nil {
		seen = state.Power
	}
	word := seen
	switch {
	case seen == Stopped && p.Power == deallocated:
		word = deallocated
	case seen == Absent, seen == "":
		word = "unknown"
	}
	return status{Code: "PowerState/" + word, Level: "Info", DisplayStatus: fmt.Sprintf("VM %s", word)}
}
