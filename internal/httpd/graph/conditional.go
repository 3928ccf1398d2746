package graph

import (
	"context"
	"encoding/json"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/conditional"
	"sallyport/internal/httpd"
)

// Policies keeps Conditional Access policies; conditional.Service does.
type Policies interface {
	Policies(by audit.By) ([]conditional.Policy, error)
	Policy(by audit.By, id string) (conditional.Policy, error)
	Create(ctx context.Context, by audit.By, p conditional.Policy) (conditional.Policy, error)
	Update(ctx context.Context, by audit.By, id string, change func(*conditional.Policy) error) error
	Delete(ctx context.Context, by audit.By, id string) error
}

func policyEntity() entity {
	return entity{set: "identity/conditionalAccess/policies", odata: "#microsoft.graph.conditionalAccessPolicy", schema: map[string]kind{
		"id": text, "displayName": text, "state": text, "templateId": other, "createdDateTime": other, "modifiedDateTime": other, "conditions": other, "grantControls": other, "sessionControls": other,
	}}
}

// policyObject is a policy with every property that clients of Graph read.
func policyObject(p conditional.Policy) object {
	u, a := p.Conditions.Users, p.Conditions.Applications
	o := object{
		"id": p.ID, "displayName": p.DisplayName, "state": string(p.State), "templateId": nil, "createdDateTime": p.CreatedAt.UTC().Format(time.RFC3339), "modifiedDateTime": nil,
		"conditions": object{
			"clientAppTypes": []string{"all"}, "signInRiskLevels": []string{}, "userRiskLevels": []string{}, "servicePrincipalRiskLevels": []string{}, "insiderRiskLevels": nil,
			"platforms": nil, "locations": nil, "devices": nil, "clientApplications": nil, "authenticationFlows": nil,
			"applications": object{"includeApplications": listOf(a.IncludeApplications), "excludeApplications": listOf(a.ExcludeApplications), "includeUserActions": []string{},
				"includeAuthenticationContextClassReferences": []string{}, "applicationFilter": nil},
			"users": object{"includeUsers": listOf(u.IncludeUsers), "excludeUsers": listOf(u.ExcludeUsers), "includeGroups": listOf(u.IncludeGroups), "excludeGroups": listOf(u.ExcludeGroups),
				"includeRoles": listOf(u.IncludeRoles), "excludeRoles": listOf(u.ExcludeRoles), "includeGuestsOrExternalUsers": nil, "excludeGuestsOrExternalUsers": nil},
		},
		"grantControls": nil, "sessionControls": nil,
	}
	if !p.ModifiedAt.IsZero() {
		o["modifiedDateTime"] = p.ModifiedAt.UTC().Format(time.RFC3339)
	}
	if g := p.GrantControls; g != nil {
		o["grantControls"] = object{"operator": g.Operator, "builtInControls": g.BuiltInControls, "customAuthenticationFactors": []string{}, "termsOfUse": []string{}, "authenticationStrength": nil}
	}
	if f := p.SessionControls.SignInFrequency; f != nil {
		shown := object{"value": nil, "type": nil, "authenticationType": primaryAndSecondary, "frequencyInterval": string(f.Interval), "isEnabled": f.IsEnabled}
		if f.Interval == conditional.TimeBased {
			shown["value"], shown["type"] = f.Value, f.Type
		}
		o["sessionControls"] = object{"disableResilienceDefaults": nil, "applicationEnforcedRestrictions": nil, "cloudAppSecurity": nil, "persistentBrowser": nil, "signInFrequency": shown}
	}
	return o
}

const primaryAndSecondary = "primaryAndSecondaryAuthentication"

func (h *Handler) listPolicies(c *httpd.Call) error {
	all, err := h.cfg.Policies.Policies(c.By)
	if err != nil {
		return err
	}
	q, err := parseQuery(c, policyEntity())
	if err != nil {
		return err
	}
	p := &page{q: q}
	for _, policy := range all { // by id
		if !p.add(policy.ID, policyObject(policy)) {
			break
		}
	}
	return h.answer(c, policyEntity().set, p)
}

func (h *Handler) showPolicy(c *httpd.Call) error {
	p, err := h.cfg.Policies.Policy(c.By, c.Var("id"))
	if err != nil {
		return err
	}
	return h.show(c, policyEntity(), policyObject(p))
}

func (h *Handler) createPolicy(c *httpd.Call) error {
	change, err := readPolicy(c, true)
	if err != nil {
		return err
	}
	var p conditional.Policy
	change(&p)
	if p, err = h.cfg.Policies.Create(c.R.Context(), c.By, p); err != nil {
		return err
	}
	return h.created(c, policyEntity(), policyObject(p))
}

func (h *Handler) changePolicy(c *httpd.Call) error {
	change, err := readPolicy(c, false)
	if err != nil {
		return err
	}
	if err := h.cfg.Policies.Update(c.R.Context(), c.By, c.Var("id"), func(p *conditional.Policy) error { change(p); return nil }); err != nil {
		return err
	}
	return c.NoContent(204)
}

func (h *Handler) deletePolicy(c *httpd.Call) error {
	if err := h.cfg.Policies.Delete(c.R.Context(), c.By, c.Var("id")); err != nil {
		return err
	}
	return c.NoContent(204)
}

// unenforced is why a property of a policy may be echoed empty and not set.
const unenforced = "this server does not enforce it, and a policy that is not enforced protects nobody"

