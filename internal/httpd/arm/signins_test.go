package arm_test

import (
	"context"
	"net/http"
	"testing"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/oauth"
)

// signIns shows whom it was asked about.
type signIns struct{ switches oauth.Settings }

func (s *signIns) SignIns(_ context.Context, by audit.By, userID string) ([]oauth.SignedIn, error) {
	if by.Principal == admin || by.Principal == userID {
		if userID == admin {
			return []oauth.SignedIn{{ID: "s1", Client: "browser"}}, nil
		}
		return nil, nil
	}
	return nil, fault.New(fault.Forbidden, "Authorization_RequestDenied", "not yours")
}

func (s *signIns) RevokeSignIn(_ context.Context, by audit.By, userID, id string) error {
	if by.Principal != userID || id != "s1" {
		return fault.New(fault.NotFound, "SignInNotFound", "%s of %s", id, userID)
	}
	return nil
}

func (s *signIns) Settings() oauth.Settings { return s.switches }

func (s *signIns) ChangeSettings(_ context.Context, _ audit.By, c oauth.SettingsChange) (oauth.Settings, error) {
	if c.AllowPasswordGrant != nil {
		s.switches.AllowPasswordGrant = *c.AllowPasswordGrant
	}
	return s.switches, nil
}

func TestSignIns_WhoseTheyAre(t *testing.T) {
	s := newServer(t)
	const sessions = "/providers/Sallyport.Access/sessions"
	for _, c := range []struct {
		who, method, path string
		want              int
	}{
		{admin, http.MethodGet, sessions, http.StatusOK},
		{admin, http.MethodGet, sessions + "?principal=ADMIN@corp.example", http.StatusOK},
		{nobody, http.MethodGet, sessions + "?principal=admin@corp.example", http.StatusForbidden},
		{nobody, http.MethodGet, sessions + "?principal=" + admin, http.StatusForbidden},
		{admin, http.MethodPost, sessions + "/s1/revoke", http.StatusNoContent},
		{nobody, http.MethodPost, sessions + "/s1/revoke?principal=" + admin, http.StatusNotFound},
	} {
		answer, v := s.call(c.who, c.method, c.path, "")
		if answer.StatusCode != c.want || c.want == http.StatusOK && dig(v, "value", 0, "properties", "id") != "s1" {
			t.Errorf("%s %s as %s: %d %v", c.method, c.path, c.who, answer.StatusCode, v)
		}
	}
}

func TestTenantSettings_OwnersOfTheRootChangeThem(t *testing.T) {
	s := newServer(t)
	const settings = "/providers/Sallyport.Access/tenantSettings/default"
	for body, want := range map[string]int{`{"properties":{"allowPasswordGrant":false}}`: 200, `{"properties":{"allowPassword":false}}`: 400, `{}`: 400, `{"properties":{"allowDeviceCode":"no"}}`: 400} {
		if answer, v := s.call(admin, http.MethodPatch, settings, body); answer.StatusCode != want {
			t.Errorf("%s: %d %v", body, answer.StatusCode, v)
		}
	}
	if answer, _ := s.call(nobody, http.MethodPatch, settings, `{"properties":{"allowPasswordGrant":true}}`); answer.StatusCode != http.StatusForbidden {
		t.Error(answer.StatusCode)
	}
	if _, v := s.call(nobody, http.MethodGet, settings, ""); dig(v, "properties", "allowPasswordGrant") != false || dig(v, "properties", "allowDeviceCode") != true {
		t.Error(v)
	}
}
