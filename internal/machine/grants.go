package machine

import (
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport/internal/directory"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
)

// hybridMachine is the type of machines that joined from elsewhere.
const hybridMachine = "Microsoft.HybridCompute/machines"

// actions are what is asked of roles at a machine: two data actions that open it,
// and one that tells people with a control-plane role only from people with none,
// for the sentence that they read. That one opens nothing.
type actions struct{ admin, login, owner string }

func machineActions() actions {
	return actions{rbac.ActionLoginAsAdmin, rbac.ActionLogin, "Microsoft.Compute/virtualMachines/write"}
}

func hybridActions() actions {
	return actions{rbac.ActionHybridLoginAsAdmin, rbac.ActionHybridLogin, hybridMachine + "/write"}
}

// actionsAt are those of the machine that an id names: a role that opens virtual
// machines alone opens no other machine.
func actionsAt(id scope.ID) actions {
	if strings.EqualFold(id.Type(), hybridMachine) {
		return hybridActions()
	}
	return machineActions()
}

// Inputs is everything that a snapshot follows from.
type Inputs struct {
	Tenant            directory.Tenant
	Machine           Machine
	Desired           Desired
	Users             []directory.User
	ServicePrincipals []directory.ServicePrincipal
	Admins            []string // object ids that may log in as administrator, groups expanded
	Logins            []string // object ids that may log in, groups expanded
	Owners            []string // object ids with a control-plane role, groups expanded
	Revoked           []string // certificate serials, decimal
	UserStale         time.Duration
	AdminStale        time.Duration
	// From capability 3 on.
	Capability int
	Ended      []protocol.EndedSession
	SessionMax time.Duration
	// From capability 5 on.
	Upgrade *protocol.UpgradeWish
}

// Derive says what one machine is told: every enabled identity of the directory
// with its POSIX record and its access, and why there is none. It is pure and
// deterministic: equal inputs give equal documents. Version, epoch and times are
// set by whoever signs.
//
// The data action loginAsAdmin includes login; Owner and Contributor have
// neither (Azure: "Owner and Contributor do not log in").
func Derive(in Inputs) protocol.SnapshotDocument {
	admins, logins, owners := set(in.Admins), set(in.Logins), set(in.Owners)
	doc := frame(in)
	doc.Principals = make([]protocol.Principal, 0, len(in.Users)+len(in.ServicePrincipals))
	for _, a := range accounts(in.Users, in.ServicePrincipals) {
		grant := protocol.Grant{ObjectID: a.ObjectID}
		grant.Access, grant.Reason = decide(true, admins[a.ObjectID], logins[a.ObjectID], owners[a.ObjectID])
		doc.Principals = append(doc.Principals, a.Principal(grant))
	}
	return doc
}

// grantsOf is who has a role, by object id.
func grantsOf(in Inputs) (list []protocol.Grant) {
	admins, logins, owners := set(in.Admins), set(in.Logins), set(in.Owners)
	ids := slices.Concat(slices.Collect(maps.Keys(admins)), slices.Collect(maps.Keys(logins)), slices.Collect(maps.Keys(owners)))
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		g := protocol.Grant{ObjectID: id}
		g.Access, g.Reason = decide(true, admins[id], logins[id], owners[id])
		list = append(list, g)
	}
	return list
}

// frame is what a document says of the machine itself.
func frame(in Inputs) protocol.SnapshotDocument {
	doc := protocol.SnapshotDocument{
		Tenant: in.Tenant.ID, MachineID: in.Machine.ID, KeyThumbprint: in.Machine.Thumbprint, ResourceID: in.Desired.ResourceID.String(),
		Domains: slices.Clone(in.Tenant.Domains), Identity: in.Desired.Identity, LoginEnabled: in.Desired.LoginEnabled, Revision: in.Desired.Revision,
		UserStale: int64(in.UserStale / time.Second), AdminStale: int64(in.AdminStale / time.Second), Administrator: in.Desired.Administrator,
		Revoked: slices.Sorted(slices.Values(in.Revoked)), Capability: in.Capability, Ended: in.Ended, SessionMax: int64(in.SessionMax / time.Second), Upgrade: in.Upgrade,
	}
	doc.Assigned = in.Desired.Assigned && in.Capability >= protocol.IdentityCapability
	switch {
	case !in.Desired.Preview:
	case in.Capability >= previewCapability:
		doc.Preview = true
	default:
		// To such a machine it would be the other extension. It never reports a
		// revision that it is not told, so the extension fails as with a silent agent.
		doc.LoginEnabled, doc.Revision = false, 0
	}
	return doc
}

