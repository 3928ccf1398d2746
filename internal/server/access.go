package server

import (
	"slices"
	"strings"

	"sallyport/internal/conditional"
	"sallyport/internal/directory"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
)

// access is who gets in where, as the machines are told.
func (d *deployment) access() explainer {
	return explainer{machine.Access{Service: d.machines, People: d.directory, Roles: d.roles}, d}
}

// explainer adds to what a machine decides what the server decides before: policy,
// without which there is no certificate to come with.
type explainer struct {
	machine.Access
	d *deployment
}

// Explain puts the step of policy behind those of the account.
func (x explainer) Explain(q machine.Question) (machine.Explanation, error) {
	e, err := x.Access.Explain(q)
	if err != nil {
		return e, err
	}
	at := slices.IndexFunc(e.Steps, func(s machine.Step) bool { return s.Name == "role" })
	step := x.d.policyStep(e.Principal.ID)
	if q.Asker.Principal != e.Principal.ID && !x.d.roles.Check(rbac.Query{Principals: q.Asker.Principals(), Scope: scope.Directory(), Action: conditional.ActionRead}).Allowed {
		step.Message = unread(step)
	}
	e.Steps = slices.Insert(e.Steps, max(at, 0), step)
	if !step.Passed {
		e.Verdict = withoutCertificate(e.Verdict, step)
	}
	return e, nil
}

// withoutCertificate is the verdict about somebody to whom no certificate is
// issued.
func withoutCertificate(v machine.Verdict, step machine.Step) machine.Verdict {
	if v.Access != protocol.None {
		v = machine.Verdict{Access: protocol.None, Reason: "policy", Message: "refused, but for a certificate that was issued before"}
	}
	v.Message += "; no certificate is issued to begin with: " + step.Message
	return v
}

// unread is what is said of policies to who asks about somebody else and may not
// read them: whom they leave out is how to get around them.
func unread(step machine.Step) string {
	if step.Passed {
		return "Conditional Access blocks no certificate of this account; which policies apply is shown to who may read them, such as a Security Administrator"
	}
	return "a Conditional Access policy blocks certificates of this account; which one is shown to who may read policies, such as a Security Administrator"
}

// policyStep says which Conditional Access policies a certificate of this account
// has to satisfy. How old a sign-in is, only its holder's next request shows.
func (d *deployment) policyStep(id string) machine.Step {
	if _, person := d.directory.User(id); !person {
		return machine.Step{Name: "policy", Passed: true, Message: "Conditional Access policies are about people"}
	}
	groups := d.directory.GroupsOf(id)
	applying := conditional.Applying(d.policies.Policies(), conditional.Signals{User: id, Groups: groups, Roles: d.rolesOf(id, groups), Application: directory.LinuxSignIn})
	step := machine.Step{Name: "policy", Passed: true}
	var says []string
	for _, p := range applying {
		wants := "asks for nothing that this server knows"
		switch {
		case p.GrantControls != nil:
			wants = "lets no certificate be issued"
			step.Passed = step.Passed && p.State != conditional.Enabled
		case p.SessionControls.SignInFrequency != nil:
			wants = "asks for " + p.SessionControls.SignInFrequency.String()
		}
		if p.State == conditional.ReportOnly {
			wants += " (report-only: it refuses nothing)"
		}
		says = append(says, "'"+p.DisplayName+"' "+wants)
	}
	if step.Message = strings.Join(says, "; "); len(says) == 0 {
		step.Message = "no Conditional Access policy applies to certificates of this account"
	}
	return step
}
