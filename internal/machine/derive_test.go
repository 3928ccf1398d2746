package machine_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"sallyport/internal/directory"
	"sallyport/internal/machine"
	"sallyport/internal/machine/protocol"
)

func inputs() machine.Inputs {
	return machine.Inputs{
		Tenant:  directory.Tenant{ID: tenantID, Domains: []string{"corp.example"}},
		Machine: machine.Machine{ID: machineID, Thumbprint: "key"},
		Desired: machine.Desired{ResourceID: resource, Identity: true, LoginEnabled: true, Revision: 4},
		Users: []directory.User{
			{ID: "u2", UPN: "login@corp.example", Enabled: true, UID: 2}, {ID: "u1", UPN: "admin@corp.example", Enabled: true, UID: 1},
			{ID: "u3", UPN: "owner@corp.example", Enabled: true, UID: 3}, {ID: "u4", UPN: "none@corp.example", Enabled: true, UID: 4},
			{ID: "u5", UPN: "off@corp.example", Enabled: false, UID: 5}, {ID: "u6", UPN: "noposix@corp.example", Enabled: true},
			{ID: "u7", UPN: "both@corp.example", Enabled: true, UID: 7, NotBefore: time.Unix(9, 0)}},
		ServicePrincipals: []directory.ServicePrincipal{{ID: "s1", Enabled: true, UID: 8, DisplayName: "deployer"}, {ID: "s2", Enabled: false, UID: 9}, {ID: "s3", Enabled: true}},
		Admins:            []string{"u1", "U7", "u5", "s2", "gone"}, Logins: []string{"u2", "u7", "s1", "u6"}, Owners: []string{"u3", "u1"},
		Revoked: []string{"9", "10"}, UserStale: 24 * time.Hour, AdminStale: time.Hour,
	}
}

func TestDerive_AccessAndReasons(t *testing.T) {
	doc := machine.Derive(inputs())
	want := map[string][2]string{
		"u1": {"admin", ""}, "u2": {"login", ""}, "u3": {"none", "owner"}, "u4": {"none", "no-role"}, "u5": {"none", "disabled"}, "u7": {"admin", ""}, "s1": {"login", ""}, "s2": {"none", "disabled"},
	}
	if len(doc.Principals) != len(want) {
		t.Errorf("%d principals, want %d", len(doc.Principals), len(want))
	}
	for _, p := range doc.Principals {
		if got := [2]string{string(p.Access), p.Reason}; got != want[p.ObjectID] {
			t.Errorf("%s: %v, want %v", p.ObjectID, got, want[p.ObjectID])
		}
	}
	if i := slices.IndexFunc(doc.Principals, func(p protocol.Principal) bool { return p.ObjectID == "s1" }); doc.Principals[i].LoginName != "s1" {
		t.Errorf("a service principal logs in as %s, not as its object id", doc.Principals[i].LoginName)
	}
	if doc.Tenant != tenantID || doc.MachineID != machineID || doc.KeyThumbprint != "key" || doc.ResourceID != resource.String() || doc.Revision != 4 || doc.UserStale != 86400 || doc.AdminStale != 3600 {
		t.Errorf("%+v", doc)
	}
}

func TestDerive_IsDeterministicAndCopies(t *testing.T) {
	in := inputs()
	a, _ := json.Marshal(machine.Derive(in))
	slices.Reverse(in.Users)
	slices.Reverse(in.Revoked)
	slices.Reverse(in.Admins)
	b, _ := json.Marshal(machine.Derive(in))
	if string(a) != string(b) {
		t.Fatalf("%s\n%s", a, b)
	}
}

func TestDerive_NobodyIsNobody(t *testing.T) {
	doc := machine.Derive(machine.Inputs{Users: inputs().Users})
	for _, p := range doc.Principals {
		if p.Access != protocol.None || p.Reason == "" {
			t.Errorf("%+v", p)
		}
	}
	if doc.LoginEnabled || doc.Identity {
		t.Error("the zero machine is open")
	}

}
