package types

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// The one extension: it wires sshd, PAM and NSS of the machine to the agent.
const (
	LoginPublisher = "Microsoft.Azure.ActiveDirectory"
	LoginExtension = "AADSSHLoginForLinux"
)

// exitNoIdentity is the exit code that the article names for a machine without
// a managed identity.
const exitNoIdentity = 22

type extensionProperties struct {
	Publisher               string          `json:"publisher,omitempty"`
	Type                    string          `json:"type,omitempty"`
	TypeHandlerVersion      string          `json:"typeHandlerVersion,omitempty"`
	AutoUpgradeMinorVersion *bool           `json:"autoUpgradeMinorVersion,omitempty"`
	EnableAutomaticUpgrade  *bool           `json:"enableAutomaticUpgrade,omitempty"`
	ForceUpdateTag          any             `json:"forceUpdateTag,omitempty"`
	SuppressFailures        any             `json:"suppressFailures,omitempty"`
	Settings                json.RawMessage `json:"settings,omitempty"`
	ProtectedSettings       json.RawMessage `json:"protectedSettings,omitempty"`
	FromKeyVault            json.RawMessage `json:"protectedSettingsFromKeyVault,omitempty"`
	ProvisionAfter          json.RawMessage `json:"provisionAfterExtensions,omitempty"`
	InstanceView            any             `json:"instanceView,omitempty"`      // read-only
	ProvisioningState       any             `json:"provisioningState,omitempty"` // read-only
}

// extensionPrivate ties an extension to the revision of its machine that
// carries it there.
type extensionPrivate struct {
	Machine  string `json:"machine"`  // machine id; not "machineId", which marks the machine's own row
	Revision int64  `json:"revision"` // of the virtual machine
	Enabled  bool   `json:"enabled"`  // wanted on the machine
	Code     int    `json:"exitCode,omitempty"`
	Message  string `json:"message,omitempty"`
}

func (m machines) extension() resource.Type {
	return resource.Type{Name: Extension, Title: "virtual machine extension", Located: true,
		Check: checkExtension, Store: storeExtension, Reconcile: m.reconcileExtension,
		Show: func(_ context.Context, v resource.View) (map[string]any, error) {
			p := map[string]any{}
			if err := v.Resource.ReadProperties(&p); err != nil {
				return nil, err
			}
			if v.Expand {
				p["instanceView"] = extensionView(v.Resource)
			}
			return p, nil
		},
	}
}

func checkExtension(d *resource.Draft) error {
	var p extensionProperties
	return checked(d, &p, "properties of a virtual machine extension", func() error {
		p.InstanceView, p.ProvisioningState = nil, nil
		if !strings.EqualFold(p.Publisher, LoginPublisher) || !strings.EqualFold(p.Type, LoginExtension) {
			return fault.New(fault.NotFound, "ArtifactNotFound", "The VM extension with publisher '%s' and type '%s' could not be found in location '%s'.", clip(p.Publisher), clip(p.Type), d.Location).
				WithRemedy("The extension here is %s of publisher %s.", LoginExtension, LoginPublisher)
		}
		p.Publisher, p.Type = LoginPublisher, LoginExtension
		if p.TypeHandlerVersion == "" {
			p.TypeHandlerVersion = "1.0"
		}
		if major, _, _ := strings.Cut(p.TypeHandlerVersion, "."); major != "1" || len(p.TypeHandlerVersion) > 20 {
			return fault.New(fault.Invalid, "ExtensionVersionNotFound", "version '%s' of %s does not exist", clip(p.TypeHandlerVersion), LoginExtension).WithRemedy("Leave the version out.").WithTarget("typeHandlerVersion")
		}
		for field, raw := range map[string]json.RawMessage{"settings": p.Settings, "protectedSettings": p.ProtectedSettings, "protectedSettingsFromKeyVault": p.FromKeyVault, "provisionAfterExtensions": p.ProvisionAfter} {
			if !empty(raw) {
				return noEffect(field, LoginExtension+" takes no settings")
			}
		}
		p.Settings, p.ProtectedSettings, p.FromKeyVault, p.ProvisionAfter = nil, nil, nil, nil
		return nil
	})
}

// storeExtension makes the machine's desired revision carry the extension, or
// its removal, in the same transaction.
func storeExtension(tx resource.Tx, _ audit.By, c *resource.Change) error {
	self := c.New
	if self == nil {
		self = c.Old
	}
	up, _ := self.ID.Parent()
	vm, ok, err := tx.ResourceByID(up.Key())
	if err != nil || !ok {
		return err
	}
	var machine vmPrivate
	if err := vm.ReadPrivate(&machine); err != nil {
		return err
	}
	p := extensionPrivate{Machine: machine.MachineID, Enabled: c.New != nil}
	if c.New != nil {
		if err := only(tx, up, self.ID); err != nil {
			return err
		}
		if machine.Power != Running {
			return fault.New(fault.Conflict, "OperationNotAllowed", "Cannot modify extensions in the VM when the VM is not running.").WithRemedy("Start it: sally vm start --ids %s", up)
		}
		if vm.Identity == nil {
			p.Enabled, p.Code, p.Revision = false, exitNoIdentity, vm.Revision
			self.State, self.Error, self.Observed = resource.Failed, noIdentity(vm.ID), self.Revision
			return self.WritePrivate(p)
		}
	}
	vm.Want(tx.Now())
	p.Revision = vm.Revision
	if err := tx.PutResource(vm); err != nil {
		return err
	}
	return self.WritePrivate(p)
}

