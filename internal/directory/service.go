package directory

import (
	"context"
	"io"
	"strings"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
)

// Tx is the transaction that the directory needs. Writers add the change-feed
// row themselves.
type Tx interface {
	Reader
	KeyReader
	UserWriter
	GroupWriter
	OwnerWriter
	ApplicationWriter
	ConsentWriter
	PutTenant(t Tenant) error
	Administrators() ([]string, error)
	// NextPOSIXID gives the next id; an id given once is never given again,
	// also after its principal is deleted.
	NextPOSIXID() (uint32, error)
	Now() time.Time
	Audit(by audit.By, e audit.Event) error
}

// KeyReader reads objects by their other unique names.
type KeyReader interface {
	UserByUPN(upn string) (User, bool, error)
	ApplicationByAppID(appID string) (Application, bool, error)
	ServicePrincipalByAppID(appID string) (ServicePrincipal, bool, error)
}

// UserWriter writes users. DeleteUser also ends memberships and credentials.
type UserWriter interface {
	PutUser(u User) error
	DeleteUser(id string) error
}

// GroupWriter writes groups and memberships.
type GroupWriter interface {
	PutGroup(g Group) error
	DeleteGroup(id string) error
	// AddMember reports false when the membership exists already.
	AddMember(m Member) (bool, error)
	// RemoveMember reports false when there is no such membership.
	RemoveMember(groupID, memberID string) (bool, error)
}

// ApplicationWriter writes applications and service principals. The deletions
// also end memberships and credentials.
type ApplicationWriter interface {
	PutApplication(a Application) error
	DeleteApplication(id string) error
	PutServicePrincipal(p ServicePrincipal) error
	DeleteServicePrincipal(id string) error
}

// Authority answers who may do what to the directory. rbac implements it.
//
// A person acts through a client: May asks for both, the person's directory role
// and the client's permission. An application acts by its application
// permissions or by a directory role of its own.
type Authority interface {
	// May reports whether by may do a directory action.
	May(by audit.By, action string) bool
	// Client reports whether the client in between may ask for a directory action,
	// whoever is behind it; for an application it is May.
	Client(by audit.By, action string) bool
	// CoversPermission returns nil when by holds everything that an application
	// permission of Microsoft Graph brings.
	CoversPermission(by audit.By, value string) error
	// Covers returns nil when by holds every right that the given principals
	// hold together, so that acting as them brings him nothing new; otherwise a
	// fault.Forbidden that names what is missing.
	Covers(by audit.By, principals []string) error
	// MayChangeGroups returns nil when by may write every role assignment that
	// the given groups hold, or is Global Administrator.
	MayChangeGroups(by audit.By, groups []string) error
}

// Config is what a Service is made of; every field but Repeats is required.
type Config struct {
	Write     func(context.Context, func(Tx) error) error
	Index     *Index
	Authority Authority
	Rand      io.Reader
	// Repeats, where set, decides which refusals get a record of their own.
	Repeats interface {
		First(by audit.By, e audit.Event) bool
	}
}

// Service changes the directory. Every method authorizes its caller, and every
// change is one transaction of state, feed row and audit event.
type Service struct{ cfg Config }

// NewService returns a service.
func NewService(cfg Config) *Service { return &Service{cfg: cfg} }

// Index returns the index that the service decides from.
func (s *Service) Index() *Index { return s.cfg.Index }

// newID returns a random GUID, version 4 (RFC 9562).
func (s *Service) newID() (string, error) { return guid.New(s.cfg.Rand) }

// change runs f when allowed is nil; otherwise it records the refusal and
// returns it.
func (s *Service) change(ctx context.Context, by audit.By, e audit.Event, allowed error, f func(Tx) error) error {
	if allowed != nil {
		return s.Refuse(ctx, by, e, allowed)
	}
	return s.cfg.Write(ctx, f)
}

// Refuse records a refused change and returns why. Only refusals for lack of
// rights are recorded: they are decisions, the others are errors.
func (s *Service) Refuse(ctx context.Context, by audit.By, e audit.Event, why error) error {
	if !fault.Is(why, fault.Forbidden) {
		return why
	}
	e.Outcome = audit.Denied
	if s.cfg.Repeats != nil && !s.cfg.Repeats.First(by, e) {
		return why
	}
	if err := s.cfg.Write(ctx, func(tx Tx) error { return tx.Audit(by, e) }); err != nil {
		return err
	}
	return why
}

// require returns a fault unless by holds the directory action.
func (s *Service) require(by audit.By, action string) error {
	if s.cfg.Authority.May(by, action) {
		return nil
	}
	return fault.New(fault.Forbidden, "Authorization_RequestDenied", "insufficient privileges to complete the operation: it needs %s.", action).
		WithRemedy("Ask a Global Administrator for a directory role that includes it, such as %s.", roleFor(action))
}

