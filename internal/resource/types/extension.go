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

// exitNoIdentity and exitOther are the exit codes that the article names: a
// machine without a managed identity, and one on which the other version of the
// login extension is installed.
const (
	exitNoIdentity = 22
	exitOther      = 23
)

type extensionProperties struct {
	Publisher               string          `json:"publisher,omitempty"`
	Type                    string          `json:"type,omitempty"`
	TypeHandlerVersion      string          `json:"typeHandlerVersion,omitempty"`
	AutoUpgradeMinorVersion *bool           `json:"autoUpgradeMinorVersion,omitempty"`
	EnableAutomaticUpgrade  *bool           `json:"enableAutomaticUpgrade,omitempty"`
	ForceUpdateTag          any             `json:"forceUpdateTag,omitempty" kind:"text"`
	SuppressFailures        any             `json:"suppressFailures,omitempty" kind:"bool"`
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
	Preview  bool   `json:"preview,omitempty"`
	Code     int    `json:"exitCode,omitempty"`
	Message  string `json:"message,omitempty"`
}

func (m machines) extension() resource.Type {
	return m.extensionOf(Extension, "virtual machine extension")
}

// extensionOf is the extension of one kind of machine.
func (m machines) extensionOf(kind, title string) resource.Type {
	return resource.Type{Name: kind, Title: title, Located: true, Shape: extensionProperties{},
		Check: checkExtension, Store: m.storeExtension, Reconcile: m.reconcileExtension,
		Show: func(_ context.Context, v resource.View) (map[string]any, error) {
			p := map[string]any{}
			if err := v.Resource.ReadProperties(&p); err != nil {
				return nil, err
			}
			p["provisioningState"] = extensionState(v.Resource)
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
		h, ok := FindHandler(p.Publisher, p.Type)
		if !ok {
			return fault.New(fault.NotFound, "ArtifactNotFound", "The VM extension with publisher '%s' and type '%s' could not be found in location '%s'.", clip(p.Publisher), clip(p.Type), d.Location).
				WithRemedy("The extension here is %s of publisher %s.", LoginExtension, LoginPublisher)
		}
		p.Publisher, p.Type = h.Publisher, h.Type
		if p.TypeHandlerVersion == "" {
			p.TypeHandlerVersion = "1.0"
		}
		if major, _, _ := strings.Cut(p.TypeHandlerVersion, "."); major != "1" || len(p.TypeHandlerVersion) > 20 {
			return fault.New(fault.Invalid, "ExtensionVersionNotFound", "version '%s' of %s does not exist", clip(p.TypeHandlerVersion), h.Type).WithRemedy("Leave the version out.").WithTarget("typeHandlerVersion")
		}
		for field, raw := range map[string]json.RawMessage{"settings": p.Settings, "protectedSettings": p.ProtectedSettings, "protectedSettingsFromKeyVault": p.FromKeyVault, "provisionAfterExtensions": p.ProvisionAfter} {
			if !empty(raw) {
				return noEffect(field, p.Type+" takes no settings")
			}
		}
		p.Settings, p.ProtectedSettings, p.FromKeyVault, p.ProvisionAfter = nil, nil, nil, nil
		return nil
	})
}

