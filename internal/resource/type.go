package resource

import (
	"context"
	"encoding/json"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
)

// Type is a resource type: a value with what is particular to it. Functions may
// be nil unless said otherwise.
type Type struct {
	// Name with namespace, "Microsoft.Compute/virtualMachines". The actions are
	// Name + "/read", "/write", "/delete" and "/<verb>/action".
	Name string
	// Title is the word for people: "virtual machine".
	Title string
	// Located: a body needs a location. Identity: a body may ask for one.
	Located, Identity bool
	// Assignable: user-assigned identities can be assigned to it, too. Principal: it
	// is such an identity.
	Assignable, Principal bool
	// Entered: people log in on it, so where it is decides who may.
	Entered bool
	// ReadAs, where set, is a second action that lets read: that of the type which
	// people know it as.
	ReadAs string
	// Called, where set, is the "name" that people see; else it is the id's last part.
	Called func(scope.ID) string
	// Hidden types are not in the list of a group's resources.
	Hidden bool
	// ReadOnly types are made by the server alone.
	ReadOnly bool
	// Top names the further top-level fields of a body that are kept.
	Top []string
	// Check validates a draft and rewrites its properties into the form that is
	// stored: it decodes them strictly (see Strict), so that what was not
	// understood is refused. It is pure. Required unless ReadOnly.
	Check func(*Draft) error
	// Links lists what the checked properties refer to, each with the action
	// that the caller needs there.
	Links func(properties json.RawMessage) ([]Link, error)
	// Store runs inside the write's transaction, after everything was checked,
	// and may adjust Change.New and store other resources.
	Store func(Tx, audit.By, *Change) error
	// Reconcile brings the world to Work.Resource; nil for a type that is done
	// once it is stored. It is idempotent and may be cut off at any moment.
	Reconcile func(context.Context, Work) (Progress, error)
	// Actions are the POST verbs: each changes what is wanted.
	Actions map[string]Action
	// Show returns the properties as people see them; nil shows them as stored.
	Show func(context.Context, View) (map[string]any, error)
	// Shape is the zero value of what a body's properties may hold; nil for a type that
	// nobody writes. Tests derive from it what must be tried.
	Shape any
	// Embed names the child type that is shown in "resources".
	Embed string
}

// Draft is a body on its way in.
type Draft struct {
	ID         scope.ID
	Old        *Resource // nil when the resource is new
	Location   string
	Properties json.RawMessage
	// Secret is what Check takes out of the properties for Store alone. It is in no
	// row, answer, operation or record.
	Secret string
	// Aside works out what takes long.
	Aside *Aside
}

// Link is a reference to another resource: it must exist, and the caller must
// hold the action on it.
type Link struct {
	ID     scope.ID
	Action string
}

// Action is a POST verb: it changes the resource, which is stored then in the same
// transaction, and what is inside it. body is the request's, nil for none.
type Action func(tx Tx, by audit.By, r *Resource, body []byte) error

// Change is what a write does: Old is nil when the resource is new. New is nil
// when it goes away; what Store then changes in Old is stored while it is
// "Deleting".
type Change struct {
	Old, New *Resource
	Now      time.Time
	Secret   string // Draft's
	Aside    *Aside
}

// Work is what a worker hands to Reconcile: a resource that is behind.
type Work struct {
	Resource Resource
	Children []Resource
	Now      time.Time
}

// Progress is what came of it. The zero Progress means: not yet, ask again.
type Progress struct {
	Done    bool
	Failure *Failure              // over, without success
	After   time.Duration         // when not Done: ask again after this, at least
	Apply   func(Tx) error        // stored together with the outcome
	Update  func(*Resource) error // changes to the resource's private part or properties
}

// View is what Show sees.
type View struct {
	Resource Resource
	Children []Resource
	Expand   bool // $expand=instanceView
}

// Tx is the transaction that the engine needs; *store.Tx satisfies it.
type Tx interface {
	Events
	Resources
	History
	Operations
	Grants
	Identities
	rbac.StandingTx
}

// Events: the transaction's time and its audit record.
type Events interface {
	Now() time.Time
	Audit(by audit.By, e audit.Event) error
}

// Resources stores resources. Keys are scope.ID.Key().
type Resources interface {
	ResourceByID(key string) (Resource, bool, error)
	// ListResources lists what a Range selects, by key.
	ListResources(Range) ([]Resource, error)
	// PutResource inserts or replaces, and adds the feed row.
	PutResource(Resource) error
	// DeleteResource removes the row and adds the feed row.
	DeleteResource(id scope.ID) error
	// MoveResource stores a resource under its new id in the place of the old one,
	// with the machine that it is and its operations, and adds the feed rows.
	MoveResource(from scope.ID, r Resource) error
}

// History is what resources leave behind that only tell what was done.
type History interface {
	// SettledResources lists what a Range selects and no worker is at, but the
	// newest: those that were written last.
	SettledResources(r Range, newest int) ([]scope.ID, error)
}

// Range selects resources.
type Range struct {
	Under scope.ID // what lies below this id; zero for everywhere
	Type  string   // of this type only; "" for all
	After string   // keys after this one
	Limit int      // 0 for no limit
}

// Operations stores operations and leases work.
type Operations interface {
	PutOperation(Operation) error
	OperationByID(id string) (Operation, bool, error)
	// LeaseResource hands out one resource that is behind, due and not leased,
	// until a time.
	LeaseResource(until time.Time) (Resource, bool, error)
	// SettleResource ends a lease: the resource is due again at a time. held is
	// false when the lease was lost.
	SettleResource(key string, lease, due time.Time) (held bool, err error)
	// NextDue says when the next resource is due or its lease ends.
	NextDue() (time.Time, bool, error)
}

// Grants removes the role assignments of what goes away.
type Grants interface {
	DeleteRoleAssignmentsOf(principal string) error
	DeleteRoleAssignmentsUnder(s scope.ID) error
}

// Identities makes and removes managed identities.
type Identities interface {
	ServicePrincipalByID(id string) (directory.ServicePrincipal, bool, error)
	PutServicePrincipal(directory.ServicePrincipal) error
	DeleteServicePrincipal(id string) error
	NextPOSIXID() (uint32, error)
}