// only refuses a second instance: two of them would fight over one sshd.
func only(tx resource.Tx, vm, self scope.ID) error {
	list, err := tx.ListResources(resource.Range{Under: vm, Type: Extension})
	if err != nil {
		return err
	}
	for _, x := range list {
		if x.ID.Key() != self.Key() {
			return fault.New(fault.Conflict, "BadRequest", "Multiple VMExtensions per handler not supported for OS type 'Linux'. VMExtension '%s' with handler '%s' already added or specified in input.",
				x.ID.Name(), LoginPublisher+"."+LoginExtension).WithRemedy("Use that name, or delete it first.")
		}
	}
	return nil
}

func noIdentity(vm scope.ID) *resource.Failure {
	return failure(exitNoIdentity, fmt.Sprintf("the machine has no system-assigned managed identity. Assign one with: sally vm identity assign --resource-group %s --name %s, then set the extension again", vm.ResourceGroupName(), vm.Name()))
}

func failure(code int, message string) *resource.Failure {
	return &resource.Failure{Code: "VMExtensionProvisioningError", Message: fmt.Sprintf(
		"VM has reported a failure when processing extension '%s' (publisher '%s' and type '%s'). Error message: 'Enable failed with exit code %d: %s.'",
		LoginExtension, LoginPublisher, LoginExtension, code, strings.TrimSuffix(message, "."))}
}

// reconcileExtension reads from the agent whether the machine has reached the
// revision that carries the extension. It commands nothing.
func (m machines) reconcileExtension(ctx context.Context, w resource.Work) (resource.Progress, error) {
	var p extensionPrivate
	if err := w.Resource.ReadPrivate(&p); err != nil {
		return resource.Progress{}, err
	}
	agent, ok := m.cfg.Agents.Agent(p.Machine)
	waited := w.Now.Sub(w.Resource.WantedAt)
	reached := ok && agent.Reached >= p.Revision
	deleting := w.Resource.State == resource.Deleting
	if deleting && (reached || waited > updateWait) {
		return resource.Progress{Done: true}, nil
	}
	state, err := m.cfg.Backend.State(ctx, p.Machine)
	if err != nil {
		return resource.Progress{}, err
	}
	if deleting {
		return resource.Progress{Done: state.Power != Running, After: pollWait}, nil
	}
	switch {
	case state.Power != Running:
		return resource.Progress{Failure: &resource.Failure{Code: "OperationNotAllowed", Message: "Cannot modify extensions in the VM when the VM is not running. Start it and set the extension again."}}, nil
	case reached && agent.Provisioned == "Failed":
		return resource.Progress{Failure: failure(agent.ExitCode, agent.Message), Update: report(agent)}, nil
	case reached && agent.Provisioned == "Succeeded":
		return resource.Progress{Done: true, Update: report(agent)}, nil
	case waited > agentWait:
		return resource.Progress{Failure: &resource.Failure{Code: "VMAgentStatusCommunicationError", Message: fmt.Sprintf(
			"VM '%s' has not reported status for VM agent or extensions within %d seconds. Verify that its agent runs (sally agent doctor, on the machine) and set the extension again.",
			parentName(w.Resource.ID), int(agentWait/time.Second))}}, nil
	}
	return resource.Progress{After: pollWait}, nil
}

func parentName(id scope.ID) string {
	up, _ := id.Parent()
	return up.Name()
}

func report(a AgentState) func(*resource.Resource) error {
	return func(r *resource.Resource) error {
		var p extensionPrivate
		if err := r.ReadPrivate(&p); err != nil {
			return err
		}
		p.Code, p.Message = a.ExitCode, a.Message
		return r.WritePrivate(p)
	}
}

func extensionView(r resource.Resource) map[string]any {
	var p extensionPrivate
	var shown extensionProperties
	_ = r.ReadPrivate(&p) // a view without the message is still a view
	_ = r.ReadProperties(&shown)
	s := provisioning(r)
	if s.Message == "" {
		s.Message = p.Message
	}
	return map[string]any{"name": r.ID.Name(), "type": LoginPublisher + "." + LoginExtension, "typeHandlerVersion": ExtensionVersion, "statuses": []status{s}}
}
