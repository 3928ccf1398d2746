package types

import (
	"encoding/json"

	"sallyport/internal/audit"
	"sallyport/internal/resource"
)

// identityProperties is what a user-assigned identity shows; all of it is the
// server's.
type identityProperties struct {
	TenantID    string `json:"tenantId,omitempty"`
	PrincipalID string `json:"principalId,omitempty"`
	ClientID    string `json:"clientId,omitempty"`

	IsolationScope json.RawMessage `json:"isolationScope,omitempty"` // refused
	Restrictions   json.RawMessage `json:"assignmentRestrictions,omitempty"`
}

// userIdentityType is a managed identity that is a resource of its own: a service
// principal of the directory, which machines that it is assigned to may act as.
func userIdentityType() resource.Type {
	return resource.Type{Name: UserIdentity, Title: "user-assigned identity", Located: true, Principal: true, Shape: identityProperties{},
		Check: func(d *resource.Draft) error {
			var p identityProperties
			return checked(d, &p, "properties of a user-assigned identity", func() error {
				if scope := string(p.IsolationScope); !empty(p.IsolationScope) && scope != `"None"` {
					return noEffect("isolationScope", "an identity can be used in every location")
				}
				if !empty(p.Restrictions) {
					return noEffect("assignmentRestrictions", "roles say who may assign it")
				}
				p = identityProperties{}
				return nil
			})
		},
		Store: func(_ resource.Tx, _ audit.By, c *resource.Change) error {
			if c.New == nil || c.New.Identity == nil {
				return nil
			}
			i := c.New.Identity
			return c.New.WriteProperties(identityProperties{TenantID: i.TenantID, PrincipalID: i.PrincipalID, ClientID: i.ClientID})
		},
	}
}
