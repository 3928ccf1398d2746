package grants

import (
	"strings"
	"testing"
	"time"

	"sallyport/internal/handbooktest"
	"sallyport/internal/machine/protocol"
)

const joinedID = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.HybridCompute/machines/host1"

const (
	alice    = "11111111-1111-4111-8111-111111111111"
	machine1 = "22222222-2222-4222-8222-222222222222"
	other    = "33333333-3333-4333-8333-333333333333"
	cid      = "44444444-4444-4444-8444-444444444444"
	vm       = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm1"
	inSet    = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachineScaleSets/set1/virtualMachines/3"
)

// granted is an Input that is allowed: a fresh login of a user by certificate.
func granted() Input {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	return Input{
		Way: SSH, Login: "alice@corp.example", CorrelationID: cid, Now: now, MachineID: machine1,
		State: State{Held: true, LoginEnabled: true, Identity: true, ResourceID: vm, GoodUntil: now.Add(24 * time.Hour), UserStale: 24 * time.Hour, AdminStale: time.Hour},
		Clock: Clock{Age: time.Minute},
		Person: &protocol.Principal{ObjectID: alice, LoginName: "alice@corp.example", Access: protocol.Login, UID: 1879048200,
			NotBefore: now.Add(-time.Hour)},
		Connection: &Connection{Age: time.Second, Certificate: Certificate{Serial: "7", ObjectID: alice, Principals: []string{"alice@corp.example", alice},
			IssuedAt: now.Add(-time.Minute), ValidBefore: now.Add(time.Hour), Factors: map[string]time.Time{"pwd": now}}},
	}
}

