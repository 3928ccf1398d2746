package types

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/resource"
	"sallyport/internal/resource/template"
	"sallyport/internal/scope"
)

// Deployment is the type of template deployments.
const Deployment = "Microsoft.Resources/deployments"

// deploymentActive is the code of what cannot be done to a deployment under way.
const deploymentActive = "DeploymentActive"

// deploymentProperties is what is kept of a deployment: nothing that its template
// held in secret, and not the template.
type deploymentProperties struct {
	Mode            string         `json:"mode"`
	Parameters      map[string]any `json:"parameters,omitempty"`
	Outputs         map[string]any `json:"outputs,omitempty"`
	OutputResources []reference    `json:"outputResources"`
	Timestamp       string         `json:"timestamp"`
	CorrelationID   string         `json:"correlationId"`

	// Error is why nothing of it was made, see Start.
	Error *resource.Failure `json:"error,omitempty"`
}

// deploymentType waits until what a deployment has written is done. What it
// writes is written with it, see Deployments.
func (m machines) deploymentType() resource.Type {
	return resource.Type{Name: Deployment, Title: "deployment", Hidden: true, Shape: deploymentInput{},
		Check: func(d *resource.Draft) error {
			var p deploymentProperties
			return resource.Strict(d.Properties, &p, "properties of a deployment")
		},
		Store: func(tx resource.Tx, _ audit.By, c *resource.Change) error {
			if c.New == nil {
				return nil
			}
			if c.Old != nil && c.Old.Behind() {
				return fault.New(fault.Conflict, deploymentActive, "The deployment with resource id '%s' cannot be saved, because this would overwrite an existing deployment which is still active.", c.New.ID).
					WithRemedy("Deploy under another name, wait until it has ended (az deployment group wait --created -g %[1]s -n %[2]s), or take its record away, which takes nothing else away (az deployment group delete -g %[1]s -n %[2]s).", c.New.ID.ResourceGroupName(), c.New.ID.Name())
			}
			var p deploymentProperties
			if err := c.New.ReadProperties(&p); err != nil {
				return err
			}
			if p.Error != nil {
				c.New.State, c.New.Error, c.New.Observed = resource.Failed, p.Error, c.New.Revision
			}
			if c.Old != nil {
				return nil
			}
			group, _ := c.New.ID.Parent()
			return forgetDeployments(tx, group)
		},
		Reconcile: m.reconcileDeployment,
	}
}

// A resource group keeps the history of at most 800 deployments. As Azure does, a
// group that has 775 loses the oldest ones of those that have ended, up to 750, so
// that nobody's next deployment fails for it. What they have made stays.
const (
	keptDeployments = 750
	mostDeployments = 775
)

func forgetDeployments(tx resource.Tx, group scope.ID) error {
	old, err := tx.SettledResources(resource.Range{Under: group, Type: Deployment}, keptDeployments)
	if err != nil || len(old) < mostDeployments-keptDeployments {
		return err
	}
	for _, id := range old {
		if err := tx.DeleteRoleAssignmentsUnder(id); err != nil {
			return err
		}
		if err := tx.DeleteResource(id); err != nil {
			return err
		}
	}
	return nil
}

// reconcileDeployment is over when everything that the deployment wrote is; it
// has failed when one of it has.
func (m machines) reconcileDeployment(ctx context.Context, w resource.Work) (resource.Progress, error) {
	if w.Resource.State == resource.Deleting {
		return resource.Progress{Done: true}, nil
	}
	var p deploymentProperties
	if err := w.Resource.ReadProperties(&p); err != nil {
		return resource.Progress{}, err
	}
	waiting := false
	var failed *resource.Failure
	for _, made := range p.OutputResources {
		id, err := scope.Parse(made.ID)
		if err != nil || strings.EqualFold(id.Type(), RoleAssignment) {
			continue
		}
		r, ok, err := m.cfg.Stored(ctx, id)
		switch {
		case err != nil:
			return resource.Progress{}, err
		case !ok || r.State == resource.Deleting:
			failed = &resource.Failure{Code: "DeploymentFailed", Message: fault.Sentence("At least one resource deployment operation failed: '%s': (ResourceNotFound) it was deleted while the deployment ran", id)}
		case r.Behind():
			waiting = true
		case r.State == resource.Failed && r.Error != nil:
			failed = deploymentFailed(id, *r.Error)
		}
	}
	return resource.Progress{Done: failed == nil && !waiting, Failure: failed, After: pollWait * time.Duration(1+len(p.OutputResources)/8)}, nil
}

