package conditional

import (
	"encoding/json"
	"testing"
	"time"
)

const (
	alice = "33333333-3333-3333-3333-333333333333"
	app   = "ce6ff14a-7fdc-4685-bbe0-f6afdfcfa8e0"
)

func now() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func signals() Signals {
	return Signals{User: alice, Groups: []string{"g1"}, Roles: []string{"r1"}, Application: app, SignedInAt: now().Add(-time.Hour), Factors: map[string]time.Time{"pwd": now()}, At: now()}
}

func everyone(controls ...Control) Policy {
	p := Policy{ID: "p1", DisplayName: "P1", State: Enabled, Conditions: Conditions{Users{IncludeUsers: []string{All}}, Applications{IncludeApplications: []string{All}}}}
	if len(controls) > 0 {
		p.GrantControls = &GrantControls{Operator: "AND", BuiltInControls: controls}
	}
	return p
}

func TestEvaluate_NoPolicyAllowsOneHour(t *testing.T) {
	d := Evaluate(nil, signals())
	if !d.Allowed || d.Lifetime != time.Hour || d.Revision != "default" {
		t.Fatalf("%+v", d)
	}
}

func TestEvaluate_WhoAndWhat(t *testing.T) {
	block := func(c Conditions) Policy {
		p := everyone(Block)
		p.Conditions = c
		return p
	}
	all := Applications{IncludeApplications: []string{All}}
	cases := map[string]struct {
		c       Conditions
		blocked bool
	}{
		"everybody":               {Conditions{Users{IncludeUsers: []string{All}}, all}, true},
		"this user":               {Conditions{Users{IncludeUsers: []string{alice}}, all}, true},
		"another user":            {Conditions{Users{IncludeUsers: []string{"x"}}, all}, false},
		"by group":                {Conditions{Users{IncludeGroups: []string{"g1"}}, all}, true},
		"by role":                 {Conditions{Users{IncludeRoles: []string{"r1"}}, all}, true},
		"excluded user":           {Conditions{Users{IncludeUsers: []string{All}, ExcludeUsers: []string{alice}}, all}, false},
		"excluded group":          {Conditions{Users{IncludeUsers: []string{All}, ExcludeGroups: []string{"g1"}}, all}, false},
		"excluded role":           {Conditions{Users{IncludeUsers: []string{All}, ExcludeRoles: []string{"r1"}}, all}, false},
		"nobody named":            {Conditions{Users{}, all}, false},
		"this application":        {Conditions{Users{IncludeUsers: []string{All}}, Applications{IncludeApplications: []string{app}}}, true},
		"another application":     {Conditions{Users{IncludeUsers: []string{All}}, Applications{IncludeApplications: []string{"x"}}}, false},
		"excluded application":    {Conditions{Users{IncludeUsers: []string{All}}, Applications{IncludeApplications: []string{All}, ExcludeApplications: []string{app}}}, false},
		"no application included": {Conditions{Users{IncludeUsers: []string{All}}, Applications{}}, false},
	}
	for name, c := range cases {
		d := Evaluate([]Policy{block(c.c)}, signals())
		if d.Allowed == c.blocked {
			t.Errorf("%s: %+v", name, d)
		}
		if c.blocked && (d.Missing != Block || d.PolicyID != "p1" || d.Lifetime != 0) {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestEvaluate_Controls(t *testing.T) {
	strong := signals()
	strong.Factors = map[string]time.Time{"pwd": now(), "otp": now()}
	either := everyone(MFA, CompliantDevice)
	either.GrantControls.Operator = "OR"
	noOperator := everyone(MFA)
	noOperator.GrantControls.Operator = ""
	empty := everyone(MFA)
	empty.GrantControls.BuiltInControls = nil
	odd := everyone()
	odd.State = "on"
	cases := map[string]struct {
		p       Policy
		s       Signals
		missing Control
	}{
		"mfa with password only":        {everyone(MFA), signals(), MFA},
		"mfa with two factors":          {everyone(MFA), strong, ""},
		"device is never met":           {everyone(CompliantDevice), strong, CompliantDevice},
		"all of two":                    {everyone(MFA, CompliantDevice), strong, CompliantDevice},
		"one of two":                    {either, strong, ""},
		"none of two":                   {either, signals(), MFA},
		"a control nobody knows":        {everyone("retinaScan"), strong, "retinaScan"},
		"an operator nobody knows":      {noOperator, strong, UnknownCondition},
		"no control at all":             {empty, strong, UnknownCondition},
		"a state nobody knows":          {odd, strong, UnknownCondition},
		"block beats others in one set": {everyone(MFA, Block), strong, Block},
	}
	for name, c := range cases {
		d := Evaluate([]Policy{c.p}, c.s)
		if d.Missing != c.missing || d.Allowed != (c.missing == "") {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestEvaluate_BlockIsNamedBeforeOtherControls(t *testing.T) {
	second := everyone(Block)
	second.ID = "p2"
	if d := Evaluate([]Policy{everyone(MFA), second}, signals()); d.Missing != Block || d.PolicyID != "p2" {
		t.Fatalf("%+v", d)
	}
}

func TestEvaluate_DisabledAndReportOnlyDoNotRefuse(t *testing.T) {
	off, report := everyone(Block), everyone(Block)
	off.State, report.State, report.ID = Disabled, ReportOnly, "p2"
	d := Evaluate([]Policy{off, report}, signals())
	if !d.Allowed || len(d.WouldDeny) != 1 || d.WouldDeny[0] != "p2" {
		t.Fatalf("%+v", d)
	}
}

func TestEvaluate_SignInFrequency(t *testing.T) {
	for _, c := range []struct {
		f  Frequency
		ok bool
	}{
		{Frequency{true, 2, Hours, TimeBased}, true}, {Frequency{true, 1, Days, TimeBased}, true}, {Frequency{false, 0, "", ""}, true},
		{Frequency{true, 1, "fortnights", TimeBased}, false}, {Frequency{true, 0, Hours, TimeBased}, false}, {Frequency{true, 1, Hours, TimeBased}, true}, {Frequency{true, 1, Hours, ""}, true},
		{Frequency{true, 2, Hours, "sometimes"}, false}, {Frequency{true, 0, "", EveryTime}, false}, {Frequency{true, 1 << 40, Hours, TimeBased}, false},
	} {
		p := everyone()
		p.SessionControls.SignInFrequency = &c.f
		if d := Evaluate([]Policy{p}, signals()); d.Allowed != c.ok {
			t.Errorf("%+v: %+v", c.f, d)
		}
	}
	old := signals()
	old.SignedInAt = now().Add(-61 * time.Minute)
	p := everyone()
	p.SessionControls.SignInFrequency = &Frequency{true, 1, Hours, TimeBased}
	if d := Evaluate([]Policy{p}, old); d.Missing != SignInFrequency {
		t.Errorf("%+v", d)
	}
	for from, fresh := range map[time.Duration]bool{5 * time.Minute: true, 6 * time.Minute: false} {
		old.SignedInAt = now().Add(from)
		if d := Evaluate([]Policy{p}, old); d.Allowed != fresh {
			t.Errorf("a sign-in of %s from now: %+v", from, d)
		}
	}
	old.SignedInAt = time.Time{}
	if d := Evaluate([]Policy{p}, old); d.Missing != SignInFrequency {
		t.Errorf("unknown sign-in time: %+v", d)
	}
}

func TestEvaluate_CertificateLifetime(t *testing.T) {
	with := func(id string, seconds int64) Policy {
		p := everyone()
		p.ID, p.SessionControls.CertificateLifetime = id, seconds
		return p
	}
	cases := []struct {
		p    []Policy
		want time.Duration
		rev  string
	}{
		{[]Policy{with("a", 600)}, 10 * time.Minute, "a"},
		{[]Policy{with("a", 8*3600)}, 8 * time.Hour, "a"},
		{[]Policy{with("a", 8*3600), with("b", 600)}, 10 * time.Minute, "b"},
		{[]Policy{with("a", 600), with("b", 8*3600)}, 10 * time.Minute, "a"},
		{[]Policy{with("a", 1)}, time.Minute, "a"},
		{[]Policy{with("a", 1<<40)}, 24 * time.Hour, "a"},
		{[]Policy{with("a", -5)}, time.Minute, "a"},
	}
	for _, c := range cases {
		if d := Evaluate(c.p, signals()); d.Lifetime != c.want || d.Revision != c.rev {
			t.Errorf("%+v", d)
		}
	}
}

func FuzzEvaluate_NeverAllowsThroughABlock(f *testing.F) {
	f.Add([]byte(`[{"id":"x","state":"enabled","conditions":{"users":{"includeUsers":["All"]},"applications":{"includeApplications":["All"]}},"grantControls":{"operator":"OR","builtInControls":["mfa"]}}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p []Policy
		if json.Unmarshal(b, &p) != nil {
			return
		}
		if Evaluate(append(p, everyone(Block)), signals()).Allowed {
			t.Fatal("allowed through a block")
		}
	})
}

// TestEvaluate_CertificateEndsWithTheSignIn: a certificate does not outlive what a
// policy allows the sign-in to be old.
func TestEvaluate_CertificateEndsWithTheSignIn(t *testing.T) {
	with := func(id string, f Frequency) Policy {
		p := everyone()
		p.ID, p.SessionControls.SignInFrequency = id, &f
		return p
	}
	for name, c := range map[string]struct {
		policies []Policy
		life     time.Duration
		revision string
	}{
		"the shortest counts":           {[]Policy{with("a", Frequency{true, 3, Hours, TimeBased}), with("b", Frequency{true, 2, Hours, TimeBased})}, 40 * time.Minute, "b"},
		"more is left than a life":      {[]Policy{with("a", Frequency{true, 1, Days, TimeBased})}, time.Hour, "default"},
		"a policy that is switched off": {[]Policy{with("a", Frequency{false, 1, Hours, TimeBased})}, time.Hour, "default"},
	} {
		s := signals()
		s.SignedInAt = now().Add(-80 * time.Minute)
		if d := Evaluate(c.policies, s); !d.Allowed || d.Lifetime != c.life || d.Revision != c.revision {
			t.Errorf("%s: %+v", name, d)
		}
	}
	s := signals()
	s.SignedInAt = now().Add(-2*time.Hour + time.Second)
	if d := Evaluate([]Policy{with("a", Frequency{true, 2, Hours, TimeBased})}, s); d.Lifetime != time.Minute {
		t.Errorf("the last second: %+v", d)
	}
	s.SignedInAt = now().Add(-4 * time.Minute)
	if d := Evaluate([]Policy{with("a", Frequency{true, 0, "", EveryTime})}, s); !d.Allowed || d.Lifetime != time.Hour {
		t.Errorf("every time: %+v", d)
	}
	report := with("r", Frequency{true, 2, Hours, TimeBased})
	report.State = ReportOnly
	s.SignedInAt = now().Add(-90 * time.Minute)
	if d := Evaluate([]Policy{report}, s); d.Lifetime != time.Hour {
		t.Errorf("a report-only policy shortens: %+v", d)
	}
}

func TestApplying(t *testing.T) {
	off, other := everyone(Block), everyone(Block)
	off.State, other.Conditions.Users.ExcludeUsers = Disabled, []string{alice}
	report := everyone(Block)
	report.State, report.ID = ReportOnly, "r"
	if got := Applying([]Policy{off, other, report, everyone()}, signals()); len(got) != 2 || got[0].ID != "r" {
		t.Errorf("%+v", got)
	}
}

func TestFrequency_InWords(t *testing.T) {
	for want, f := range map[string]Frequency{"a sign-in every time": {Interval: EveryTime}, "a sign-in that is not older than 1 day": {Value: 1, Type: Days}, "a sign-in that is not older than 4 hours": {Value: 4, Type: Hours}} {
		if f.String() != want {
			t.Errorf("%q", f.String())
		}
	}
}
