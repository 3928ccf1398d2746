package grants

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/internal/machine/protocol"
)

// ConnectionAge is how long after sshd asked for the principals of a
// certificate PAM may use the record.
const ConnectionAge = 30 * time.Second

// check returns the reason and the sentence of a denial, or "".
type check func(Input) (reason, text string)

// Decide answers one question. The order of the checks is the order in which a
// person can do something about them: the machine, the account, the
// certificate, the role.
func Decide(in Input) Decision {
	for _, c := range []check{machine, account, home, certificate, role, fresh, elevation} {
		if reason, text := c(in); reason != "" {
			return Decision{Reason: reason, Text: fmt.Sprintf("%s (correlation id %s)", text, in.CorrelationID)}
		}
	}
	return Decision{Allow: true, Reason: "granted"}
}

// machine: is anybody of the directory let in here at all?
func machine(in Input) (string, string) {
	switch s := in.State; {
	case in.Way == NoWay:
		return "no-way", "Sallyport: this way in is not known."
	case s.Broken:
		return "state-damaged", "Sallyport: a file that the agent of this machine needs is damaged, so that no directory account is let in. Ask an administrator of the machine to run: sally agent status"
	case !s.Held:
		return "no-snapshot", "Sallyport: this machine has not heard from the server since it joined. Ask an administrator of the machine to run: sally agent status"
	case !s.LoginEnabled && instance(s.ResourceID) != "":
		return "extension-off", "Sign-in with directory accounts is switched off on this instance of a scale set: its model has no login extension, or is an old one. " +
			"Ask an owner of the set to install the extension in the model, then to upgrade the instance: sally vmss update-instances " + instance(s.ResourceID)
	case !s.LoginEnabled:
		return "extension-off", fmt.Sprintf("Sign-in with directory accounts is switched off on this machine. Ask an owner of it to install the extension: "+
			"sally %s", install(s.ResourceID))
	case s.Drift != "":
		return "drift", fmt.Sprintf("Sallyport: the configuration of this machine was changed so that it no longer protects directory accounts: %s "+
			"Ask an administrator of the machine to run: sally agent doctor", s.Drift)
	case in.Clock.Wrong != "":
		return "clock", fmt.Sprintf("Sallyport: the clock of this machine is wrong (%s), so certificates cannot be checked. Ask an administrator of the machine to set it.", in.Clock.Wrong)
	case !s.Identity && instance(s.ResourceID) != "":
		return "identity-removed", fmt.Sprintf("Sallyport: the scale set's system-assigned managed identity is removed, and it is required for sign-in. "+
			"Ask an owner of the set to run: sally vmss identity assign %s; and then: sally vmss update-instances %s", target(setOf(s.ResourceID), "--name"), instance(s.ResourceID))
	case !s.Identity:
		return "identity-removed", fmt.Sprintf("Sallyport: this machine's system-assigned managed identity is removed, and it is required for sign-in. "+
			"Ask an owner of the machine to run: sally %s identity assign %s", kind(s.ResourceID), target(s.ResourceID, "--name"))
	}
	return "", ""
}

// account: is the name somebody who may have an account?
func account(in Input) (string, string) {
	if in.Local {
		return "local-name", fmt.Sprintf("Sallyport: %s is also a local user or group of this machine, so the directory account is refused. "+
			"Ask an administrator of the machine to rename the local one.", in.Login)
	}
	if in.Person == nil || in.Person.LoginName != in.Login {
		return "unknown", fmt.Sprintf("Sallyport: %s is not an account of this machine's directory. Was it deleted, or renamed? Sign in again: sally login", in.Login)
	}
	if in.Person.Access == protocol.None && in.Person.Reason == protocol.ReasonDisabled {
		return "disabled", fmt.Sprintf("Sallyport: the account %s is disabled. Ask an administrator of the directory to enable it.", in.Login)
	}
	return "", ""
}

// home: a name that was made again does not inherit what its predecessor left.
func home(in Input) (string, string) {
	claimed := in.Kept != "" && in.Kept != in.Person.ObjectID
	foreign := in.HomeUID != nil && *in.HomeUID != in.Person.UID
	if claimed || foreign {
		return "home-of-another", fmt.Sprintf("Sallyport: the home folder of %s on this machine belongs to another account, one that had this name before. "+
			"Ask an administrator of the machine to run: sally agent home archive %s  (or: adopt, to hand the files over)", in.Login, in.Login)
	}
	return "", ""
}