func deploymentFailed(id scope.ID, f resource.Failure) *resource.Failure {
	f.Target = id.String()
	return &resource.Failure{Code: "DeploymentFailed", Message: fault.Sentence("At least one resource deployment operation failed: '%s': (%s) %s", f.Target, f.Code, f.Message), Details: []resource.Failure{f}}
}

// Deployments runs templates: everything that a template says is written in one
// transaction, as the caller and with his rights to each, or nothing is.
type Deployments struct {
	Engine        *resource.Engine
	Authorization Authorization
	Tenant        func() directory.Tenant
}

// deploymentRequest is the body of a PUT of a deployment.
type deploymentRequest struct {
	Location   any               `json:"location"`
	Tags       map[string]string `json:"tags"`
	Properties deploymentInput   `json:"properties"`
}

type deploymentInput struct {
	Mode           string                     `json:"mode"`
	Template       json.RawMessage            `json:"template"`
	TemplateLink   json.RawMessage            `json:"templateLink"`
	Parameters     map[string]json.RawMessage `json:"parameters"`
	ParametersLink json.RawMessage            `json:"parametersLink"`

	// Refused unless empty.
	DebugSetting    json.RawMessage `json:"debugSetting"`
	OnError         json.RawMessage `json:"onErrorDeployment"`
	Evaluation      json.RawMessage `json:"expressionEvaluationOptions"`
	ValidationLevel json.RawMessage `json:"validationLevel"`
}

// refuse names what would have no effect.
func (p deploymentInput) refuse() error {
	for field, raw := range map[string]json.RawMessage{"debugSetting": p.DebugSetting, "onErrorDeployment": p.OnError, "expressionEvaluationOptions": p.Evaluation, "validationLevel": p.ValidationLevel} {
		if !empty(raw) {
			return noEffect(field, "everything that a template says is written at once or not at all")
		}
	}
	return nil
}

// Start deploys a template into the deployment's resource group. A refusal of a part,
// and not of the template's own text, is a deployment that is there, has failed and
// says why: Azure's clients look for it there, and its command line shows nothing of an
// answer that is not 201. Nothing else is made. One that is under way is replaced by
// nothing, and by no such record either.
func (d Deployments) Start(ctx context.Context, by audit.By, req resource.Request) (resource.Result, error) {
	run, err := d.prepare(ctx, by, req)
	if run == nil {
		return resource.Result{}, err
	}
	var result resource.Result
	if err == nil {
		result, err = run.put(ctx, req)
	}
	if why := fault.As(err); err != nil && ofAPart(why) {
		return run.fail(ctx, req, why)
	}
	return result, err
}

// ofAPart reports whether a refusal is one of what the template says, not of how it
// is written, and will be the same when it is tried again.
func ofAPart(why *fault.Error) bool {
	switch why.Kind {
	case fault.Invalid, fault.Forbidden, fault.NotFound, fault.Conflict, fault.Precondition:
		return why.Code != template.Invalid && why.Code != deploymentActive
	}
	return false
}

// deploymentBody is what the engine gets of a deployment.
type deploymentBody struct {
	Tags       map[string]string    `json:"tags,omitempty"`
	Properties deploymentProperties `json:"properties"`
}

// fail stores a deployment of which nothing was made.
func (run *running) fail(ctx context.Context, req resource.Request, why *fault.Error) (resource.Result, error) {
	cause := resource.Failure{Code: why.Code, Message: why.Public(), Target: why.Target}
	if run.plan.Reveals(cause.Message + cause.Target) {
		cause.Message, cause.Target = fault.Sentence("What is said names the value of a secret parameter, and a deployment is read by others. To read it, validate the template: az deployment group validate."), ""
	}
	p := run.properties()
	p.OutputResources, p.Timestamp = []reference{}, run.by.At.UTC().Format(time.RFC3339Nano)
	p.Error = &resource.Failure{Code: "DeploymentFailed", Target: req.ID.String(), Details: []resource.Failure{cause},
		Message: fault.Sentence("At least one resource deployment operation failed, and nothing was made: (%s) %s", cause.Code, cause.Message)}
	b, err := json.Marshal(deploymentBody{run.tags, p})
	if err == nil && len(b) > maxDeployment {
		p.Parameters = nil
		b, err = json.Marshal(deploymentBody{run.tags, p})
	}
	if err != nil {
		return resource.Result{}, err
	}
	req.Body = b
	return run.d.Engine.Put(ctx, run.by, req)
}

