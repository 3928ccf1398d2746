package conditional

import (
	"encoding/json"
	"testing"
	"time"

	"sallyport/internal/directory"
)

// everybody exists.
type everybody struct{}

func (everybody) User(id string) (directory.User, bool)   { return directory.User{ID: id}, true }
func (everybody) Group(id string) (directory.Group, bool) { return directory.Group{ID: id}, true }

// FuzzPolicy: what is taken is judged as it is written: nothing in it is unknown to
// the evaluation, it lets a fresh sign-in through unless it blocks, and it is the
// same after it was stored.
func FuzzPolicy(f *testing.F) {
	p := everyone()
	p.Conditions.Applications.IncludeApplications = []string{directory.LinuxSignIn}
	p.SessionControls.SignInFrequency = &Frequency{IsEnabled: true, Value: 4, Type: Hours, Interval: TimeBased}
	for _, change := range []func(*Policy){func(*Policy) {}, func(p *Policy) { p.SessionControls.SignInFrequency = &Frequency{IsEnabled: true, Interval: EveryTime} },
		func(p *Policy) { p.GrantControls = &GrantControls{Operator: "OR", BuiltInControls: []Control{Block}} }, func(p *Policy) { p.State = ReportOnly },
		func(p *Policy) {
			p.Conditions.Users = Users{IncludeGroups: []string{"33333333-3333-3333-3333-333333333333"}}
		}} {
		seed := p
		change(&seed)
		b, err := json.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var p Policy
		if json.Unmarshal(text, &p) != nil || p.check(everybody{}, func(string) bool { return true }, Users{}) != nil {
			return
		}
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var again Policy
		if err := json.Unmarshal(b, &again); err != nil || normal(again) != normal(p) {
			t.Fatalf("%v: %s is stored as something else", err, b)
		}
		s := Signals{User: alice, Groups: p.Conditions.Users.IncludeGroups, Roles: p.Conditions.Users.IncludeRoles, Application: directory.LinuxSignIn, SignedInAt: now(), At: now(), Factors: map[string]time.Time{"pwd": now()}}
		d := Evaluate([]Policy{p}, s)
		if d.Missing != "" && d.Missing != Block || d.Allowed && (d.Lifetime < time.Minute || d.Lifetime > 24*time.Hour) || d.Allowed != (d.Missing == "") {
			t.Fatalf("%+v of %s", d, b)
		}
		if p.GrantControls == nil && !d.Allowed {
			t.Fatalf("a sign-in of this moment is refused by %s", b)
		}
	})
}

// normal is a policy without the difference between an empty list and none, and
// between clocks.
func normal(p Policy) string {
	p.CreatedAt, p.ModifiedAt = time.Time{}, time.Time{}
	b, _ := json.Marshal(p)
	return string(b)
}