// certificate: did a certificate of this very person open this connection?
func certificate(in Input) (string, string) {
	if in.Way != SSH {
		return "", ""
	}
	again := "Get a new one: sally ssh vm, or sally ssh cert"
	if in.Connection == nil || in.Connection.Age > ConnectionAge || in.Connection.Age < 0 {
		return "no-certificate", "Sallyport: no certificate was seen on this connection. Connect again; directory accounts log in with a certificate only. " + again
	}
	c := in.Connection.Certificate
	switch {
	case c.ObjectID != in.Person.ObjectID || !slices.Contains(c.Principals, in.Person.ObjectID):
		return "other-certificate", fmt.Sprintf("Sallyport: the certificate on this connection is not one of %s as the directory knows it now. %s", in.Login, again)
	case c.Machine != "" && c.Machine != in.MachineID:
		return "other-machine", fmt.Sprintf("Sallyport: the certificate was made for another machine (%s). Get one for this machine: sally ssh vm", c.Machine)
	case in.Now.After(c.ValidBefore):
		return "expired", fmt.Sprintf("Sallyport: the certificate expired at %s. %s", c.ValidBefore.UTC().Format(time.RFC3339), again)
	case in.State.Trusted != nil && !in.State.Trusted(c.Authority):
		return "authority-withdrawn", "Sallyport: the key that signed this certificate was replaced and is trusted no more. " + again
	case in.State.Revoked != nil && in.State.Revoked(c.Serial):
		return "revoked", fmt.Sprintf("Sallyport: the certificate with serial %s was revoked. %s", c.Serial, again)
	case c.IssuedAt.Before(in.Person.NotBefore):
		return "not-before", fmt.Sprintf("Sallyport: the sessions of %s were ended at %s, after this certificate was made. Sign in again: sally login",
			in.Login, in.Person.NotBefore.UTC().Format(time.RFC3339))
	}
	if missing := missingFactors(in.Person.Factors, c.Factors); missing != "" {
		return "factors", fmt.Sprintf("Sallyport: this machine wants a sign-in with %s for %s. Sign in again: sally login", missing, in.Login)
	}
	return "", ""
}

func missingFactors(want []string, have map[string]time.Time) string {
	var missing []string
	for _, f := range want {
		if _, ok := have[f]; !ok {
			missing = append(missing, f)
		}
	}
	return strings.Join(missing, " and ")
}

// role: the text begins as Azure's own (the article, "Azure role not assigned").
func role(in Input) (string, string) {
	p := in.Person
	if p.Access == protocol.Login || p.Access == protocol.Admin {
		return "", ""
	}
	assign := fmt.Sprintf("Ask an owner of it to run: sally role assignment create --role \"Virtual Machine User Login\" --assignee %s --scope %s", in.Login, in.State.ResourceID)
	if p.Reason == protocol.ReasonOwner {
		return "owner-only", fmt.Sprintf("Azure role not assigned: %s manages this machine (Owner or Contributor), and that alone opens no login. "+
			"'Virtual Machine Administrator Login' or 'Virtual Machine User Login' is needed. %s", in.Login, assign)
	}
	return "no-role", fmt.Sprintf("Azure role not assigned: %s has neither 'Virtual Machine Administrator Login' nor 'Virtual Machine User Login' on this machine. %s", in.Login, assign)
}

// fresh: a grant holds for a bounded time without the server. An
// administrator's login holds as long as a user's; what it adds, sudo, does not.
func fresh(in Input) (string, string) {
	limit := in.State.UserStale
	if in.Way == Elevate {
		limit = min(limit, in.State.AdminStale)
	}
	if in.Clock.Age <= limit && in.Now.Before(in.State.GoodUntil) {
		return "", ""
	}
	return "stale", fmt.Sprintf("Sallyport: this machine has not heard from the server for %s; grants hold for %s without it. "+
		"Ask an administrator of the machine to run: sally agent status", in.Clock.Age.Round(time.Second), limit)
}

// elevation: sudo is for administrators.
func elevation(in Input) (string, string) {
	if in.Way != Elevate || in.Person.Access == protocol.Admin {
		return "", ""
	}
	return "not-administrator", fmt.Sprintf("Sallyport: sudo needs the role 'Virtual Machine Administrator Login'; %s has 'Virtual Machine User Login' on this machine. "+
		"Ask an owner of it to run: sally role assignment create --role \"Virtual Machine Administrator Login\" --assignee %s --scope %s", in.Login, in.Login, in.State.ResourceID)
}

// kind is the command group for a machine: one that joined has its own.
func kind(resourceID string) string {
	if strings.Contains(strings.ToLower(resourceID), "/providers/microsoft.hybridcompute/machines/") {
		return "machine"
	}
	return "vm"
}

// install is the command that installs the extension on a machine.
func install(resourceID string) string {
	if kind(resourceID) == "machine" {
		return "machine extension create --name AADSSHLoginForLinux " + target(resourceID, "--machine-name")
	}
	return "vm extension set --publisher Microsoft.Azure.ActiveDirectory --name AADSSHLoginForLinux " + target(resourceID, "--vm-name")
}

// target turns a resource id into the options that name it on the command line.
func target(resourceID, nameFlag string) string {
	parts := strings.Split(resourceID, "/")
	if len(parts) == 9 && strings.EqualFold(parts[3], "resourceGroups") {
		return fmt.Sprintf("--resource-group %s %s %s", parts[4], nameFlag, parts[8])
	}
	return "--ids " + resourceID
}

// instance names an instance of a scale set to a command, "" for any other machine.
func instance(resourceID string) string {
	parts := strings.Split(resourceID, "/")
	if len(parts) != 11 || !strings.EqualFold(parts[7], "virtualMachineScaleSets") {
		return ""
	}
	return target(setOf(resourceID), "--name") + " --instance-ids " + parts[10]
}

// setOf is the scale set that an instance belongs to.
func setOf(resourceID string) string {
	return strings.Join(strings.Split(resourceID, "/")[:9], "/")
}
