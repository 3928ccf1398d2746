package oauth_test

import (
	"testing"
	"time"

	"sallyport/internal/conditional"
	"sallyport/internal/directory"
)

// TestRefusals_PoliciesThatCannotBeMetHere: the controls that this server knows the
// names of, and an old sign-in.
func TestRefusals_PoliciesThatCannotBeMetHere(t *testing.T) {
	w := newWorld(t)
	refresh := w.login(armScope).str("refresh_token")
	policy := conditional.Policy{ID: "p1", DisplayName: "Admins", State: conditional.Enabled,
		Conditions: conditional.Conditions{Users: conditional.Users{IncludeUsers: []string{conditional.All}}, Applications: conditional.Applications{IncludeApplications: []string{directory.LinuxSignIn}}}}
	for control, code := range map[conditional.Control]int{conditional.PasswordChange: 50055, "approvedApplication": 53003} {
		p := policy
		p.GrantControls = &conditional.GrantControls{Operator: "OR", BuiltInControls: []conditional.Control{control}}
		w.policies = []conditional.Policy{p}
		if a := w.post("/adfs/oauth2/token", certForm(t, refresh)); a.code() != code {
			t.Errorf("%s: %s", control, a.text)
		}
	}
	policy.SessionControls = conditional.SessionControls{SignInFrequency: &conditional.Frequency{IsEnabled: true, Value: 1, Type: "hours"}}
	w.policies = []conditional.Policy{policy}
	w.pass(2 * time.Hour)
	if a := w.post("/adfs/oauth2/token", certForm(t, refresh)); a.code() != 70043 {
		t.Error(a.text)
	}
}

// TestRefusals_ApplicationsThatAreNotThere: the one that certificates are of, and
// one's own.
func TestRefusals_ApplicationsThatAreNotThere(t *testing.T) {
	w := newWorld(t)
	refresh := w.login(armScope).str("refresh_token")
	sp, _ := w.index.ServicePrincipalByAppID(directory.LinuxSignIn)
	if err := w.people.EnableServicePrincipal(t.Context(), w.admin, sp.ID, false); err != nil {
		t.Fatal(err)
	}
	if a := w.post("/adfs/oauth2/token", certForm(t, refresh)); a.code() != 7000112 {
		t.Error(a.text)
	}
	id, secret := w.application()
	form := values("client_id", id, "client_secret", secret, "grant_type", "client_credentials", "scope", publicURL+"/arm/.default")
	own, _ := w.index.ServicePrincipalByAppID(id)
	if err := w.people.DeleteServicePrincipal(t.Context(), w.admin, own.ID); err != nil {
		t.Fatal(err)
	}
	if a := w.post("/adfs/oauth2/token", form); a.code() != 7000229 {
		t.Error(a.text)
	}
	w.pass(3 * 366 * 24 * time.Hour)
	if a := w.post("/adfs/oauth2/token", form); a.code() != 7000222 {
		t.Error(a.text)
	}
}
