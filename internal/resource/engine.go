package resource

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
)

// Authorizer decides; *rbac.Index is one.
type Authorizer interface {
	Check(rbac.Query) rbac.Decision
	Assignments(rbac.Filter) []rbac.Assignment
	WhoCan(s scope.ID, action string, data bool) []rbac.Holder
}

// Config is what an engine is made of.
type Config struct {
	Types  []Type
	Write  func(context.Context, func(Tx) error) error
	Read   func(context.Context, func(Tx) error) error
	Rights Authorizer
	Tenant func() directory.Tenant
	Rand   io.Reader // for GUIDs
	// Covers returns nil when the caller holds every right that a principal holds,
	// itself and through groups. Nobody assigns an identity that is more than he is;
	// nil: nobody assigns any.
	Covers func(by audit.By, principal string) error
	// Repeats, where set, decides which refusals get a record of their own.
	Repeats interface {
		First(by audit.By, e audit.Event) bool
	}
}

// Engine answers for all resources. It is safe for concurrent use.
type Engine struct {
	cfg   Config
	types map[string]*Type // by lower-cased name
	wake  chan struct{}
	turn  chan struct{} // held by what is worked out aside
}

// New checks the types and returns an engine.
func New(cfg Config) (*Engine, error) {
	e := &Engine{cfg: cfg, types: map[string]*Type{}, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
	for i := range cfg.Types {
		t := &cfg.Types[i]
		key := strings.ToLower(t.Name)
		if e.types[key] != nil {
			return nil, fmt.Errorf("resource type %s exists twice", t.Name)
		}
		if !t.ReadOnly && t.Check == nil {
			return nil, fmt.Errorf("resource type %s checks nothing", t.Name)
		}
		e.types[key] = t
	}
	return e, nil
}

// Type returns a type by its name in any case.
func (e *Engine) Type(name string) (*Type, error) {
	t := e.types[strings.ToLower(name)]
	if t == nil {
		return nil, fault.New(fault.NotFound, "InvalidResourceType", "The resource type '%s' could not be found.", clip(name))
	}
	return t, nil
}

// Types lists the types, by name.
func (e *Engine) Types() []*Type {
	return slices.SortedFunc(maps.Values(e.types), func(a, b *Type) int { return strings.Compare(a.Name, b.Name) })
}

// Allowed reports whether the caller may do an action at a scope.
func (e *Engine) Allowed(by audit.By, action string, at scope.ID) bool {
	return e.cfg.Rights.Check(rbac.Query{Principals: by.Principals(), Scope: at, Action: action}).Allowed
}

// Authorize refuses a caller who may not do an action at a scope. A refused
// write is audited, and the audit is durable before the refusal is returned.
func (e *Engine) Authorize(ctx context.Context, by audit.By, action string, at scope.ID) error {
	if e.Allowed(by, action, at) {
		return nil
	}
	denied := Denied(by, action, at)
	if strings.HasSuffix(strings.ToLower(action), "/read") {
		return denied
	}
	return e.refuse(ctx, by, action, at, denied)
}

// refuse audits a refusal and returns it.
func (e *Engine) refuse(ctx context.Context, by audit.By, action string, at scope.ID, denied error) error {
	refusal := audit.Event{Type: "resource.authorize", Outcome: audit.Denied, Target: at.String(), Detail: map[string]string{"action": action}}
	if e.cfg.Repeats != nil && !e.cfg.Repeats.First(by, refusal) {
		return denied
	}
	if err := e.cfg.Write(ctx, func(tx Tx) error { return tx.Audit(by, refusal) }); err != nil {
		return fmt.Errorf("audit of a refusal: %w", err)
	}
	return denied
}

// Standing confirms inside a write that what allowed the caller an action is
// still there: the index that Authorize asked is a moment behind the store. What
// gives or takes rights asks it.
func (e *Engine) Standing(tx rbac.StandingTx, by audit.By, action string, at scope.ID) error {
	q := rbac.Query{Principals: by.Principals(), Scope: at, Action: action}
	return rbac.Stands(tx, by, q, e.cfg.Rights.Check(q))
}

// Denied is the refusal that names the client, the action, the scope and what
// to do. The first sentence is the one that Azure's clients know.
func Denied(by audit.By, action string, at scope.ID) error {
	name := by.Name
	if name == "" {
		name = by.Principal
	}
	return fault.New(fault.Forbidden, "AuthorizationFailed",
		"The client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. If access was recently granted, please refresh your credentials.",
		name, by.Principal, action, at).
		WithRemedy(`Who may assign roles there can grant it: sally role assignment create --role "%s" --assignee %s --scope %s`, roleFor(action), by.Principal, at)
}

// roleFor names the smallest built-in role that grants a control action.
func roleFor(action string) string {
	folded := strings.ToLower(action)
	switch {
	case strings.HasSuffix(folded, "/read"):
		return "Reader"
	case strings.HasPrefix(folded, "microsoft.authorization/"):
		return "User Access Administrator"
	}
	return "Contributor"
}

func (e *Engine) guid() (string, error) { return guid.New(e.cfg.Rand) }

// missing is the not-found fault for an id, with the code that clients expect
// for its type.
func missing(id scope.ID) error {
	switch {
	case strings.EqualFold(id.Type(), TypeSubscription):
		return fault.New(fault.NotFound, "SubscriptionNotFound", "The subscription '%s' could not be found.", id.Name()).WithRemedy("See: sally account list")
	case strings.EqualFold(id.Type(), TypeGroup):
		return fault.New(fault.NotFound, "ResourceGroupNotFound", "Resource group '%s' could not be found.", id.Name()).WithRemedy("See: sally group list")
	}
	return fault.New(fault.NotFound, "ResourceNotFound", "The Resource '%s/%s' under resource group '%s' was not found.", id.Type(), id.Name(), id.ResourceGroupName())
}

// absent is err, or the not-found fault when there was no error.
func absent(err error, id scope.ID) error {
	if err != nil {
		return err
	}
	return missing(id)
}

// parentOf returns the resource that must exist for id to exist: its parent
// resource, group or subscription. ok is false for what has none.
func parentOf(id scope.ID) (scope.ID, bool) {
	up, ok := id.Parent()
	if !ok || up == scope.Root() {
		return scope.ID{}, false
	}
	return up, true
}