func (run *running) put(ctx context.Context, req resource.Request) (resource.Result, error) {
	d, by := run.d, run.by
	body := deploymentBody{run.tags, run.properties()}
	return d.Engine.PutTogether(ctx, by, run.parts, req, func(tx resource.Tx) ([]byte, error) {
		var err error
		if body.Properties.Outputs, err = run.plan.Outputs(run.reading(tx)); err != nil {
			return nil, err
		}
		body.Properties.Timestamp = tx.Now().UTC().Format(time.RFC3339Nano)
		b, err := json.Marshal(body)
		if err == nil && len(b) > maxDeployment {
			err = fault.New(fault.Invalid, "InvalidTemplate", "The parameters and outputs of the deployment, which are kept, are larger than %d bytes; nothing was changed.", maxDeployment)
		}
		return b, err
	})
}

// maxDeployment bounds what is kept of a deployment.
const maxDeployment = 1 << 20

// Validate does all that Start does and takes it back.
func (d Deployments) Validate(ctx context.Context, by audit.By, req resource.Request) (map[string]any, error) {
	run, err := d.prepare(ctx, by, req)
	if err != nil {
		return nil, err
	}
	if err := d.Engine.TryTogether(ctx, by, run.parts); err != nil {
		return nil, err
	}
	p := run.properties()
	return map[string]any{"id": req.ID.String(), "name": req.ID.Name(), "type": Deployment, "properties": map[string]any{
		"mode": p.Mode, "provisioningState": resource.Succeeded, "parameters": p.Parameters, "validatedResources": p.OutputResources, "correlationId": p.CorrelationID,
	}}, nil
}

// running is one deployment on its way in.
type running struct {
	d     Deployments
	by    audit.By
	plan  template.Plan
	parts []resource.Part
	tags  map[string]string
}

// prepare reads a deployment. Where a resource has a name that nothing can have, it
// returns what there is beside the refusal.
func (d Deployments) prepare(ctx context.Context, by audit.By, req resource.Request) (*running, error) {
	if err := d.Engine.Authorize(ctx, by, Deployment+"/write", req.ID); err != nil {
		return nil, err
	}
	var in deploymentRequest
	if err := template.ReadKnown(req.Body, &in); err != nil {
		return nil, err
	}
	if in.Location != nil {
		return nil, fault.New(fault.Invalid, "InvalidDeployment", "The 'location' property is not allowed for '%s' at resource group scope.", clip(req.ID.Name())).WithRemedy("Leave it out: what the template makes has locations of its own.").WithTarget("location")
	}
	if err := in.Properties.refuse(); err != nil {
		return nil, err
	}
	switch p := in.Properties; {
	case !empty(p.TemplateLink):
		return nil, noEffect("templateLink", "this server reads no other address")
	case !empty(p.ParametersLink):
		return nil, noEffect("parametersLink", "this server reads no other address")
	case empty(p.Template):
		return nil, fault.New(fault.Invalid, "InvalidTemplate", "The deployment has no template.").WithTarget("properties.template")
	case p.Template[0] != '{':
		return nil, fault.New(fault.Invalid, "InvalidTemplate", "The deployment's template is no JSON object.").WithTarget("properties.template")
	case strings.EqualFold(p.Mode, "Complete"):
		return nil, fault.New(fault.Invalid, "InvalidDeploymentMode", "The mode 'Complete' would delete what the template does not name; here a deployment adds and changes.").WithRemedy("Deploy with the mode Incremental.").WithTarget("properties.mode")
	case !strings.EqualFold(p.Mode, "Incremental"):
		return nil, fault.New(fault.Invalid, "InvalidDeploymentMode", "The mode '%s' does not exist.", clip(p.Mode)).WithRemedy("It is Incremental.").WithTarget("properties.mode")
	}
	up, _ := req.ID.Parent()
	group, err := d.Engine.Find(ctx, by, up)
	if err != nil {
		return nil, err
	}
	var text template.Template
	if err := template.ReadKnown(in.Properties.Template, &text); err != nil {
		return nil, err
	}
	plan, err := template.New(text, in.Properties.Parameters, template.Env{Group: up, Location: group.Location, Tenant: d.Tenant().ID, Name: req.ID.Name(), Versions: d.versions})
	run := &running{d: d, by: by, plan: plan, tags: in.Tags}
	if err != nil && fault.As(err).Code == template.InvalidName {
		return run, err
	}
	if err != nil {
		return nil, err
	}
	for _, r := range plan.Resources {
		part, err := run.part(r)
		if err != nil {
			return nil, err
		}
		run.parts = append(run.parts, part)
	}
	return run, nil
}