// previewCapability is the first that knows the preview extension.
const previewCapability = 4

// accounts lists everybody who has a POSIX identity, by object id.
func accounts(users []directory.User, principals []directory.ServicePrincipal) []protocol.Account {
	list := make([]protocol.Account, 0, len(users)+len(principals))
	for _, u := range users {
		list = append(list, userAccount(u))
	}
	for _, p := range principals {
		list = append(list, principalAccount(p))
	}
	list = slices.DeleteFunc(list, func(a protocol.Account) bool { return a.UID == 0 })
	slices.SortFunc(list, func(a, b protocol.Account) int { return strings.Compare(a.ObjectID, b.ObjectID) })
	return list
}

func userAccount(u directory.User) protocol.Account {
	return protocol.Account{ObjectID: u.ID, LoginName: u.UPN, UID: u.UID, Name: u.DisplayName, Disabled: !u.Enabled, NotBefore: u.NotBefore.UTC()}
}

func principalAccount(p directory.ServicePrincipal) protocol.Account {
	return protocol.Account{ObjectID: p.ID, LoginName: p.ID, UID: p.UID, Name: p.DisplayName, Disabled: !p.Enabled, NotBefore: p.NotBefore.UTC()}
}

// decide is what an account and its roles at the machine come to.
func decide(enabled, admin, login, owner bool) (protocol.Access, string) {
	switch {
	case !enabled:
		return protocol.None, protocol.ReasonDisabled
	case admin:
		return protocol.Admin, ""
	case login:
		return protocol.Login, ""
	case owner:
		return protocol.None, protocol.ReasonOwner
	}
	return protocol.None, protocol.ReasonNoRole
}

func set(ids []string) map[string]bool {
	m := make(map[string]bool, len(ids))
	for _, id := range ids {
		m[strings.ToLower(id)] = true
	}
	return m
}

// inputs reads what Derive needs of the indexes.
func (s *Service) inputs(m Machine, d Desired) Inputs {
	in := s.grants(m, d)
	s.cfg.Directory.Users(func(u directory.User) bool { in.Users = append(in.Users, u); return true })
	s.cfg.Directory.ServicePrincipals(func(p directory.ServicePrincipal) bool {
		in.ServicePrincipals = append(in.ServicePrincipals, p)
		return true
	})
	return in
}

// roles lists who has one here: administrators, users, and those with a
// control-plane role.
func (s *Service) roles(at scope.ID, of actions) (admins, logins, owners []string) {
	return s.holders(at, of.admin, true), s.holders(at, of.login, true), s.holders(at, of.owner, false)
}

// grants is inputs without the accounts.
func (s *Service) grants(m Machine, d Desired) Inputs {
	in := s.inputsOf(m, d)
	in.Admins, in.Logins, in.Owners = s.roles(d.ResourceID, actionsAt(d.ResourceID))
	return in
}

// inputsOf is inputs without people.
func (s *Service) inputsOf(m Machine, d Desired) Inputs {
	in := Inputs{Tenant: s.cfg.Directory.Tenant(), Machine: m, Desired: d}
	in.UserStale, in.AdminStale = s.staleness()
	if s.cfg.Revoked != nil {
		in.Revoked = s.cfg.Revoked()
	}
	return in
}

// holders lists who may do the action at the machine, with groups expanded to
// the members that they have now.
func (s *Service) holders(at scope.ID, action string, data bool) []string {
	var ids []string
	for _, h := range s.cfg.Roles.WhoCan(at, action, data) {
		ids = append(ids, s.members(h.PrincipalID)...)
	}
	return ids
}

// members lists the accounts that a principal stands for: a group's members,
// through other groups too, or the principal itself.
func (s *Service) members(principalID string) []string {
	if _, isGroup := s.cfg.Directory.Group(principalID); !isGroup {
		return []string{principalID}
	}
	var ids []string
	for _, m := range s.cfg.Directory.MembersOf(principalID, true) {
		if m.Type != directory.MemberGroup {
			ids = append(ids, m.ID)
		}
	}
	return ids
}
