package conditional

import (
	"slices"
	"strings"

	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
)

// Bounds of a policy.
const (
	longestName = 256
	mostNames   = 500 // of users, groups and roles together
	mostHours   = 24
	longestDays = 365
)

// People says who exists; directory.Index satisfies it.
type People interface {
	User(id string) (directory.User, bool)
	Group(id string) (directory.Group, bool)
}

// refuse is Graph's error for a policy that cannot be taken.
func refuse(target, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "BadRequest", format, args...).WithTarget(target)
}

// check refuses a policy that this server would not enforce as it is written,
// and puts its lists into one form. Whom the policy named before, it may go on
// naming: who has been deleted since must not keep anybody from changing it.
func (p *Policy) check(people People, roles func(id string) bool, before Users) error {
	switch p.DisplayName = strings.TrimSpace(p.DisplayName); {
	case p.DisplayName == "" || len(p.DisplayName) > longestName:
		return refuse("displayName", "a policy has a displayName of 1 to %d characters.", longestName)
	case p.State != Enabled && p.State != Disabled && p.State != ReportOnly:
		return refuse("state", "the state of a policy is %s, %s or %s.", Enabled, Disabled, ReportOnly)
	}
	if err := p.Conditions.Users.check(people, roles, before.all()); err != nil {
		return err
	}
	if err := p.Conditions.Applications.check(); err != nil {
		return err
	}
	return p.checkControls()
}

func (p *Policy) checkControls() error {
	f := p.SessionControls.SignInFrequency
	if p.GrantControls == nil && (f == nil || !f.IsEnabled) {
		return refuse("sessionControls", "the policy asks for nothing.").
			WithRemedy("Give sessionControls.signInFrequency, or grantControls with block.")
	}
	if g := p.GrantControls; g != nil {
		if len(g.BuiltInControls) != 1 || g.BuiltInControls[0] != Block || g.Operator != "OR" && g.Operator != "AND" {
			return refuse("grantControls", "of the grant controls only block is enforced here, alone: a policy with another one would promise what does not happen.").
				WithRemedy(`Give {"operator": "OR", "builtInControls": ["block"]}, or null.`)
		}
		if !slices.Equal(p.Conditions.Applications.IncludeApplications, []string{directory.LinuxSignIn}) {
			return refuse("grantControls", "a policy that blocks is about the application %s (Azure Linux VM Sign-In) alone: it could lock out every administrator otherwise.", directory.LinuxSignIn).
				WithRemedy("Give conditions.applications.includeApplications with this one id.")
		}
	}
	if f == nil {
		return nil
	}
	return f.check()
}

func (f *Frequency) check() error {
	switch f.Interval {
	case "":
		f.Interval = TimeBased
	case TimeBased:
	case EveryTime:
		if f.Value != 0 || f.Type != "" {
			return refuse("sessionControls.signInFrequency", "with frequencyInterval everyTime, value and type are null.")
		}
		return nil
	default:
		return refuse("sessionControls.signInFrequency", "frequencyInterval is timeBased or everyTime.")
	}
	switch {
	case f.Type == Hours && f.Value >= 1 && f.Value <= mostHours, f.Type == Days && f.Value >= 1 && f.Value <= longestDays:
		return nil
	}
	return refuse("sessionControls.signInFrequency", "a sign-in frequency is 1 to %d hours or 1 to %d days.", mostHours, longestDays)
}

func (u Users) all() []string {
	return slices.Concat(u.IncludeUsers, u.ExcludeUsers, u.IncludeGroups, u.ExcludeGroups, u.IncludeRoles, u.ExcludeRoles)
}

func (u *Users) check(people People, roles func(id string) bool, before []string) error {
	if slices.Contains(u.IncludeUsers, All) && len(u.IncludeUsers) > 1 {
		return refuse("conditions.users.includeUsers", "All stands alone: whoever it is beside is among all.")
	}
	if len(u.IncludeUsers)+len(u.IncludeGroups)+len(u.IncludeRoles) == 0 {
		return refuse("conditions.users", "the policy is about nobody.").WithRemedy("Give includeUsers (All, or object ids), includeGroups or includeRoles.")
	}
	if len(u.all()) > mostNames {
		return refuse("conditions.users", "the policy names more than %d users, groups and roles.", mostNames).WithRemedy("Name groups in the place of users.")
	}
	isUser := func(id string) bool { _, ok := people.User(id); return ok }
	isGroup := func(id string) bool { _, ok := people.Group(id); return ok }
	for _, l := range []struct {
		name string
		ids  []string
		all  bool
		is   func(string) bool
		what string
	}{
		{"includeUsers", u.IncludeUsers, true, isUser, "user"}, {"excludeUsers", u.ExcludeUsers, false, isUser, "user"},
		{"includeGroups", u.IncludeGroups, false, isGroup, "group"}, {"excludeGroups", u.ExcludeGroups, false, isGroup, "group"},
		{"includeRoles", u.IncludeRoles, false, roles, "directory role"}, {"excludeRoles", u.ExcludeRoles, false, roles, "directory role"},
	} {
		for i, name := range l.ids {
			if l.all && name == All {
				continue
			}
			id, ok := guid.Parse(name)
			if !ok || !l.is(id) && !slices.Contains(before, id) {
				return refuse("conditions.users."+l.name, "%s: '%s' is no %s of this directory.", l.name, directory.Shown(name), l.what).WithRemedy("Give object ids; for roles, template ids.")
			}
			l.ids[i] = id
		}
	}
	return nil
}

func (a *Applications) check() error {
	if len(a.IncludeApplications) == 0 {
		return refuse("conditions.applications", "the policy is about no application.").WithRemedy("Give includeApplications: All, or application ids such as %s (Azure Linux VM Sign-In).", directory.LinuxSignIn)
	}
	if slices.Contains(a.IncludeApplications, All) && len(a.IncludeApplications) > 1 {
		return refuse("conditions.applications.includeApplications", "All stands alone: whoever it is beside is among all.")
	}
	if len(a.IncludeApplications)+len(a.ExcludeApplications) > 4 {
		return refuse("conditions.applications", "an application is named twice.")
	}
	for i, ids := range [][]string{a.IncludeApplications, a.ExcludeApplications} {
		for j, name := range ids {
			if i == 0 && name == All {
				continue
			}
			id, _ := guid.Parse(name)
			if id != directory.LinuxSignIn && id != directory.ARMAppID {
				return refuse("conditions.applications", "the application '%s' is none that a policy can be about here.", directory.Shown(name)).
					WithRemedy("Policies are about All, %s (Azure Linux VM Sign-In) or %s (Resource Manager).", directory.LinuxSignIn, directory.ARMAppID)
			}
			ids[j] = id
		}
	}
	return nil
}
