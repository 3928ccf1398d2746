package conditional

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
)

// full is a tenant with policies, as many as Graph answers.
type full struct{ policies int }

func (f full) EachConditionalPolicy(each func(Policy) error) error {
	for range f.policies {
		if err := each(everyone()); err != nil {
			return err
		}
	}
	return nil
}
func (full) ConditionalPolicyByID(string) (Policy, bool, error)                   { return Policy{}, false, nil }
func (full) PutConditionalPolicy(Policy) error                                    { return nil }
func (full) DeleteConditionalPolicy(string) (bool, error)                         { return false, nil }
func (full) Now() time.Time                                                       { return now() }
func (full) Audit(audit.By, audit.Event) error                                    { return nil }
func (full) Require(audit.By, string) error                                       { return nil }
func (full) Refuse(_ context.Context, _ audit.By, _ audit.Event, why error) error { return why }
func (f full) write(_ context.Context, run func(Tx) error) error                  { return run(f) }

// TestCreate_Bounds: what every sign-in is judged by has an end.
func TestCreate_Bounds(t *testing.T) {
	create := func(policies int, change func(*Policy)) error {
		f := full{policies}
		s := NewService(Config{Write: f.write, Index: NewIndex(), People: everybody{}, Role: func(string) bool { return true }, Rights: f, Rand: rand.Reader})
		p := everyone()
		p.Conditions.Applications = Applications{IncludeApplications: []string{directory.LinuxSignIn}}
		p.GrantControls = &GrantControls{Operator: "OR", BuiltInControls: []Control{Block}}
		change(&p)
		_, err := s.Create(t.Context(), audit.By{}, p)
		return err
	}
	if err := create(mostPolicies-1, func(*Policy) {}); err != nil {
		t.Fatal(err)
	}
	for says, err := range map[string]error{
		"a tenant has at most 195 Conditional Access policies. Delete one that is not needed.": create(mostPolicies, func(*Policy) {}),
		"the policy names more than 500 users, groups and roles. Name groups in the place of users.": create(0, func(p *Policy) {
			p.Conditions.Users = Users{IncludeUsers: slices.Repeat([]string{alice}, mostNames+1)}
		}),
		"an application is named twice.": create(0, func(p *Policy) {
			p.Conditions.Applications.ExcludeApplications = slices.Repeat([]string{directory.ARMAppID}, 4)
		}),
	} {
		if !fault.Is(err, fault.Invalid) || !strings.HasPrefix(fault.As(err).Public(), says) {
			t.Errorf("%v, want %s", err, says)
		}
	}
}
