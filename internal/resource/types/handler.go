package types

import (
	"fmt"
	"strings"

	"sallyport/internal/resource"
)

// The two versions of the login extension: the one with certificates, and the
// preview before it, with device codes. Each wires sshd, PAM and NSS of the
// machine to the agent, so a machine has one of them.
const (
	LoginPublisher = "Microsoft.Azure.ActiveDirectory"
	LoginExtension = "AADSSHLoginForLinux"

	PreviewPublisher = "Microsoft.Azure.ActiveDirectory.LinuxSSH"
	PreviewExtension = "AADLoginForLinux"
)

// Handler is what an extension is an instance of.
type Handler struct{ Publisher, Type string }

func (h Handler) String() string { return h.Publisher + "." + h.Type }

func (h Handler) preview() bool { return h.Type == PreviewExtension }

// other is the version that excludes this one.
func (h Handler) other() Handler {
	all := Handlers()
	if h == all[0] {
		return all[1]
	}
	return all[0]
}

// Handlers lists them, the one to use first.
func Handlers() []Handler {
	return []Handler{{LoginPublisher, LoginExtension}, {PreviewPublisher, PreviewExtension}}
}

// FindHandler returns the handler of a publisher and type, any case.
func FindHandler(publisher, kind string) (Handler, bool) {
	for _, h := range Handlers() {
		if strings.EqualFold(h.Publisher, publisher) && strings.EqualFold(h.Type, kind) {
			return h, true
		}
	}
	return Handler{}, false
}

// handlerOf reads it from a stored extension.
func handlerOf(r resource.Resource) Handler {
	var p extensionProperties
	if err := r.ReadProperties(&p); err == nil {
		if h, ok := FindHandler(p.Publisher, p.Type); ok {
			return h
		}
	}
	return Handlers()[0]
}

// transitioning is the state of an extension that the machine cannot take yet:
// what is in the way is the machine's owner's to change (the article, "Extension
// installation errors").
const transitioning = "Transitioning"

// extensionState is the provisioning state as people see it.
func extensionState(r resource.Resource) string {
	var p extensionPrivate
	if r.State == resource.Failed && r.ReadPrivate(&p) == nil && (p.Code == exitNoIdentity || p.Code == exitOther) {
		return transitioning
	}
	return r.State
}

// extensionView is the instance view of an extension: one status with its code,
// message and time.
func extensionView(r resource.Resource) map[string]any {
	var p extensionPrivate
	_ = r.ReadPrivate(&p) // a view without the message is still a view
	s := status{Level: "Info", Time: r.ChangedAt, Message: p.Message}
	switch state := extensionState(r); {
	case state == resource.Succeeded:
		s.Code, s.DisplayStatus = "ProvisioningState/succeeded", "Provisioning succeeded"
	case state == resource.Failed, state == transitioning:
		s.Code, s.DisplayStatus, s.Level = "ProvisioningState/failed", "Provisioning failed", "Error"
		if state == transitioning {
			s.Code, s.DisplayStatus = "ProvisioningState/transitioning", "Transitioning"
		}
		if r.Error != nil {
			s.Message = r.Error.Message
		}
		switch {
		case p.Code != 0:
			s.Code = fmt.Sprintf("%s/%d", s.Code, p.Code)
		case r.Error != nil:
			s.Code += "/" + r.Error.Code
		}
	case state == resource.Deleting && p.Enabled:
		s.Code, s.DisplayStatus, s.Message = "ProvisioningState/deleting", "Deleting", "The extension goes when nobody is logged in."
	case state == resource.Deleting:
		s.Code, s.DisplayStatus, s.Message = "ProvisioningState/deleting", "Deleting", "The machine has not yet reported that it is gone."
	default:
		s.Code, s.DisplayStatus, s.Message = "ProvisioningState/transitioning", "Transitioning", "The machine has not yet reported that it is set up."
	}
	return map[string]any{"name": r.ID.Name(), "type": handlerOf(r).String(), "typeHandlerVersion": ExtensionVersion, "statuses": []status{s}}
}
