package arm_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/httpd/arm"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
)

// fakeKeys notes what reached it.
type fakeKeys struct {
	rotations []arm.Rotation
	applied   int
}

func (f *fakeKeys) Keys(context.Context) (arm.KeyList, error) {
	return arm.KeyList{Value: []arm.KeyState{{Purpose: "user-ca", State: "active"}}, Machines: []arm.MachineBehind{}}, nil
}

func (f *fakeKeys) Rotate(_ context.Context, _ audit.By, r arm.Rotation) error {
	f.rotations = append(f.rotations, r)
	return nil
}

func (f *fakeKeys) Request(context.Context) (protocol.ManifestRequest, error) {
	return protocol.ManifestRequest{}, nil
}

func (f *fakeKeys) Apply(context.Context, audit.By, protocol.SignedManifest) error {
	f.applied++
	return nil
}

// A Contributor at the root has every action of our namespace and does not decide
// whom machines believe; neither does who may only assign roles. An Owner does.
func TestKeys_TwoRights(t *testing.T) {
	s := newServer(t)
	const root = "/providers/Microsoft.Management/managementGroups/" + tenantID
	const grant = root + "/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-0000000000b"
	calls := []struct{ method, path, body string }{
		{"POST", "/providers/Sallyport.Access/rotateKey", `{"purpose":"user-ca"}`},
		{"GET", "/providers/Sallyport.Access/manifestRequest", ""},
		{"POST", "/providers/Sallyport.Access/applyManifest", `{"manifestKey":"","envelope":{}}`},
	}
	refused := func(as string) {
		t.Helper()
		for _, c := range calls {
			if a, v := s.call(nobody, c.method, c.path, c.body); a.StatusCode != http.StatusForbidden {
				t.Errorf("%s: %s %s: %d %v", as, c.method, c.path, a.StatusCode, v)
			}
		}
	}
	refused("without a role")
	if a, _ := s.call(nobody, "GET", "/providers/Sallyport.Access/keys", ""); a.StatusCode != http.StatusForbidden {
		t.Errorf("anybody sees the keys: %d", a.StatusCode)
	}
	for i, role := range []string{rbac.Contributor, rbac.UserAccessAdministrator} {
		path := grant + string(rune('5'+i))
		if a, v := s.call(admin, "PUT", path, assignment(role, nobody)); a.StatusCode != http.StatusCreated {
			t.Fatalf("%d %v", a.StatusCode, v)
		}
		refused(role)
		s.call(admin, "DELETE", path, "")
	}
	if len(s.keys.rotations) != 0 || s.keys.applied != 0 {
		t.Fatalf("%+v", s.keys)
	}
	for _, c := range calls {
		if a, v := s.call(admin, c.method, c.path, c.body); a.StatusCode != http.StatusOK {
			t.Errorf("Owner: %s %s: %d %v", c.method, c.path, a.StatusCode, v)
		}
	}
	if a, v := s.call(admin, "POST", calls[0].path, `{"purpose":"host-ca","compromised":true,"force":true,"afterSeconds":60}`); a.StatusCode != http.StatusOK || dig(v, "value", 0, "purpose") != "user-ca" {
		t.Errorf("%d %v", a.StatusCode, v)
	}
	if want := (arm.Rotation{Purpose: "host-ca", Compromised: true, Force: true, After: time.Minute}); len(s.keys.rotations) != 2 || s.keys.rotations[1] != want {
		t.Errorf("%+v", s.keys.rotations)
	}
	for _, body := range []string{"", "{}x", `{"purpose":"user-ca","unknown":1}`, `{"afterSeconds":-1}`, `{"afterSeconds":99999999999}`} {
		if a, _ := s.call(admin, "POST", calls[0].path, body); a.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %d", body, a.StatusCode)
		}
	}
}