func roleFor(action string) string {
	if action == actionRoleAssignable {
		return "Global Administrator"
	}
	if action == ActionGrantApplication || action == consentPolicyUpdate {
		return "Global Administrator"
	}
	if strings.HasPrefix(action, "microsoft.directory/conditionalAccessPolicies/") {
		return "Security Administrator"
	}
	for _, prefix := range []string{"microsoft.directory/applications/", "microsoft.directory/servicePrincipals/"} {
		if len(action) > len(prefix) && action[:len(prefix)] == prefix {
			return "Application Administrator"
		}
	}
	return "User Administrator"
}

// Require is for what other packages keep of the directory: it returns a fault
// unless by holds the directory action.
func (s *Service) Require(by audit.By, action string) error { return s.require(by, action) }

// Covers is for what other packages let somebody become: it returns a fault unless
// by holds every right that the principal holds itself and through its groups.
func (s *Service) Covers(by audit.By, id string) error { return s.covers(by, id) }

func (s *Service) covers(by audit.By, id string) error {
	if id == by.Principal {
		return nil
	}
	return s.cfg.Authority.Covers(by, append([]string{id}, s.cfg.Index.GroupsOf(id)...))
}

// MayAsk returns nil when the client that by uses, or the application that by
// is, may ask for a directory action at all. It is the first question of every
// request that comes with a token: what a client was not given, it cannot do for
// anybody.
func (s *Service) MayAsk(by audit.By, action string) error {
	if s.cfg.Authority.Client(by, action) {
		return nil
	}
	if by.Type != audit.User {
		return s.require(by, action)
	}
	return fault.New(fault.Forbidden, "Authorization_RequestDenied", "insufficient privileges to complete the operation: the client %s was not given a permission that covers %s.", show(by.Client), action).
		WithRemedy("Sign in with a scope that covers it, such as %s, or have an administrator grant it: sally ad app permission grant.", permissionFor(action))
}

// MayRead returns nil when by may read the object with the given id, for which
// action is needed; "" stands for any. People read the whole directory, as
// members of an Entra tenant do, through a client that may; a service principal
// reads itself, and the rest with a directory role or a permission.
func (s *Service) MayRead(by audit.By, id, action string) error {
	switch {
	case by.Principal == "":
		return s.require(by, action)
	case by.Type != audit.User && id == by.Principal:
		return nil
	}
	return s.MayAsk(by, action)
}

// MayManageCredentials returns nil when by may add to or remove from the
// credentials of the application or service principal with this object id: by
// role or as the application's owner, through a client that may, and never of one
// with more rights than his own.
func (s *Service) MayManageCredentials(by audit.By, objectID string) error {
	x := s.cfg.Index
	action, appID := "microsoft.directory/applications/credentials/update", ""
	app, isApp := x.ApplicationByID(objectID)
	if isApp {
		appID = app.AppID
	}
	if p, ok := x.ServicePrincipal(objectID); ok {
		if p.Type == TypeManagedIdentity {
			return managedElsewhere(p)
		}
		action, appID = "microsoft.directory/servicePrincipals/credentials/update", p.AppID
		app, isApp = x.Application(appID)
	}
	switch {
	case appID == "":
		return NotFound(objectID)
	case isApp && app.BuiltIn:
		return builtIn(app)
	}
	allowed := s.require(by, action)
	if isApp && by.Principal != "" && contains(app.Owners, by.Principal) {
		allowed = nil
		if by.Type == audit.User {
			allowed = s.MayAsk(by, action)
		}
	}
	if allowed != nil {
		return allowed
	}
	if p, ok := x.ServicePrincipalByAppID(appID); ok {
		return s.covers(by, p.ID)
	}
	return nil
}

// MayResetPassword returns nil when by may set the password of the user.
func (s *Service) MayResetPassword(by audit.By, userID string) error {
	if err := s.require(by, "microsoft.directory/users/password/update"); err != nil {
		return err
	}
	if _, ok := s.cfg.Index.User(userID); !ok { // to be told to who may change it
		return NotFound(userID)
	}
	return s.covers(by, userID)
}

// NotFound is the fault for an object id that names nothing.
func NotFound(id string) error {
	return fault.New(fault.NotFound, "Request_ResourceNotFound", "resource '%s' does not exist or one of its queried reference-property objects are not present.", show(id)).
		WithRemedy("Check the object id or name; list what exists with: sally ad user list, sally ad group list, sally ad sp list.")
}

func builtIn(a Application) error {
	return fault.New(fault.Forbidden, "Authorization_RequestDenied", "%s is built in and cannot be changed.", a.DisplayName).
		WithRemedy("Register an application of your own with: sally ad app create.")
}

func managedElsewhere(p ServicePrincipal) error {
	return fault.New(fault.Forbidden, "Authorization_RequestDenied", "%s is the managed identity of a resource and is changed only through it.", p.DisplayName).
		WithRemedy("Use: sally vm identity assign, sally vm identity remove.")
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func success(kind, target string, detail map[string]string) audit.Event {
	return audit.Event{Type: kind, Outcome: audit.Success, Target: target, Detail: detail}
}