// versions are those of a type that exists here.
func (d Deployments) versions(kind string) []string {
	t, err := d.Engine.Type(kind)
	if err != nil {
		return nil
	}
	return Versions(t.Name)
}

func (run *running) properties() deploymentProperties {
	p := deploymentProperties{Mode: "Incremental", Parameters: run.plan.Parameters, CorrelationID: run.by.CorrelationID, OutputResources: []reference{}}
	for _, part := range run.parts {
		p.OutputResources = append(p.OutputResources, reference{ID: part.ID.String()})
	}
	return p
}

// part is how one resource of the template is written.
func (run *running) part(r template.Resource) (resource.Part, error) {
	kind := r.ID.Type()
	switch {
	case strings.EqualFold(kind, Deployment):
		return resource.Part{}, fault.New(fault.Invalid, "InvalidTemplate", "The resource '%s' is a deployment inside of a deployment, which is not known here; nothing was changed.", r.ID.Name()).WithRemedy("Put what it deploys into this template.")
	case strings.EqualFold(kind, RoleAssignment):
		at, _ := r.ID.Parent()
		return resource.Part{ID: r.ID, Action: RoleAssignment + "/write", Put: func(tx resource.Tx) error {
			body, err := r.Body(run.plan, run.reading(tx))
			if err != nil {
				return err
			}
			return run.d.Authorization.putIn(tx, run.by, at, r.ID.Name(), body)
		}}, nil
	}
	if !inGroup(r.ID) {
		return resource.Part{}, fault.New(fault.Invalid, "InvalidTemplate", "'%s' is no resource in a resource group, and a template makes nothing else here; nothing was changed.", r.ID).WithRemedy("Leave its scope out.")
	}
	return resource.Part{ID: r.ID, Body: func(tx resource.Tx) ([]byte, error) { return r.Body(run.plan, run.reading(tx)) }}, nil
}

// inGroup reports whether an id has the form of the addresses that resources are
// written at: in a resource group, beside no other resource. A template can spell
// others, below a machine for example, where nobody could see or delete it.
func inGroup(id scope.ID) bool {
	group := scope.ResourceGroup(id.SubscriptionID(), id.ResourceGroupName())
	below, ok := strings.CutPrefix(id.Key(), group.Key()+"/providers/")
	return ok && id.SubscriptionID() != "" && !strings.Contains(below, "/providers/") && !strings.EqualFold(id.Type(), resource.TypeGroup)
}

// reading is what reference() may read: resources as they are in the transaction,
// which the caller may read, too.
func (run *running) reading(tx resource.Tx) func(scope.ID, bool) (any, error) {
	return func(id scope.ID, full bool) (any, error) {
		if !run.d.Engine.Allowed(run.by, id.Type()+"/read", id) {
			return nil, resource.DeniedInside(run.by, id.Type()+"/read", id)
		}
		r, ok, err := tx.ResourceByID(id.Key())
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fault.New(fault.NotFound, "ResourceNotFound", "The Resource '%s' that the template refers to was not found.", id)
		}
		var properties any
		if err := template.Read(r.Properties, &properties); err != nil {
			return nil, err
		}
		if !full {
			return properties, nil
		}
		out := map[string]any{"id": r.ID.String(), "name": r.ID.Name(), "type": r.ID.Type(), "location": r.Location, "properties": properties}
		if r.Identity != nil {
			out["identity"] = r.Identity.Shown()
		}
		return out, nil
	}
}

// putIn gives a role inside a transaction of the caller's. The principal may have
// been made in it.
func (a Authorization) putIn(tx resource.Tx, by audit.By, at scope.ID, name string, body []byte) error {
	w, ok := tx.(AuthorizationTx)
	if !ok {
		return fmt.Errorf("a transaction (%T) that cannot write role assignments", tx)
	}
	a.People = newcomers{a.People, tx}
	next, err := a.readAssignment(at, name, body)
	if err != nil {
		return err
	}
	return a.assign(w, by, &next)
}

// newcomers knows the principals that a transaction has made, too.
type newcomers struct {
	Principals
	tx resource.Identities
}

// ServicePrincipal returns one of the directory or of the transaction.
func (n newcomers) ServicePrincipal(id string) (directory.ServicePrincipal, bool) {
	if p, ok := n.Principals.ServicePrincipal(id); ok {
		return p, true
	}
	p, ok, err := n.tx.ServicePrincipalByID(id)
	return p, ok && err == nil
}
