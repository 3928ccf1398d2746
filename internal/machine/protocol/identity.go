package protocol

// The requests below are about the machine's managed identities. Which those are
// the server knows from the machine's resource; what a machine names chooses among
// them. They came after the first version; a server that lacks them answers 404.

// IdentityTokenRequest is POST /machine/v1/token: an access token of the
// machine's managed identity.
type IdentityTokenRequest struct {
	Resource string `json:"resource"` // whom it is for: https://HOST/arm, https://graph.microsoft.com, ...
	Caller   string `json:"caller"`   // the local account that asked, for the record
	// From capability 6 on: which identity is meant, by what whoever asked gave of it.
	// With none of them it is the machine's own, or the only one that it has.
	ClientID   string `json:"clientId,omitempty"`
	ObjectID   string `json:"objectId,omitempty"`
	ResourceID string `json:"resourceId,omitempty"`
}

// IdentityCapability is the first version of the protocol that knows identities
// which are no machine's own.
const IdentityCapability = 6

// IdentityToken is the answer to both requests. Times are seconds since 1970.
type IdentityToken struct {
	TokenType   string `json:"tokenType"` // Bearer, or ssh-cert
	AccessToken string `json:"accessToken"`
	ExpiresIn   int64  `json:"expiresIn"`
	NotBefore   int64  `json:"notBefore"`
	Resource    string `json:"resource,omitempty"`
	ClientID    string `json:"clientId"`
	ObjectID    string `json:"objectId"`
}

// IdentityCertificateRequest is POST /machine/v1/certificate: an SSH user
// certificate of the machine's managed identity, for a key that whoever asked on
// the machine has made.
type IdentityCertificateRequest struct {
	Confirmation string `json:"confirmation"`      // req_cnf: a JSON Web Key
	KeyID        string `json:"keyId,omitempty"`   // opaque
	Machine      string `json:"machine,omitempty"` // the one machine it shall be good for
	Caller       string `json:"caller"`
}

// Instance is GET /machine/v1/instance: what the machine's resource says of it.
type Instance struct {
	MachineID  string            `json:"machineId"`
	ResourceID string            `json:"resourceId"`
	Location   string            `json:"location"`
	Size       string            `json:"size"`
	Tags       map[string]string `json:"tags"`
	Hostname   string            `json:"hostname"`
	AdminName  string            `json:"adminName,omitempty"`
	Passwords  bool              `json:"passwords,omitempty"` // its sshd takes the administrator's password
	ClientID   string            `json:"clientId,omitempty"`  // of the managed identity; empty without one
	ObjectID   string            `json:"objectId,omitempty"`
	// Environment is the name of the deployment's cloud in a machine's metadata;
	// empty for the global one, which older agents know nothing else of.
	Environment string `json:"environment,omitempty"`
}

// MaxCaller bounds the text that names a caller.
const MaxCaller = 255