// storeExtension makes the machine's desired revision carry the extension, in
// the same transaction. A removal begins when nobody is logged in: see leave.
func (m machines) storeExtension(tx resource.Tx, _ audit.By, c *resource.Change) error {
	self := c.New
	if self == nil {
		return nil
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
	h := handlerOf(*self)
	other, err := siblings(tx, up, self.ID, h)
	if err != nil {
		return err
	}
	if machine.Power != Running && !isHybrid(vm.ID) {
		return fault.New(fault.Conflict, "OperationNotAllowed", "Cannot modify extensions in the VM when the VM is not running.").WithRemedy("Start it: sally vm start --ids %s", up)
	}
	if err := m.allowed(h); err != nil {
		return err
	}
	return enable(tx, self, &vm, machine.MachineID, h, other)
}

// allowed refuses the preview where the tenant has it switched off.
func (m machines) allowed(h Handler) error {
	if !h.preview() || m.cfg.PreviewAllowed != nil && m.cfg.PreviewAllowed() {
		return nil
	}
	return fault.New(fault.Forbidden, "PreviewNotAllowed", "the preview version %s signs people in with a code that they type into a web page, and is switched off in this tenant", PreviewExtension).
		WithRemedy("Use %s of publisher %s. An Owner of the root management group can allow the preview: sally tenant update --allow-preview-login true", LoginExtension, LoginPublisher)
}

// enable has the machine carry the extension, or makes it fail with the exit code
// that says what is in the way.
func enable(tx resource.Tx, self, vm *resource.Resource, machineID string, h Handler, other string) error {
	p := extensionPrivate{Machine: machineID, Preview: h.preview(), Revision: vm.Revision}
	fail := func(code int, f *resource.Failure) error {
		p.Code, p.Message = code, f.Message
		self.State, self.Error, self.Observed = resource.Failed, f, self.Revision
		return self.WritePrivate(p)
	}
	switch {
	case other != "":
		return fail(exitOther, otherInstalled(vm.ID, h, other))
	case !identified(vm) && !h.preview():
		return fail(exitNoIdentity, noIdentity(vm.ID))
	}
	vm.Want(tx.Now())
	p.Revision, p.Enabled = vm.Revision, true
	if err := tx.PutResource(*vm); err != nil {
		return err
	}
	return self.WritePrivate(p)
}

// identified reports whether a machine has a managed identity.
func identified(vm *resource.Resource) bool {
	var p vmPrivate
	return vm.ReadPrivate(&p) == nil && identityOf(*vm, p) != ""
}

// siblings refuses a second instance of a version, for the two would fight over
// one sshd, and names the instance of the other version that is installed, if any.
func siblings(tx resource.Tx, vm, self scope.ID, h Handler) (other string, err error) {
	list, err := tx.ListResources(resource.Range{Under: vm, Type: self.Type()})
	if err != nil {
		return "", err
	}
	for _, x := range list {
		if x.ID.Key() == self.Key() {
			continue
		}
		if handlerOf(x) == h {
			return "", fault.New(fault.Conflict, "BadRequest", "Multiple VMExtensions per handler not supported for OS type 'Linux'. VMExtension '%s' with handler '%s' already added or specified in input.",
				x.ID.Name(), h).WithRemedy("Use that name, or delete it first.")
		}
		var p extensionPrivate
		if err := x.ReadPrivate(&p); err != nil {
			return "", err
		}
		if p.Enabled {
			other = x.ID.Name()
		}
	}
	return other, nil
}

func noIdentity(vm scope.ID) *resource.Failure {
	command := "vm"
	if isInstance(vm) {
		up, _ := vm.Parent()
		return failure(Handlers()[0], exitNoIdentity, fmt.Sprintf("the scale set has no system-assigned managed identity. Assign one with: sally vmss identity assign --resource-group %s --name %s, then upgrade its instances: sally vmss update-instances %s",
			up.ResourceGroupName(), up.Name(), arguments(vm)))
	}
	if isHybrid(vm) {
		command = "machine"
	}
	return failure(Handlers()[0], exitNoIdentity, fmt.Sprintf("the machine has no system-assigned managed identity. Assign one with: sally %s identity assign --resource-group %s --name %s, then set the extension again", command, vm.ResourceGroupName(), vm.Name()))
}

func otherInstalled(vm scope.ID, h Handler, name string) *resource.Failure {
	if isInstance(vm) {
		up, _ := vm.Parent()
		return failure(h, exitOther, fmt.Sprintf("the other version of the login extension, %s, is installed on the instance. Delete it from the model with: sally vmss extension delete --resource-group %s --vmss-name %s --name %s, then upgrade the instance: sally vmss update-instances %s",
			h.other().Type, up.ResourceGroupName(), up.Name(), name, arguments(vm)))
	}
	command, option := "vm", "--vm-name"
	if isHybrid(vm) {
		command, option = "machine", "--machine-name"
	}
	return failure(h, exitOther, fmt.Sprintf("the other version of the login extension, %s, is installed on the machine. Delete it with: sally %s extension delete --resource-group %s %s %s --name %s; %s is set up by itself then",
		h.other().Type, command, vm.ResourceGroupName(), option, vm.Name(), name, h.Type))
}

func failure(h Handler, code int, message string) *resource.Failure {
	return &resource.Failure{Code: "VMExtensionProvisioningError", Message: fault.Sentence(
		"VM has reported a failure when processing extension '%s' (publisher '%s' and type '%s'). Error message: 'Enable failed with exit code %d: %s.'",
		h.Type, h.Publisher, h.Type, code, strings.TrimSuffix(message, "."))}
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
	h := handlerOf(w.Resource)
	state, err := m.power(ctx, w.Resource.ID, p.Machine)
	if err != nil {
		return resource.Progress{}, err
	}
	if w.Resource.State == resource.Deleting {
		if p.Enabled {
			return m.leave(ctx, w, p, state, agent)
		}
		return resource.Progress{Done: reached || waited > updateWait || state.Power != Running, After: pollWait}, nil
	}
	switch {
	case state.Power != Running && strings.EqualFold(w.Resource.ID.Type(), ScaleSetExtension) && waited <= agentWait:
		return resource.Progress{After: pollWait}, nil // it was put there with its instance, which starts
	case state.Power != Running:
		return resource.Progress{Failure: &resource.Failure{Code: "OperationNotAllowed", Message: notRunning(w.Resource.ID)}}, nil
	case reached && agent.Provisioned == "Failed":
		return resource.Progress{Failure: failure(h, agent.ExitCode, agent.Message), Update: report(agent)}, nil
	case reached && agent.Provisioned == "Succeeded":
		return resource.Progress{Done: true, Update: report(agent)}, nil
	case waited > agentWait:
		return resource.Progress{Failure: &resource.Failure{Code: "VMAgentStatusCommunicationError", Message: fault.Sentence(
			"VM '%s' has not reported status for VM agent or extensions within %d seconds. Verify that its agent runs and that it reaches the server%s (sally agent doctor, on the machine), then set the extension again.",
			parentName(w.Resource.ID), int(agentWait/time.Second), at(m.cfg.Server))}}, nil
	}
	return resource.Progress{After: pollWait}, nil
}

func notRunning(extension scope.ID) string {
	const text = "Cannot modify extensions in the VM when the VM is not running. Start it and "
	if up, _ := extension.Parent(); isInstance(up) {
		return text + "upgrade it again: sally vmss update-instances " + arguments(up)
	}
	return text + "set the extension again."
}

// at names the one address that an agent must reach.
func at(server string) string {
	if server == "" {
		return ""
	}
	return " at " + server
}

// leave takes the extension out when nobody is logged in: taking it from under
// people would end what they do. What the machine told last may be older than
// their logout, so it is given a moment.
func (m machines) leave(ctx context.Context, w resource.Work, p extensionPrivate, state MachineState, agent AgentState) (resource.Progress, error) {
	if m.cfg.LoggedIn != nil && state.Power == Running && w.Now.Sub(agent.LastSeen) < agentWait {
		people, err := m.cfg.LoggedIn(ctx, p.Machine)
		if err != nil {
			return resource.Progress{}, err
		}
		switch {
		case len(people) > 0 && w.Now.Sub(w.Resource.WantedAt) > logoutWait:
			return resource.Progress{Failure: &resource.Failure{Code: "VMExtensionInUse", Message: fault.Sentence(
				"The extension '%s' was not removed from VM '%s', because people are logged in: %s. Ask them to log out (who -u, on the machine, shows them), or end their sessions: sally session list, then sally session end --id ID. Then delete the extension again.",
				w.Resource.ID.Name(), parentName(w.Resource.ID), named(people))}}, nil
		case len(people) > 0:
			return resource.Progress{After: pollWait}, nil
		}
	}
	p.Enabled = false
	up, _ := w.Resource.ID.Parent()
	return resource.Progress{After: pollWait,
		Apply: func(tx resource.Tx) error {
			vm, ok, err := tx.ResourceByID(up.Key())
			if err != nil || !ok {
				return err
			}
			vm.Want(tx.Now())
			p.Revision = vm.Revision
			if err := tx.PutResource(vm); err != nil {
				return err
			}
			return m.resume(tx, w.Resource.ID, &vm, p.Machine)
		},
		Update: func(r *resource.Resource) error { return r.WritePrivate(p) },
	}, nil
}

// namedPeople bounds how many people a message names.
const namedPeople = 10

func named(people []string) string {
	more := len(people) - namedPeople
	if more <= 0 {
		return strings.Join(people, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(people[:namedPeople], ", "), more)
}

// resume sets up the version that failed because the one that goes now was
// installed (the article: "exit code 23").
func (m machines) resume(tx resource.Tx, gone scope.ID, vm *resource.Resource, machineID string) error {
	list, err := tx.ListResources(resource.Range{Under: vm.ID, Type: gone.Type()})
	if err != nil {
		return err
	}
	for _, x := range list {
		var p extensionPrivate
		if x.ID.Key() == gone.Key() || x.ReadPrivate(&p) != nil || p.Code != exitOther || p.Enabled || x.State != resource.Failed {
			continue
		}
		if err := m.allowed(handlerOf(x)); err != nil { // it was, when somebody asked for it
			p.Code, p.Message = 0, fault.As(err).Public()
			x.Error = &resource.Failure{Code: fault.As(err).Code, Message: p.Message}
			if err := x.WritePrivate(p); err != nil {
				return err
			}
		} else {
			x.Want(tx.Now())
			if err := enable(tx, &x, vm, machineID, handlerOf(x), ""); err != nil {
				return err
			}
		}
		if err := tx.PutResource(x); err != nil {
			return err
		}
	}
	return nil
}

func parentName(id scope.ID) string {
	up, _ := id.Parent()
	return calledInstance(up)
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
