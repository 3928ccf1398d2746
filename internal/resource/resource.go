package resource

import (
	"encoding/json"
	"fmt"
	"time"

	"sallyport/internal/scope"
)

// The provisioning states, with Azure's names.
const (
	Creating  = "Creating"
	Updating  = "Updating"
	Deleting  = "Deleting"
	Succeeded = "Succeeded"
	Failed    = "Failed"
)

// The types that the engine itself relies on.
const (
	TypeSubscription    = "Microsoft.Resources/subscriptions"
	TypeGroup           = "Microsoft.Resources/resourceGroups"
	TypeManagementGroup = "Microsoft.Management/managementGroups"
)

// Identity is what a resource acts as: its own managed identity, and those that
// were assigned to it.
type Identity struct {
	Type        string `json:"type"`
	PrincipalID string `json:"principalId"` // of its own, "" for none
	TenantID    string `json:"tenantId"`
	// ClientID is the application id, of a resource that is an identity itself.
	ClientID string     `json:"clientId,omitempty"`
	Assigned []Assigned `json:"assigned,omitempty"`
}

// Assigned is a user-assigned identity. Its principal is the one that was assigned:
// another identity that takes its name later is another principal.
type Assigned struct {
	ID          string `json:"id"`
	PrincipalID string `json:"principalId"`
	ClientID    string `json:"clientId"`
}

// The kinds of identities. SystemAssigned lives and dies with its resource,
// UserAssigned is a resource of its own.
const (
	SystemAssigned = "SystemAssigned"
	UserAssigned   = "UserAssigned"
	bothAssigned   = SystemAssigned + ", " + UserAssigned
)

// Failure is why a resource or operation failed, for people.
type Failure struct {
	Code    string    `json:"code"`
	Message string    `json:"message"`
	Target  string    `json:"target,omitempty"`
	Details []Failure `json:"details,omitempty"` // of what failed inside
}

// Resource is one resource as stored.
type Resource struct {
	ID         scope.ID
	Location   string
	Tags       map[string]string
	Identity   *Identity
	Top        json.RawMessage // further top-level fields that the type keeps, an object or nil
	Properties json.RawMessage // validated and normalized
	Private    json.RawMessage // for the server only, never shown
	Above      string          // id of what encloses a subscription or management group, "" for others
	ETag       string
	Revision   int64     // what is wanted; grows with each write that must be reconciled
	Observed   int64     // the newest revision that was reached or failed
	WantedAt   time.Time // when Revision was set
	State      string    // provisioning state
	Error      *Failure  // with State Failed
	CreatedAt  time.Time
	ChangedAt  time.Time
}

// Behind reports whether the resource waits for a worker.
func (r *Resource) Behind() bool { return r.Observed < r.Revision }

// want asks for a new revision.
func (r *Resource) want(state string, now time.Time) {
	r.Revision++
	r.WantedAt = now
	r.State = state
	r.Error = nil
}

// Want asks for a new revision of a resource, "Updating" unless it is on its
// way in or out already, and gives it a new ETag. The caller stores it.
func (r *Resource) Want(now time.Time) {
	state := Updating
	if r.State == Creating || r.State == Deleting {
		state = r.State
	}
	r.want(state, now)
	r.Touch(now)
}

// Touch gives the resource a new ETag: its incarnation and a counter in it.
func (r *Resource) Touch(now time.Time) {
	var born, n int64
	if _, err := fmt.Sscanf(r.ETag, `W/"%x-%x"`, &born, &n); err != nil {
		born, n = now.UnixMicro(), 0
	}
	r.ETag = fmt.Sprintf(`W/"%x-%x"`, born, n+1)
	r.ChangedAt = now
}

// Writes is how often the resource was written.
func (r *Resource) Writes() int64 {
	var born, n int64
	if _, err := fmt.Sscanf(r.ETag, `W/"%x-%x"`, &born, &n); err != nil {
		return 1
	}
	return n
}

// ReadPrivate decodes the private part; a resource without one leaves v alone.
func (r *Resource) ReadPrivate(v any) error {
	if len(r.Private) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.Private, v); err != nil {
		return fmt.Errorf("private part of %s: %w", r.ID, err)
	}
	return nil
}

// WritePrivate replaces the private part.
func (r *Resource) WritePrivate(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("private part of %s: %w", r.ID, err)
	}
	r.Private = b
	return nil
}

// ReadProperties decodes the properties as the type stored them.
func (r *Resource) ReadProperties(v any) error {
	if len(r.Properties) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.Properties, v); err != nil {
		return fmt.Errorf("properties of %s: %w", r.ID, err)
	}
	return nil
}

// WriteProperties replaces the properties.
func (r *Resource) WriteProperties(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("properties of %s: %w", r.ID, err)
	}
	r.Properties = b
	return nil
}