func TestDecide_GrantedIsAllowed(t *testing.T) {
	if d := Decide(granted()); !d.Allow || d.Text != "" {
		t.Fatalf("%+v", d)
	}
	for name, change := range map[string]func(*Input){
		"administrator by ssh":                    func(in *Input) { in.Person.Access = protocol.Admin },
		"administrator by sudo":                   func(in *Input) { in.Person.Access, in.Way, in.Connection = protocol.Admin, Elevate, nil },
		"administrator's login outlives his sudo": func(in *Input) { in.Person.Access, in.Clock.Age = protocol.Admin, 2*time.Hour },
		"cron without a certificate":              func(in *Input) { in.Way, in.Connection = Local, nil },
		"own home":                                func(in *Input) { in.Kept, in.HomeUID = alice, &in.Person.UID },
		"certificate for this machine":            func(in *Input) { in.Connection.Certificate.Machine = machine1 },
		"factor present":                          func(in *Input) { in.Person.Factors = []string{"pwd"} },
		"exactly at the limit":                    func(in *Input) { in.Clock.Age = 24 * time.Hour },
	} {
		in := granted()
		change(&in)
		if d := Decide(in); !d.Allow {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestDecide_Sentences: each denial names its reason, what to do, and the
// correlation id.
func TestDecide_Sentences(t *testing.T) {
	foreign := uint32(1000)
	for _, c := range []struct {
		reason string
		change func(*Input)
		words  []string
	}{
		{"no-way", func(in *Input) { in.Way = NoWay }, nil},
		{"state-damaged", func(in *Input) { in.State.Broken = true }, []string{"sally agent status"}},
		{"authority-withdrawn", func(in *Input) { in.State.Trusted = func(string) bool { return false } }, []string{"trusted no more"}},
		{"no-snapshot", func(in *Input) { in.State = State{} }, []string{"sally agent status"}},
		{"extension-off", func(in *Input) { in.State.LoginEnabled = false }, []string{"switched off", "sally vm extension set", "AADSSHLoginForLinux", "--resource-group rg --vm-name vm1"}},
		{"extension-off", func(in *Input) { in.State.LoginEnabled, in.State.ResourceID = false, joinedID }, []string{"sally machine extension create --name AADSSHLoginForLinux --resource-group rg --machine-name host1"}},
		{"identity-removed", func(in *Input) { in.State.Identity, in.State.ResourceID = false, joinedID }, []string{"sally machine identity assign --resource-group rg --name host1"}},
		{"extension-off", func(in *Input) { in.State.LoginEnabled, in.State.ResourceID = false, inSet }, []string{"old one", "sally vmss update-instances --resource-group rg --name set1 --instance-ids 3"}},
		{"identity-removed", func(in *Input) { in.State.Identity, in.State.ResourceID = false, inSet }, []string{"sally vmss identity assign --resource-group rg --name set1; and then: sally vmss update-instances --resource-group rg --name set1 --instance-ids 3"}},
		{"drift", func(in *Input) { in.State.Drift = "sshd has UsePAM no." }, []string{"UsePAM no", "sally agent doctor"}},
		{"clock", func(in *Input) { in.Clock.Wrong = "it is 10m0s behind the server" }, []string{"10m0s behind", "clock"}},
		{"identity-removed", func(in *Input) { in.State.Identity = false }, []string{"managed identity", "sally vm identity assign --resource-group rg --name vm1"}},
		{"unknown", func(in *Input) { in.Person = nil }, []string{"alice@corp.example", "not an account", "sally login"}},
		{"unknown", func(in *Input) { in.Person.LoginName = "bob@corp.example" }, []string{"not an account"}},
		{"local-name", func(in *Input) { in.Local = true }, []string{"local user or group"}},
		{"disabled", func(in *Input) { in.Person.Access, in.Person.Reason = protocol.None, protocol.ReasonDisabled }, []string{"disabled", "enable it"}},
		{"home-of-another", func(in *Input) { in.Kept = other }, []string{"belongs to another account", "sally agent home archive alice@corp.example"}},
		{"home-of-another", func(in *Input) { in.HomeUID = &foreign }, []string{"sally agent home archive"}},
		{"no-certificate", func(in *Input) { in.Connection = nil }, []string{"no certificate", "sally ssh"}},
		{"no-certificate", func(in *Input) { in.Connection.Age = ConnectionAge + 1 }, []string{"no certificate"}},
		{"no-certificate", func(in *Input) { in.Connection.Age = -1 }, []string{"no certificate"}},
		{"other-certificate", func(in *Input) { in.Connection.Certificate.ObjectID = other }, []string{"not one of alice@corp.example"}},
		{"other-certificate", func(in *Input) { in.Connection.Certificate.Principals = []string{"alice@corp.example"} }, []string{"not one of"}},
		{"other-certificate", func(in *Input) { in.Connection.Certificate.Principals = nil }, []string{"not one of"}},
		{"other-machine", func(in *Input) { in.Connection.Certificate.Machine = other }, []string{"another machine", other}},
		{"expired", func(in *Input) { in.Connection.Certificate.ValidBefore = in.Now.Add(-time.Second) }, []string{"expired at", "sally ssh"}},
		{"revoked", func(in *Input) { in.State.Revoked = func(s string) bool { return s == "7" } }, []string{"serial 7 was revoked"}},
		{"not-before", func(in *Input) { in.Person.NotBefore = in.Now }, []string{"sessions of alice@corp.example were ended", "sally login"}},
		{"factors", func(in *Input) { in.Person.Factors = []string{"pwd", "otp"} }, []string{"sign-in with otp"}},
		{"no-role", func(in *Input) { in.Person.Access, in.Person.Reason = protocol.None, protocol.ReasonNoRole },
			[]string{"Azure role not assigned: alice@corp.example has neither 'Virtual Machine Administrator Login' nor 'Virtual Machine User Login' on this machine. Ask an owner of it to run: " +
				"sally role assignment create --role \"Virtual Machine User Login\" --assignee alice@corp.example --scope " + vm + " (correlation id "}},
		{"no-role", func(in *Input) { in.Person.Access = "" }, []string{"Azure role not assigned"}},
		{"no-role", func(in *Input) { in.Person.Access = "superuser" }, []string{"Azure role not assigned"}},
		{"owner-only", func(in *Input) { in.Person.Access, in.Person.Reason = protocol.None, protocol.ReasonOwner }, []string{"Owner or Contributor", "opens no login", "role assignment create"}},
		{"stale", func(in *Input) { in.Clock.Age = 25 * time.Hour }, []string{"25h0m0s", "24h0m0s", "sally agent status"}},
		{"stale", func(in *Input) {
			in.Now = in.State.GoodUntil
			in.Connection.Certificate.ValidBefore = in.Now.Add(time.Hour)
		}, []string{"has not heard"}},
		{"stale", func(in *Input) { in.Way, in.Person.Access, in.Clock.Age = Elevate, protocol.Admin, time.Hour+1 }, []string{"1h0m0s"}},
		{"not-administrator", func(in *Input) { in.Way = Elevate }, []string{"sudo needs the role 'Virtual Machine Administrator Login'", "--role \"Virtual Machine Administrator Login\""}},
	} {
		in := granted()
		c.change(&in)
		d := Decide(in)
		if d.Allow || d.Reason != c.reason {
			t.Errorf("%s: got %+v", c.reason, d)
			continue
		}
		for _, w := range append(c.words, "(correlation id "+cid+")") {
			if !strings.Contains(d.Text, w) {
				t.Errorf("%s: %q is not in %q", c.reason, w, d.Text)
			}
		}
		id := c.reason // as it is on the page
		if strings.Contains(d.Text, "sally machine ") {
			id = map[string]string{"extension-off": "extension-off.joined", "identity-removed": "identity-removed.joined"}[id]
		}
		if strings.Contains(d.Text, "sally vmss ") {
			id = map[string]string{"extension-off": "extension-off.instance", "identity-removed": "identity-removed.instance"}[id]
		}
		handbooktest.Said(t, d.Text, id, "NAME", "alice@corp.example", "SCOPE", vm, "GROUP", "rg")
		if len(d.Text) > 1024 {
			t.Errorf("%s: %d bytes are more than PAM carries", c.reason, len(d.Text))
		}
	}
}

// TestDecide_ZeroInputIsDenied: what Decide was not told is a no.
func TestDecide_ZeroInputIsDenied(t *testing.T) {
	for _, way := range []Way{NoWay, SSH, Elevate, Local, Local + 1} {
		if d := Decide(Input{Way: way}); d.Allow {
			t.Errorf("way %d: allowed", way)
		}
	}
}

// TestCVE_2024_9313_AuthenticatedIdentityIsTheAccount: a good certificate of one
// person opens nobody else's account, whatever names stand in it.
func TestCVE_2024_9313_AuthenticatedIdentityIsTheAccount(t *testing.T) {
	for name, principals := range map[string][]string{
		"his own names":     {"bob@corp.example", other},
		"her name, his id":  {"alice@corp.example", other},
		"her names, of his": {"alice@corp.example", alice},
	} {
		in := granted()
		in.Connection.Certificate.ObjectID, in.Connection.Certificate.Principals = other, principals
		if d := Decide(in); d.Allow || d.Reason != "other-certificate" {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestCVE_2026_45108_SameTenantIsNotTheSamePerson: two people of one tenant and
// one domain differ by their object ids, also when the one has the name that the
// other had when the certificate was made.
func TestCVE_2026_45108_SameTenantIsNotTheSamePerson(t *testing.T) {
	for name, change := range map[string]func(*Input){
		"another person": func(in *Input) {
			in.Connection.Certificate.ObjectID, in.Connection.Certificate.Principals[1] = other, other
		},
		"the name was made again": func(in *Input) { in.Person.ObjectID = other },
		"no object id":            func(in *Input) { in.Connection.Certificate.ObjectID, in.Connection.Certificate.Principals = "", nil },
	} {
		in := granted()
		in.Connection.Certificate.Tenant = "one tenant for all"
		change(&in)
		if d := Decide(in); d.Allow || d.Reason != "other-certificate" {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestCVE_2025_53013_OfflineChecksEverything: a machine that has not heard from
// the server since yesterday checks what it checks online, and in the end lets
// nobody in.
func TestCVE_2025_53013_OfflineChecksEverything(t *testing.T) {
	offline := func() Input {
		in := granted()
		in.Clock.Age = 23 * time.Hour
		return in
	}
	if d := Decide(offline()); !d.Allow {
		t.Fatalf("%+v", d)
	}
	for reason, change := range map[string]func(*Input){
		"no-certificate":    func(in *Input) { in.Connection = nil },
		"other-certificate": func(in *Input) { in.Connection.Certificate.ObjectID = other },
		"other-machine":     func(in *Input) { in.Connection.Certificate.Machine = other },
		"expired":           func(in *Input) { in.Connection.Certificate.ValidBefore = in.Now.Add(-time.Second) },
		"revoked":           func(in *Input) { in.State.Revoked = func(s string) bool { return s == "7" } },
		"not-before":        func(in *Input) { in.Person.NotBefore = in.Now },
		"factors":           func(in *Input) { in.Person.Factors = []string{"otp"} },
		"no-role":           func(in *Input) { in.Person.Access = protocol.None },
		"stale":             func(in *Input) { in.Clock.Age = 24*time.Hour + 1 },
		"clock":             func(in *Input) { in.Clock.Wrong = "it went back" },
		"no-snapshot":       func(in *Input) { in.State = State{} },
	} {
		in := offline()
		change(&in)
		if d := Decide(in); d.Allow || d.Reason != reason {
			t.Errorf("%s: %+v", reason, d)
		}
	}
}
