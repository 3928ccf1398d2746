package directory

import "time"

// Well-known application ids: Azure's where Azure's clients have them built in.
const (
	AzureCLI        = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
	LinuxSignIn     = "ce6ff14a-7fdc-4685-bbe0-f6afdfcfa8e0" // "Azure Linux VM Sign-In"
	GraphPowerShell = "14d82eec-204b-4c2f-b7e8-296a70dab67e" // "Microsoft Graph Command Line Tools"
	GraphAppID      = "00000003-0000-0000-c000-000000000000" // Microsoft Graph
	ARMAppID        = "797f4846-ba00-4fd7-ba43-dac1f8f63013" // Resource Manager
	SallyCLI        = "5a11e9c1-0000-4000-8000-5a11e9c11001" // our own public client
	FirstPOSIXID    = 1879048192                             // host-facts: the last free block below 2^31
	LastPOSIXID     = 2147483599                             // the top of the block is for role groups
	// LastMachinePOSIXID leaves 2^24 ids to people and applications: each managed
	// identity is a new principal with an id of its own, and whoever may write one
	// machine could use them up by assigning and removing its identity.
	LastMachinePOSIXID = LastPOSIXID - 1<<24
)

// Tenant is the directory as a whole.
type Tenant struct {
	ID          string   `json:"id"` // GUID
	DisplayName string   `json:"displayName"`
	Domains     []string `json:"domains"` // verified, lower case; the first is the initial one
	CreatedAt   time.Time
}

// User is a person.
type User struct {
	ID           string // object id, GUID, lower case
	UPN          string // user principal name, lower case, closed alphabet
	DisplayName  string
	GivenName    string
	Surname      string
	Mail         string
	JobTitle     string
	MailNickname string
	MobilePhone  string
	Enabled      bool
	UID          uint32    // POSIX id, unique for ever
	NotBefore    time.Time // tokens and certificates issued before it are dead
	CreatedAt    time.Time
}

// MemberType says what a member of a group is.
type MemberType string

// The member types.
const (
	MemberUser             MemberType = "user"
	MemberGroup            MemberType = "group"
	MemberServicePrincipal MemberType = "servicePrincipal"
)

// Member is one direct membership.
type Member struct {
	GroupID string
	ID      string
	Type    MemberType
}

// Group is a security group.
type Group struct {
	ID           string
	DisplayName  string
	Description  string
	MailNickname string
	// RoleAssignable says that directory roles can be assigned to the group. It is
	// set when the group is made and never changes.
	RoleAssignable bool
	CreatedAt      time.Time
}

// Application is a registration: what a client is.
type Application struct {
	ID           string // object id
	AppID        string // client id
	DisplayName  string
	Public       bool     // has no secret: PKCE required
	RedirectURIs []string // exact, or http://localhost for any port on loopback
	BuiltIn      bool
	Owners       []string // object ids: the creator; may add credentials to it
	CreatedAt    time.Time
}

// ServicePrincipalType as Graph names it.
type ServicePrincipalType string

// The service principal types.
const (
	TypeApplication     ServicePrincipalType = "Application"
	TypeManagedIdentity ServicePrincipalType = "ManagedIdentity"
)

// ServicePrincipal is an application's or a machine's identity in the tenant.
type ServicePrincipal struct {
	ID          string // object id
	AppID       string
	DisplayName string
	Type        ServicePrincipalType
	Names       []string // servicePrincipalNames
	ResourceID  string   // of the machine, for a managed identity
	Enabled     bool
	UID         uint32
	NotBefore   time.Time
	CreatedAt   time.Time
}
