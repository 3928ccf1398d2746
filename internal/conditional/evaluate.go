package conditional

import (
	"slices"
	"time"
)

// DefaultLifetime is a certificate's life where no policy says otherwise.
const DefaultLifetime = time.Hour

// The longest and shortest life that a policy can give, as the certificate
// profile bounds it.
const (
	minSeconds = int64(time.Minute / time.Second)
	maxSeconds = int64(24 * time.Hour / time.Second)
)

// Signals are the facts of one request. Factors maps the name of a factor
// ("pwd", "otp", ...) to when it was proven.
type Signals struct {
	User        string   // object id
	Groups      []string // transitive
	Roles       []string // directory role template ids
	Application string   // client id of the resource that is asked for
	SignedInAt  time.Time
	Factors     map[string]time.Time
	At          time.Time
}

// Decision is the answer. When Allowed is false, Missing names the control and
// PolicyID the policy; Lifetime then is zero.
type Decision struct {
	Allowed    bool
	Missing    Control
	PolicyID   string
	PolicyName string
	Lifetime   time.Duration // longest life of a certificate
	Revision   string        // which policies applied, for the certificate and the audit record
	WouldDeny  []string      // ids of report-only policies that would have refused
}

// Evaluate judges every policy. A block wins over any other missing control;
// otherwise the first policy in order that is not satisfied is named. With no
// policy the answer is yes, with DefaultLifetime.
func Evaluate(policies []Policy, s Signals) Decision {
	d := Decision{Allowed: true, Lifetime: DefaultLifetime, Revision: "default"}
	left := lasting{}
	for _, p := range policies {
		if p.State == Disabled || !applies(p.Conditions, s) {
			continue
		}
		missing, ok := judge(p, s)
		if p.State == ReportOnly {
			if !ok {
				d.WouldDeny = append(d.WouldDeny, p.ID)
			}
			continue
		}
		if !ok && (d.Allowed || missing == Block && d.Missing != Block) {
			d.Allowed, d.Missing, d.PolicyID, d.PolicyName = false, missing, p.ID, p.DisplayName
		}
		d.shorten(p)
		left.take(p, s)
	}
	if !d.Allowed {
		d.Lifetime = 0
	} else if left.policy != "" && left.life < d.Lifetime {
		d.Lifetime, d.Revision = left.life, left.policy
	}
	return d
}

// Applying returns the policies that are in force or in report-only state for a
// request, without judging them.
func Applying(policies []Policy, s Signals) []Policy {
	return slices.DeleteFunc(slices.Clone(policies), func(p Policy) bool { return p.State == Disabled || !applies(p.Conditions, s) })
}

// lasting is how long a certificate can live before the sign-in that it rests on
// is older than a policy allows.
type lasting struct {
	life   time.Duration
	policy string
}

// take takes one policy into account. A minute is left in any case, so that a
// sign-in which still counts gives a certificate that can be used.
func (l *lasting) take(p Policy, s Signals) {
	f := p.SessionControls.SignInFrequency
	if f == nil || !f.IsEnabled || f.Interval == EveryTime {
		return
	}
	age, _ := f.limit()
	if life := max(age-s.At.Sub(s.SignedInAt), time.Duration(minSeconds)*time.Second); l.policy == "" || life < l.life {
		l.life, l.policy = life, p.ID
	}
}

// shorten applies a policy's lifetime: the first one replaces the default, which
// may lengthen it; after that the shortest wins.
func (d *Decision) shorten(p Policy) {
	if p.SessionControls.CertificateLifetime == 0 {
		return
	}
	// Bounded before it becomes a Duration: a huge number must not wrap.
	seconds := min(max(p.SessionControls.CertificateLifetime, minSeconds), maxSeconds)
	life := time.Duration(seconds) * time.Second
	if d.Revision == "default" || life < d.Lifetime {
		d.Lifetime, d.Revision = life, p.ID
	}
}

// applies reports whether a policy is about this request. Exclusion wins.
func applies(c Conditions, s Signals) bool {
	u := c.Users
	if slices.Contains(u.ExcludeUsers, s.User) || overlaps(u.ExcludeGroups, s.Groups) || overlaps(u.ExcludeRoles, s.Roles) {
		return false
	}
	if slices.Contains(c.Applications.ExcludeApplications, s.Application) {
		return false
	}
	who := slices.Contains(u.IncludeUsers, All) || slices.Contains(u.IncludeUsers, s.User) || overlaps(u.IncludeGroups, s.Groups) || overlaps(u.IncludeRoles, s.Roles)
	what := slices.Contains(c.Applications.IncludeApplications, All) || slices.Contains(c.Applications.IncludeApplications, s.Application)
	return who && what
}

func overlaps(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool { return slices.Contains(b, x) })
}

// judge reports whether one policy is satisfied, and the control that is not.
func judge(p Policy, s Signals) (Control, bool) {
	if p.State != Enabled && p.State != ReportOnly {
		return UnknownCondition, false
	}
	if g := p.GrantControls; g != nil {
		if missing, ok := grants(*g, s); !ok {
			return missing, false
		}
	}
	f := p.SessionControls.SignInFrequency
	if f == nil || !f.IsEnabled {
		return "", true
	}
	age, known := f.limit()
	if !known {
		return UnknownCondition, false
	}
	if s.SignedInAt.IsZero() || s.At.Sub(s.SignedInAt) > age || s.SignedInAt.Sub(s.At) > ahead {
		return SignInFrequency, false
	}
	return "", true
}

func grants(g GrantControls, s Signals) (Control, bool) {
	if slices.Contains(g.BuiltInControls, Block) {
		return Block, false
	}
	if g.Operator != "AND" && g.Operator != "OR" || len(g.BuiltInControls) == 0 {
		return UnknownCondition, false
	}
	var missing Control
	met := 0
	for _, c := range g.BuiltInControls {
		if has(c, s) {
			met++
		} else if missing == "" {
			missing = c
		}
	}
	if met == len(g.BuiltInControls) || g.Operator == "OR" && met > 0 {
		return "", true
	}
	return missing, false
}

// has reports whether one control is met. Devices are not known to any signal,
// so the device controls are never met.
func has(c Control, s Signals) bool {
	if c != MFA {
		return false
	}
	// Multi-factor means a factor besides the password.
	for name := range s.Factors {
		if name != "pwd" {
			return true
		}
	}
	return false
}
