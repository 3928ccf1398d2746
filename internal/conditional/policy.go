package conditional

import "time"

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
	IsEnabled bool   `json:"isEnabled"`
	Value     int    `json:"value"`
	Type      string `json:"type"` // "hours" or "days"
}

// limit returns the longest age of a sign-in; known is false for a unit that
// this build does not know.
func (f Frequency) limit() (age time.Duration, known bool) {
	switch f.Type {
	case "hours":
		return time.Duration(f.Value) * time.Hour, f.Value > 0
	case "days":
		return time.Duration(f.Value) * 24 * time.Hour, f.Value > 0
	}
	return 0, false
}