// readPolicy reads a policy, or a change of one: a property that is there
// replaces, of the conditions each list by itself: who changes whom a policy
// includes must not thereby lose whom it excludes.
func readPolicy(c *httpd.Call, whole bool) (func(*conditional.Policy), error) {
	b, err := readBody(c, "conditionalAccessPolicy")
	if err != nil {
		return nil, err
	}
	name, state := b.text("displayName"), b.text("state")
	b.fixed("templateId", unenforced)
	b.present("conditions", "displayName", "state")
	conditions, hasConditions := b.object("conditions", "conditionalAccessConditionSet")
	conditions.present("users", "applications")
	users, applications := conditions.policyUsers(), conditions.policyApplications()
	conditions.fixed("clientAppTypes", unenforced+`; it is ["all"]`, `["all"]`)
	for _, property := range []string{"signInRiskLevels", "userRiskLevels", "servicePrincipalRiskLevels", "insiderRiskLevels", "agentIdRiskLevels", "platforms", "locations", "devices", "deviceStates", "clientApplications", "authenticationFlows", "times"} {
		conditions.fixed(property, unenforced)
	}
	b.within(conditions)
	grant, hasGrant := b.grantControls()
	session, hasSession := b.sessionControls()
	if whole {
		b.require("displayName", name != nil)
		b.require("state", state != nil)
		b.require("conditions", hasConditions)
	}
	if !whole {
		b.key(c.Var("id"))
	}
	if err := b.finish("createdDateTime", "modifiedDateTime"); err != nil {
		return nil, err
	}
	return func(p *conditional.Policy) {
		if name != nil {
			p.DisplayName = *name
		}
		if state != nil {
			p.State = conditional.State(*state)
		}
		users(&p.Conditions.Users)
		applications(&p.Conditions.Applications)
		if hasGrant {
			p.GrantControls = grant
		}
		if hasSession {
			p.SessionControls = session
		}
	}, nil
}

// lists takes properties that are lists of texts; what it returns sets those that
// were there, null to none.
func (b *body) lists(properties ...string) func(into ...*[]string) {
	given := make([]*[]string, len(properties))
	for i, p := range properties {
		var v []string
		if b.take(p, &v) {
			given[i] = &v
		}
	}
	return func(into ...*[]string) {
		for i, v := range given {
			if v != nil {
				*into[i] = *v
			}
		}
	}
}

func (b *body) policyUsers() func(*conditional.Users) {
	o, _ := b.object("users", "conditionalAccessUsers")
	set := o.lists("includeUsers", "excludeUsers", "includeGroups", "excludeGroups", "includeRoles", "excludeRoles")
	o.fixed("includeGuestsOrExternalUsers", unenforced)
	o.fixed("excludeGuestsOrExternalUsers", unenforced)
	b.within(o)
	return func(u *conditional.Users) {
		set(&u.IncludeUsers, &u.ExcludeUsers, &u.IncludeGroups, &u.ExcludeGroups, &u.IncludeRoles, &u.ExcludeRoles)
	}
}

func (b *body) policyApplications() func(*conditional.Applications) {
	o, _ := b.object("applications", "conditionalAccessApplications")
	set := o.lists("includeApplications", "excludeApplications")
	for _, property := range []string{"includeUserActions", "includeAuthenticationContextClassReferences", "applicationFilter", "networkAccess", "globalSecureAccess"} {
		o.fixed(property, unenforced)
	}
	b.within(o)
	return func(a *conditional.Applications) { set(&a.IncludeApplications, &a.ExcludeApplications) }
}

func (b *body) grantControls() (*conditional.GrantControls, bool) {
	_, there := b.fields["grantControls"]
	o, set := b.object("grantControls", "conditionalAccessGrantControls")
	if !set {
		return nil, there
	}
	var g conditional.GrantControls
	o.take("operator", &g.Operator)
	o.take("builtInControls", &g.BuiltInControls)
	for _, property := range []string{"customAuthenticationFactors", "termsOfUse", "authenticationStrength"} {
		o.fixed(property, unenforced)
	}
	b.within(o)
	return &g, true
}

func (b *body) sessionControls() (s conditional.SessionControls, there bool) {
	_, there = b.fields["sessionControls"]
	o, set := b.object("sessionControls", "conditionalAccessSessionControls")
	if !set {
		return s, there
	}
	for _, property := range []string{"applicationEnforcedRestrictions", "cloudAppSecurity", "persistentBrowser", "continuousAccessEvaluation", "secureSignInSession", "globalSecureAccessFilteringProfile"} {
		o.fixed(property, unenforced)
	}
	o.fixed("disableResilienceDefaults", unenforced, "false", "null")
	if f, given := o.object("signInFrequency", "signInFrequencySessionControl"); given {
		s.SignInFrequency = &conditional.Frequency{IsEnabled: true}
		f.take("isEnabled", &s.SignInFrequency.IsEnabled)
		f.take("value", &s.SignInFrequency.Value)
		f.take("type", &s.SignInFrequency.Type)
		f.take("frequencyInterval", &s.SignInFrequency.Interval)
		f.fixed("authenticationType", "there is one sign-in, and all of it is repeated", `"`+primaryAndSecondary+`"`, "null")
		o.within(f)
	}
	b.within(o)
	return s, true
}

// object takes a property that is an object; there is false when it is missing
// or null.
func (b *body) object(property, resource string) (o *body, there bool) {
	o = &body{resource: resource}
	there = b.take(property, &o.fields) && o.fields != nil
	if o.fields == nil {
		o.fields = map[string]json.RawMessage{}
	}
	return o, there
}

// present refuses a property that is null where a change of it to nothing would
// be answered and not be made.
func (b *body) present(properties ...string) {
	for _, p := range properties {
		if string(b.fields[p]) == "null" {
			b.fail(badBody("the property '%s' of resource '%s' cannot be null.", p, b.resource).WithTarget(p))
		}
	}
}

// within refuses what an inner object does not have.
func (b *body) within(inner *body) {
	if err := inner.finish(); err != nil {
		b.fail(err)
	}
}
