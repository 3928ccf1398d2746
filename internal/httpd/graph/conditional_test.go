package graph_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"sallyport/internal/audit"
	"sallyport/internal/conditional"
	"sallyport/internal/directory"
	"sallyport/internal/rbac"
	"sallyport/internal/store"
)

const policies = "/v1.0/identity/conditionalAccess/policies"

// frequencyPolicy is the body that Microsoft Graph's reference shows for a sign-in
// frequency ("Create conditionalAccessPolicy"), for this application.
func frequencyPolicy(pairs ...string) string {
	body := `{"displayName":"Fresh sign-ins","state":"enabled","conditions":{"clientAppTypes":["all"],"signInRiskLevels":[],"platforms":null,"locations":null,
		"applications":{"includeApplications":["ce6ff14a-7fdc-4685-bbe0-f6afdfcfa8e0"],"excludeApplications":[],"includeUserActions":[]},
		"users":{"includeUsers":["All"],"excludeUsers":[],"includeGroups":[],"excludeGroups":[],"includeRoles":[],"excludeRoles":[]}},
		"grantControls":null,
		"sessionControls":{"applicationEnforcedRestrictions":null,"persistentBrowser":null,"cloudAppSecurity":null,
		"signInFrequency":{"value":4,"type":"hours","authenticationType":"primaryAndSecondaryAuthentication","frequencyInterval":"timeBased","isEnabled":true}}}`
	return strings.NewReplacer(pairs...).Replace(body)
}

