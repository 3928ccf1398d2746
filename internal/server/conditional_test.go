package server

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/internal/conditional"
	"sallyport/internal/directory"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/oauth"
	"sallyport/internal/rbac"
	"sallyport/internal/signin"
	"sallyport/internal/store"
)

// TestConditionalAccess_FromGraphToTheCertificate: a policy that an administrator
// writes decides the next certificate on this server, and who asks why somebody
// does not get in reads of it.
func TestConditionalAccess_FromGraphToTheCertificate(t *testing.T) {
	r := newRobot(t)
	admin := r.ids["admin"]
	policy := func(users, controls string) string {
		return `{"displayName":"P","state":"enabled","conditions":{"users":` + users + `,"applications":{"includeApplications":["` + directory.LinuxSignIn + `"]}},` + controls + `}`
	}
	const every = `"sessionControls":{"signInFrequency":{"isEnabled":true,"frequencyInterval":"everyTime"}}`
	certificate := func() string {
		_, body := r.oauth(url.Values{"client_id": {directory.AzureCLI}, "grant_type": {"password"}, "username": {"admin@corp.example"}, "password": {castlePassword},
			"scope": {"https://pas.windows.net/CheckMyAccess/Linux/.default"}, "token_type": {"ssh-cert"}, "req_cnf": {robotKey}})
		return body
	}
	explain := func() string {
		code, body := r.ask(r.token("admin", "/arm"), "GET", r.vm+"/providers/Sallyport.Access/explain?api-version=2026-11-01&principal="+admin, "")
		if code != 200 {
			t.Fatal(body)
		}
		var e struct {
			Properties struct {
				Steps []struct {
					Step, Message string
					Passed        bool
				}
				Verdict struct{ Message string }
			}
		}
		r.must(json.Unmarshal([]byte(body), &e))
		s := e.Properties.Steps[2]
		return fmt.Sprint(s.Step, ", ", s.Passed, ": ", s.Message, " | ", e.Properties.Verdict.Message)
	}
	if got := explain(); !strings.HasPrefix(got, "policy, true: no Conditional Access policy applies") {
		t.Error(got)
	}
	code, made := r.call("admin", "POST", "/v1.0/identity/conditionalAccess/policies", policy(`{"includeRoles":["`+rbac.GlobalAdministrator+`"]}`, every))
	if code != 201 {
		t.Fatal(made)
	}
	if body := certificate(); !strings.Contains(body, `"token_type":"ssh-cert"`) {
		t.Errorf("a sign-in of this moment: %s", body)
	}
	if got := explain(); !strings.HasPrefix(got, "policy, true: 'P' asks for a sign-in every time") {
		t.Error(got)
	}
	// The same sign-in, six minutes old.
	if d := r.d.oauth.DeviceWants(oauth.Device{Client: directory.AzureCLI, Scope: "https://pas.windows.net/CheckMyAccess/Linux/.default"}, signin.Session{UserID: admin, SignedInAt: time.Now()}, time.Now().Add(6*time.Minute)); !d {
		t.Error("a policy about a directory role is not about its holder")
	}
	path := "/v1.0/identity/conditionalAccess/policies/" + made["id"].(string)
	if code, out := r.call("admin", "PATCH", path, `{"grantControls":{"operator":"OR","builtInControls":["block"]},"sessionControls":null}`); code != 204 {
		t.Fatal(out)
	}
	if body := certificate(); !strings.Contains(body, "AADSTS53003") || strings.Contains(body, "access_token\"") {
		t.Errorf("blocked: %s", body)
	}
	if got := explain(); !strings.HasPrefix(got, "policy, false: 'P' lets no certificate be issued | ") || !strings.HasSuffix(got, "no certificate is issued to begin with: 'P' lets no certificate be issued") {
		t.Error(got)
	}
	othersReadNoPolicies(r)
	if code, out := r.call("admin", "PATCH", path, `{"state":"enabledForReportingButNotEnforced"}`); code != 204 {
		t.Fatal(out)
	}
	othersReadNoPolicies(r)
	if got := explain(); !strings.HasPrefix(got, "policy, true: 'P' lets no certificate be issued (report-only: it refuses nothing)") {
		t.Error(got)
	}
	// A second server, or this one after a start, knows the policy from the store.
	fresh := conditional.NewIndex()
	r.must(r.d.store.Read(t.Context(), func(tx *store.Tx) error { return fresh.Load(tx) }))
	if all := fresh.Policies(); len(all) != 1 || all[0].DisplayName != "P" {
		t.Errorf("%+v", all)
	}
}

// othersReadNoPolicies: whoever may see who gets into a machine does not read of
// the policies about others, whom they leave out least of all.
func othersReadNoPolicies(r *robot) {
	r.t.Helper()
	if r.ids["clerk"] == "" {
		r.assign(r.subscription(), rbac.Reader, r.person("clerk"))
		r.assign(r.subscription(), rbac.Reader, r.person("auditor", rbac.GlobalReader))
	}
	for who, reads := range map[string]bool{"clerk": false, "auditor": true} {
		code, body := r.ask(r.token(who, "/arm"), "GET", r.vm+"/providers/Sallyport.Access/explain?api-version=2026-11-01&principal="+r.ids["admin"], "")
		if code != 200 || strings.Contains(body, "'P' lets no certificate") != reads || strings.Contains(body, "such as a Security Administrator") == reads {
			r.t.Errorf("%s: %d %s", who, code, body)
		}
	}
}

// TestExplain_BlockedIsNotGranted: the verdict about whom a policy blocks is no
// "granted", whatever his roles give; other refusals stay what they are.
func TestExplain_BlockedIsNotGranted(t *testing.T) {
	step := machine.Step{Name: "policy", Message: "blocked"}
	if v := withoutCertificate(machine.Verdict{Access: protocol.Admin, Reason: "granted", Message: "allowed, with sudo"}, step); v.Access != protocol.None || v.Reason != "policy" || strings.Contains(v.Message, "allowed") || !strings.HasSuffix(v.Message, ": blocked") {
		t.Errorf("%+v", v)
	}
	if v := withoutCertificate(machine.Verdict{Access: protocol.None, Reason: "no-role", Message: "refused"}, step); v.Reason != "no-role" || !strings.HasSuffix(v.Message, ": blocked") {
		t.Errorf("%+v", v)
	}
}
