package rbac

import (
	"time"

	"sallyport/internal/scope"
)

// Built-in role ids: Azure's GUIDs.
const (
	Owner                   = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
	Contributor             = "b24988ac-6180-42a0-ab88-20f7382dd24c"
	Reader                  = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	UserAccessAdministrator = "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9"
	VMAdministratorLogin    = "1c0163c0-47e6-4577-8991-ea5c82e286e4"
	VMUserLogin             = "fb879df8-f326-4884-b1cf-06f3ad86be52"
)

// Directory role template ids: Entra's GUIDs.
const (
	GlobalAdministrator         = "62e90394-69f5-4237-9190-012177145e10"
	UserAdministrator           = "fe930be7-5e62-47db-91af-98c3a49a38b1"
	ApplicationAdministrator    = "9b895d92-2cd3-44c7-9d02-a6ac2d5ea5c3"
	AuthenticationAdministrator = "c4e39bd9-1100-46d3-8c65-fb160da0071f"
	SecurityAdministrator       = "194ae4cb-b126-40b2-bd5b-6091b380977d"
	GlobalReader                = "f2ef992c-3afb-46b9-b7cf-a126ee74c451"
)

// The data actions that open a machine: those of virtual machines, and those of
// machines that joined from elsewhere (Azure Arc's).
const (
	ActionLogin              = "Microsoft.Compute/virtualMachines/login/action"
	ActionLoginAsAdmin       = "Microsoft.Compute/virtualMachines/loginAsAdmin/action"
	ActionHybridLogin        = "Microsoft.HybridCompute/machines/login/action"
	ActionHybridLoginAsAdmin = "Microsoft.HybridCompute/machines/loginAsAdmin/action"
)

// Permission is one block of a role definition. Patterns may hold '*'.
type Permission struct {
	Actions        []string `json:"actions"`
	NotActions     []string `json:"notActions"`
	DataActions    []string `json:"dataActions"`
	NotDataActions []string `json:"notDataActions"`
}

// Definition is a role.
type Definition struct {
	ID               string // GUID
	Name             string // "Virtual Machine User Login"
	Description      string
	BuiltIn          bool
	Directory        bool // a directory role: assigned at scope.Directory only
	Permissions      []Permission
	AssignableScopes []string // "/" alone for a built-in role

	CreatedAt time.Time // the rest is of custom roles only
	CreatedBy string
	UpdatedAt time.Time
	UpdatedBy string
}

// Assignment gives a role to a principal at a scope and everything below it.
type Assignment struct {
	ID            string // GUID, the assignment's name
	Scope         scope.ID
	RoleID        string
	PrincipalID   string
	PrincipalType string // User, Group, ServicePrincipal
	Description   string
	CreatedAt     time.Time
	CreatedBy     string
	UpdatedAt     time.Time
	UpdatedBy     string
}

// Query asks whether any of Principals may do Action at Scope.
type Query struct {
	Principals []string // object ids: the caller and its groups
	Scope      scope.ID
	Action     string
	Data       bool // Action is a data action
}

// Decision is the answer with its reason: the assignment that allowed it.
type Decision struct {
	Allowed    bool
	Assignment *Assignment
	Role       *Definition
}