func part(o map[string]any, path ...string) any {
	var v any = o
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

func TestConditionalAccess_LifeOfAPolicy(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	made := w.do(w.admin, "POST", policies, frequencyPolicy(), 201)
	id := str(made, "id")
	if str(made, "state") != "enabled" || part(made, "sessionControls", "signInFrequency", "value") != 4.0 || part(made, "modifiedDateTime") != nil || !strings.HasSuffix(str(made, "@odata.context"), "identity/conditionalAccess/policies/$entity") {
		t.Errorf("%v", made)
	}
	// What was answered can be sent back, all but what only the server sets.
	delete(made, "createdDateTime")
	w.do(w.admin, "PATCH", policies+"/"+id, `{"state":"disabled","modifiedDateTime":null}`, 400)
	delete(made, "modifiedDateTime")
	echo, err := json.Marshal(made)
	w.must(err)
	w.now = w.now.Add(1e9)
	w.do(w.admin, "PATCH", policies+"/"+id, string(echo), 204)
	w.do(w.admin, "PATCH", policies+"/"+strings.ToUpper(id), `{"state":"enabledForReportingButNotEnforced","conditions":{"users":{"includeUsers":["All"],"excludeUsers":["`+strings.ToUpper(alice)+`"]}}}`, 204)
	w.do(w.admin, "PATCH", policies+"/"+id, `{"conditions":{"users":{"includeUsers":["All"]}},"sessionControls":{"signInFrequency":{"isEnabled":true,"frequencyInterval":"everyTime","value":null,"type":null}}}`, 204) // whom it excludes stays
	got := w.do(w.admin, "GET", policies+"/"+id, "", 200)
	if str(got, "state") != "enabledForReportingButNotEnforced" || str(got, "modifiedDateTime") == "" || fmt.Sprint(part(got, "conditions", "users", "excludeUsers")) != "["+alice+"]" ||
		fmt.Sprint(part(got, "conditions", "applications", "includeApplications")) != "["+directory.LinuxSignIn+"]" || part(got, "sessionControls", "signInFrequency", "frequencyInterval") != "everyTime" || part(got, "sessionControls", "signInFrequency", "value") != nil {
		t.Errorf("%v", got)
	}
	if list := values(w.do(w.admin, "GET", policies+"?$filter=displayName eq 'Fresh sign-ins'&$select=id,state", "", 200)); len(list) != 1 || len(list[0]) != 2 {
		t.Errorf("%v", list)
	}
	// Enforced from the answer on: the index has it.
	if p, ok := w.pol.Policy(id); !ok || p.State != conditional.ReportOnly {
		t.Errorf("%+v", p)
	}
	second := str(w.do(w.admin, "POST", policies, frequencyPolicy("Fresh sign-ins", "Stays"), 201), "id")
	w.do(w.admin, "DELETE", policies+"/"+id, "", 204)
	for _, method := range []string{"GET", "DELETE"} {
		w.do(w.admin, method, policies+"/"+id, "", 404)
		w.do(w.admin, method, policies+"/nonsense", "", 404)
	}
	w.do(w.admin, "PATCH", policies+"/"+id, `{"state":"enabled"}`, 404)
	if all := w.pol.Policies(); len(all) != 1 || all[0].ID != second {
		t.Errorf("%+v", all)
	}
	for kind, n := range map[string]int{"conditionalAccessPolicy.create": 2, "conditionalAccessPolicy.update": 3, "conditionalAccessPolicy.delete": 1} {
		if got := w.recorded(kind, audit.Success); len(got) != n || !strings.Contains(got[0].Detail["policy"], "includeUsers") {
			t.Errorf("%s: %+v", kind, got)
		}
	}
}

func (w *world) recorded(kind string, outcome audit.Outcome) (out []audit.Record) {
	w.t.Helper()
	w.must(w.store.Read(w.t.Context(), func(tx *store.Tx) error {
		list, err := tx.AuditRecords(store.AuditFilter{})
		for _, r := range list {
			if r.Type == kind && r.Outcome == outcome {
				out = append(out, r)
			}
		}
		return err
	}))
	return out
}

// TestConditionalAccess_WhoMay: a policy says how to get around it, so that not
// every member reads it; an application needs the permission of that name.
func TestConditionalAccess_WhoMay(t *testing.T) {
	w := newWorld(t)
	id := str(w.do(w.admin, "POST", policies, frequencyPolicy(), 201), "id")
	alice, security, reader, users := w.user("alice"), w.user("security"), w.user("reader"), w.user("users")
	w.role("00000000-0000-4000-8000-00000000000a", rbac.SecurityAdministrator, security)
	w.role("00000000-0000-4000-8000-00000000000b", rbac.GlobalReader, reader)
	w.role("00000000-0000-4000-8000-00000000000c", rbac.UserAdministrator, users)
	_, reads, _ := w.principal("reads")
	w.give(reads, "Policy.Read.ConditionalAccess")
	_, writes, _ := w.principal("writes")
	w.give(writes, "Policy.ReadWrite.ConditionalAccess")
	_, whole, _ := w.principal("whole")
	w.give(whole, "Directory.Read.All")
	_, other, _ := w.principal("other")
	w.give(other, "Policy.ReadWrite.Authorization")
	for who, may := range map[string]struct{ read, write bool }{alice: {}, security: {true, true}, reader: {true, false}, users: {}, reads: {true, false}, writes: {true, true}, other: {}, whole: {},
		security + "|Policy.Read.ConditionalAccess": {true, false}, alice + "|Policy.ReadWrite.ConditionalAccess": {}} {
		read, changed, created := 403, 403, 403
		if may.read {
			read = 200
		}
		if may.write {
			changed, created = 204, 201
		}
		w.do(who, "GET", policies, "", read)
		w.do(who, "GET", policies+"/"+id, "", read)
		w.do(who, "PATCH", policies+"/"+id, `{"displayName":"by somebody"}`, changed)
		if o := w.do(who, "POST", policies, frequencyPolicy(), created); may.write {
			w.do(who, "DELETE", policies+"/"+str(o, "id"), "", changed)
		} else {
			w.do(who, "DELETE", policies+"/"+id, "", changed)
		}
	}
	if got := w.recorded("conditionalAccessPolicy.update", audit.Denied); len(got) < 4 {
		t.Errorf("%d refusals recorded", len(got))
	}
	if o := w.do(alice, "DELETE", policies+"/"+id, "", 403); !strings.Contains(fmt.Sprint(part(o, "error", "message")), "Security Administrator") {
		t.Errorf("who can help is not said: %v", o)
	}
}

// TestConditionalAccess_WhatIsNotEnforcedIsRefused: a policy that would be stored
// and not enforced is a lie about security.
func TestConditionalAccess_WhatIsNotEnforcedIsRefused(t *testing.T) {
	w := newWorld(t)
	alice := w.user("alice")
	w.do(w.admin, "POST", policies, frequencyPolicy(), 201)
	kept := len(w.pol.Policies())
	frequency := `{"value":4,"type":"hours","authenticationType":"primaryAndSecondaryAuthentication","frequencyInterval":"timeBased","isEnabled":true}`
	grant := func(g string) []string { return []string{`"grantControls":null`, `"grantControls":` + g} }
	condition := func(c string) []string { return []string{`"platforms":null`, c} }
	users := func(u string) []string { return []string{`"includeUsers":["All"]`, u} }
	session := func(s string) []string { return []string{`"persistentBrowser":null`, s} }
	frequent := func(f string) []string { return []string{frequency, f} }
	for name, pairs := range map[string][]string{
		"second factor":              grant(`{"operator":"OR","builtInControls":["mfa"]}`),
		"device":                     grant(`{"operator":"AND","builtInControls":["block","compliantDevice"]}`),
		"nothing asked for":          grant(`{"operator":"OR","builtInControls":[]}`),
		"strength":                   grant(`{"operator":"OR","builtInControls":["block"],"authenticationStrength":{"id":"00000000-0000-0000-0000-000000000002"}}`),
		"unknown grant property":     grant(`{"operator":"OR","builtInControls":["block"],"more":1}`),
		"platforms":                  condition(`"platforms":{"includePlatforms":["all"]}`),
		"locations":                  {`"locations":null`, `"locations":{"includeLocations":["All"]}`},
		"a condition from tomorrow":  condition(`"moonPhase":"full"`),
		"legacy clients":             {`"clientAppTypes":["all"]`, `"clientAppTypes":["other"]`},
		"risk":                       {`"signInRiskLevels":[]`, `"signInRiskLevels":["high"]`},
		"guests":                     users(`"includeUsers":["GuestsOrExternalUsers"]`),
		"nobody":                     users(`"includeUsers":[]`),
		"None":                       users(`"includeUsers":["None"]`),
		"an unknown user":            users(`"includeUsers":["11111111-1111-4111-8111-111111111111"]`),
		"a user as group":            {`"excludeGroups":[]`, `"excludeGroups":["` + alice + `"]`},
		"an unknown role":            {`"includeRoles":[]`, `"includeRoles":["11111111-1111-4111-8111-111111111111"]`},
		"All and one":                users(`"includeUsers":["All","` + alice + `"]`),
		"user actions":               {`"includeUserActions":[]`, `"includeUserActions":["urn:user:registersecurityinfo"]`},
		"another application":        {directory.LinuxSignIn, "00000003-0000-0ff1-ce00-000000000000"},
		"no application":             {`["` + directory.LinuxSignIn + `"]`, "[]"},
		"persistent browser":         session(`"persistentBrowser":{"mode":"always","isEnabled":true}`),
		"continuous access":          session(`"continuousAccessEvaluation":{"mode":"strictLocation"}`),
		"second factor's frequency":  frequent(`{"value":4,"type":"hours","authenticationType":"secondaryAuthentication","frequencyInterval":"timeBased","isEnabled":true}`),
		"frequency zero":             frequent(`{"value":0,"type":"hours","isEnabled":true}`),
		"frequency of 25 hours":      frequent(`{"value":25,"type":"hours","isEnabled":true}`),
		"frequency of minutes":       frequent(`{"value":5,"type":"minutes","isEnabled":true}`),
		"frequency of half an hour":  frequent(`{"value":0.5,"type":"hours","isEnabled":true}`),
		"frequency from tomorrow":    frequent(`{"value":1,"type":"hours","frequencyInterval":"sometimes","isEnabled":true}`),
		"every time, and four hours": frequent(`{"value":4,"type":"hours","frequencyInterval":"everyTime","isEnabled":true}`),
		"switched off":               frequent(`{"value":4,"type":"hours","isEnabled":false}`),
		"no session control":         {`"sessionControls"`, `"@odata.sessionControls"`},
		"a state from tomorrow":      {`"enabled"`, `"enforced"`},
		"no state":                   {`"state"`, `"@odata.state"`},
		"no name":                    {"Fresh sign-ins", " "},
		"a long name":                {"Fresh sign-ins", strings.Repeat("a", 257)},
		"a template":                 {`"state"`, `"templateId":"x","state"`},
		"users that are no list":     users(`"includeUsers":"All"`),
		"conditions that are null":   {`"conditions":{`, `"conditions":null,"@odata.x":{`},
		"block for everything":       {`"grantControls":null`, `"grantControls":{"operator":"OR","builtInControls":["block"]}`, `["` + directory.LinuxSignIn + `"]`, `["All"]`},
		"exclude an app of nobody's": {`"excludeApplications":[]`, `"excludeApplications":["None"]`},
	} {
		o := w.do(w.admin, "POST", policies, frequencyPolicy(pairs...), 400)
		if m := fmt.Sprint(part(o, "error", "message")); len(m) < 30 {
			t.Errorf("%s: the refusal says too little: %s", name, m)
		}
	}
	if n := len(w.pol.Policies()); n != kept {
		t.Errorf("%d policies are stored of those that were refused", n-kept)
	}
	block := w.do(w.admin, "POST", policies, frequencyPolicy(`"grantControls":null`, `"grantControls":{"operator":"OR","builtInControls":["block"],"termsOfUse":[]}`, `["All"]`, `["`+alice+`"]`), 201)
	if fmt.Sprint(part(block, "grantControls", "builtInControls")) != "[block]" {
		t.Errorf("%v", block)
	}
	// A change passes the same questions as a new policy.
	w.do(w.admin, "PATCH", policies+"/"+str(block, "id"), `{"grantControls":{"operator":"OR","builtInControls":["mfa"]}}`, 400)
	w.do(w.admin, "PATCH", policies+"/"+str(block, "id"), `{"conditions":{"applications":{"includeApplications":["All"]}}}`, 400)
	w.do(w.admin, "PATCH", policies+"/"+str(block, "id"), `{"grantControls":null,"sessionControls":null}`, 400)
	w.do(w.admin, "PATCH", policies+"/"+str(block, "id"), `{"sessionControls":null}`, 204)
	// Whoever is deleted keeps nobody from changing the policy that names him.
	w.do(w.admin, "DELETE", "/v1.0/users/"+alice, "", 204)
	w.do(w.admin, "PATCH", policies+"/"+str(block, "id"), `{"state":"disabled","conditions":{"users":{"includeUsers":["`+alice+`"]}}}`, 204)
	w.do(w.admin, "PATCH", policies+"/"+str(block, "id"), `{"conditions":{"users":{"includeUsers":["`+alice+`","11111111-1111-4111-8111-111111111111"]}}}`, 400)
}

// TestConditionalAccess_ChangeIsMadeOrRefused: what is said and not done is refused,
// and what says nothing is taken however it is laid out.
func TestConditionalAccess_ChangeIsMadeOrRefused(t *testing.T) {
	w := newWorld(t)
	policy := policies + "/" + str(w.do(w.admin, "POST", policies, frequencyPolicy(), 201), "id")
	for _, nothing := range []string{`{"conditions": null}`, `{"conditions":{"users":null}}`, `{"conditions":{"applications": null }}`} {
		w.do(w.admin, "PATCH", policy, nothing, 400)
	}
	// A list over several lines is the same list.
	w.do(w.admin, "PATCH", policy, "{\"conditions\":{\"clientAppTypes\":[\n  \"all\"\n],\"signInRiskLevels\":[\n],\"platforms\":{ }}}", 204)
}
