package client

import (
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

// Profile is what the command line remembers, apart from tokens.
type Profile struct {
	Server   string         `json:"server"` // URL of the server last signed in to
	Servers  []ServerRecord `json:"servers"`
	Accounts []Account      `json:"accounts"`
}

// ServerRecord is a server that this person trusts.
type ServerRecord struct {
	URL       string                  `json:"url"`
	Pin       string                  `json:"pin"`               // thumbprint of the manifest key
	Address   string                  `json:"address,omitempty"` // HOST:PORT to dial instead of the URL's
	Manifest  protocol.SignedManifest `json:"manifest"`
	Endpoints map[string]Endpoints    `json:"endpoints,omitempty"` // by tenant
}

// Account is one subscription as one person or service principal sees it, with
// az's field names. ID is the tenant id where there is no subscription.
type Account struct {
	EnvironmentName  string   `json:"environmentName"`
	HomeTenantID     string   `json:"homeTenantId"`
	ID               string   `json:"id"`
	IsDefault        bool     `json:"isDefault"`
	ManagedByTenants []string `json:"managedByTenants"`
	Name             string   `json:"name"`
	State            string   `json:"state"`
	TenantID         string   `json:"tenantId"`
	// The tenant's names, "" in a profile that is older than they are.
	TenantDefaultDomain string `json:"tenantDefaultDomain,omitempty"`
	TenantDisplayName   string `json:"tenantDisplayName,omitempty"`
	User                Person `json:"user"`
	Server              string `json:"server"`
	ObjectID            string `json:"objectId,omitempty"`
}

// Person says who is signed in: type is "user" or "servicePrincipal".
type Person struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// AssignedIdentityInfo is "MSI" for the managed identity of this machine.
	AssignedIdentityInfo string `json:"assignedIdentityInfo,omitempty"`
}

// SystemAssigned is the name that az gives to a machine's own identity.
const SystemAssigned = "systemAssignedIdentity"

// Types of Person.
const (
	TypeUser             = "user"
	TypeServicePrincipal = "servicePrincipal"
)

// Find returns the account that text names (subscription id or name, any case),
// or the default one where text is empty.
func (p Profile) Find(text string) (Account, error) {
	if len(p.Accounts) == 0 {
		return Account{}, ErrNoToken()
	}
	var found []Account
	for _, a := range p.Accounts {
		if text == "" && a.IsDefault {
			return a, nil
		}
		if text != "" && (strings.EqualFold(a.ID, text) || strings.EqualFold(a.Name, text)) {
			found = append(found, a)
		}
	}
	switch {
	case text == "":
		return Account{}, fault.New(fault.Invalid, "NoSubscription", "no subscription is selected").
			WithRemedy("Run: sally account set --subscription NAME")
	case len(found) == 0:
		return Account{}, fault.New(fault.NotFound, "SubscriptionNotFound", "The subscription of '%s' doesn't exist on this computer.", text).
			WithRemedy("Run: sally account list")
	case len(found) > 1 && !strings.EqualFold(found[0].ID, text):
		return Account{}, fault.New(fault.Conflict, "SubscriptionAmbiguous", "%d subscriptions are named '%s'", len(found), text).
			WithRemedy("Use the subscription id: sally account list")
	}
	return found[0], nil
}

// SetDefault selects the account that text names and returns it.
func (p *Profile) SetDefault(text string) (Account, error) {
	a, err := p.Find(text)
	if err != nil {
		return Account{}, err
	}
	for i := range p.Accounts {
		p.Accounts[i].IsDefault = p.Accounts[i].ID == a.ID && p.Accounts[i].User == a.User && p.Accounts[i].Server == a.Server
	}
	p.Server = a.Server
	return a, nil
}

// SignedIn replaces what the profile knows of accounts' subscriptions by a new
// sign-in of the same person and makes the first of them the default.
func (p *Profile) SignedIn(accounts []Account) {
	if len(accounts) == 0 {
		return
	}
	ids := map[string]bool{}
	for _, a := range accounts {
		ids[a.ID] = true
	}
	was := ""
	kept := p.Accounts[:0:0]
	for _, a := range p.Accounts {
		if a.IsDefault {
			was = a.ID
		}
		a.IsDefault = false
		samePerson := a.Server == accounts[0].Server && a.User == accounts[0].User
		if !samePerson && !(a.Server == accounts[0].Server && ids[a.ID]) {
			kept = append(kept, a)
		}
	}
	at := 0
	for i, a := range accounts {
		if a.ID == was {
			at = i
		}
	}
	for i, a := range accounts {
		a.IsDefault = i == at
		kept = append(kept, a)
	}
	p.Accounts, p.Server = kept, accounts[0].Server
}

// Remove forgets every account of a person; an empty server means any.
func (p *Profile) Remove(name, server string) int {
	kept := p.Accounts[:0:0]
	hadDefault := false
	for _, a := range p.Accounts {
		if strings.EqualFold(a.User.Name, name) && (server == "" || a.Server == server) {
			hadDefault = hadDefault || a.IsDefault
			continue
		}
		kept = append(kept, a)
	}
	n := len(p.Accounts) - len(kept)
	if hadDefault && len(kept) > 0 {
		kept[0].IsDefault = true
	}
	p.Accounts = kept
	return n
}

// Record returns what is known of the server with this URL.
func (p Profile) Record(url string) (ServerRecord, bool) {
	for _, s := range p.Servers {
		if s.URL == url {
			return s, true
		}
	}
	return ServerRecord{}, false
}

// Put adds or replaces a server.
func (p *Profile) Put(r ServerRecord) {
	for i := range p.Servers {
		if p.Servers[i].URL == r.URL {
			p.Servers[i] = r
			return
		}
	}
	p.Servers = append(p.Servers, r)
}
