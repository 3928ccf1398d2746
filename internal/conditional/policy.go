package conditional

import (
	"strconv"
	"strings"
	"time"
)

// State of a policy, Graph's conditionalAccessPolicyState.
type State string

// The states. ReportOnly policies are evaluated and reported, never enforced.
const (
	Enabled    State = "enabled"
	Disabled   State = "disabled"
	ReportOnly State = "enabledForReportingButNotEnforced"
)

// All matches everybody or every application.
const All = "All"

// Control is a grant control, Graph's conditionalAccessGrantControl.
type Control string

// The controls that Graph names.
const (
	Block            Control = "block"
	MFA              Control = "mfa"
	CompliantDevice  Control = "compliantDevice"
	DomainJoined     Control = "domainJoinedDevice"
	PasswordChange   Control = "passwordChange"
	SignInFrequency  Control = "signInFrequency" // a session control; named so in Decision
	UnknownCondition Control = "unknown"         // the policy holds what this build cannot judge
)

// Policy is one Conditional Access policy.
type Policy struct {
	ID              string          `json:"id"`
	DisplayName     string          `json:"displayName"`
	State           State           `json:"state"`
	Conditions      Conditions      `json:"conditions"`
	GrantControls   *GrantControls  `json:"grantControls,omitempty"`
	SessionControls SessionControls `json:"sessionControls"`
	CreatedAt       time.Time       `json:"createdDateTime"`
	ModifiedAt      time.Time       `json:"modifiedDateTime"` // zero: never since
}

// NamesRoles reports whether who the policy is about depends on directory roles.
func (p Policy) NamesRoles() bool {
	return len(p.Conditions.Users.IncludeRoles)+len(p.Conditions.Users.ExcludeRoles) > 0
}

// Conditions say whom and what a policy is about.
type Conditions struct {
	Users        Users        `json:"users"`
	Applications Applications `json:"applications"`
}

// Users by object id; roles by directory role template id. "All" in
// IncludeUsers means every user.
type Users struct {
	IncludeUsers  []string `json:"includeUsers"`
	ExcludeUsers  []string `json:"excludeUsers"`
	IncludeGroups []string `json:"includeGroups"`
	ExcludeGroups []string `json:"excludeGroups"`
	IncludeRoles  []string `json:"includeRoles"`
	ExcludeRoles  []string `json:"excludeRoles"`
}

// Applications by client id of the resource that is asked for.
type Applications struct {
	IncludeApplications []string `json:"includeApplications"`
	ExcludeApplications []string `json:"excludeApplications"`
}

// GrantControls say what is needed: all of them (AND) or one of them (OR).
type GrantControls struct {
	Operator        string    `json:"operator"`
	BuiltInControls []Control `json:"builtInControls"`
}

// SessionControls bound what a grant is worth.
type SessionControls struct {
	SignInFrequency *Frequency `json:"signInFrequency,omitempty"`
	// CertificateLifetime in seconds is ours: the longest life of a certificate
	// under this policy.
	CertificateLifetime int64 `json:"certificateLifetime,omitempty"`
}

// Frequency is Graph's signInFrequencySessionControl.
type Frequency struct {
	IsEnabled bool     `json:"isEnabled"`
	Value     int      `json:"value"`
	Type      string   `json:"type"`              // Hours or Days; empty with EveryTime
	Interval  Interval `json:"frequencyInterval"` // empty is TimeBased
}

// The units of a frequency.
const (
	Hours = "hours"
	Days  = "days"
)

// Interval is Graph's signInFrequencyInterval.
type Interval string

// The intervals.
const (
	TimeBased Interval = "timeBased"
	EveryTime Interval = "everyTime"
)

// everyTime is how old a sign-in may be where one is wanted every time: the way
// from the page to the certificate takes a moment. Entra allows as much.
const everyTime = 5 * time.Minute

// ahead is how far the clock of the server that saw a sign-in may be before ours.
// One that lies further in the future stays fresh until then: a clock that was
// wrong for a moment must not exempt from a policy.
const ahead = 5 * time.Minute

// limit returns the longest age of a sign-in; known is false for a unit or an
// interval that this build does not know.
func (f Frequency) limit() (age time.Duration, known bool) {
	switch {
	case f.Interval == EveryTime:
		return everyTime, true
	case f.Interval != TimeBased && f.Interval != "" || f.Value <= 0 || f.Value > longestDays*24:
		return 0, false
	case f.Type == Hours:
		return time.Duration(f.Value) * time.Hour, true
	case f.Type == Days:
		return time.Duration(f.Value) * 24 * time.Hour, true
	}
	return 0, false
}

// String is the frequency in words, for sentences.
func (f Frequency) String() string {
	unit := strings.TrimSuffix(f.Type, "s")
	switch {
	case f.Interval == EveryTime:
		return "a sign-in every time"
	case f.Value == 1:
		return "a sign-in that is not older than 1 " + unit
	}
	return "a sign-in that is not older than " + strconv.Itoa(f.Value) + " " + unit + "s"
}
