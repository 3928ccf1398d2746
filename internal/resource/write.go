package resource

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/scope"
)

// Request is a write.
type Request struct {
	ID          scope.ID
	Body        []byte // for PUT and PATCH
	IfMatch     string // an ETag or "*"
	IfNoneMatch string // only "*" has a meaning for a write
}

// Result is what a write did. Operation is nil when it is over already; Body is
// nil when the resource is gone.
type Result struct {
	Body      map[string]any
	Created   bool
	Gone      bool // a DELETE found nothing
	Operation *Operation
}

// Put creates or replaces a resource. A body without an identity, and one
// without what the type keeps, leaves those as they are.
func (e *Engine) Put(ctx context.Context, by audit.By, req Request) (Result, error) {
	return e.write(ctx, by, req, writeAs{})
}

// Patch changes what an existing resource's body names (RFC 7396).
func (e *Engine) Patch(ctx context.Context, by audit.By, req Request) (Result, error) {
	return e.write(ctx, by, req, writeAs{patch: true})
}

// writeAs is how a write differs from a PUT: it merges, it needs another action
// than the type's, or something is done first in the same transaction, which makes
// the body.
type writeAs struct {
	patch  bool
	action string
	before func(Tx, *Aside) ([]byte, error)
}

func (e *Engine) write(ctx context.Context, by audit.By, req Request, as writeAs) (Result, error) {
	t, err := e.Type(req.ID.Type())
	if err != nil {
		return Result{}, err
	}
	action := as.action
	if action == "" {
		action = t.Name + "/write"
	}
	if err := e.Authorize(ctx, by, action, req.ID); err != nil {
		return Result{}, err
	}
	if t.ReadOnly {
		return Result{}, fault.New(fault.Invalid, "OperationNotAllowed", "a %s is made by the server alone", t.Title)
	}
	if err := checkName(t, req.ID.Name()); err != nil {
		return Result{}, err
	}
	var in body
	if as.before == nil {
		if in, err = readBody(t, req.Body); err != nil {
			return Result{}, err
		}
	}
	var out Result
	var stored Resource
	var children []Resource
	err = e.writeAside(ctx, &Aside{}, func(tx Tx, aside *Aside) error {
		if !e.Allowed(by, action, req.ID) { // any more: hashing takes its time
			return &linkDenied{link: Link{ID: req.ID, Action: action}}
		}
		if as.before != nil {
			made, err := as.before(tx, aside)
			if err != nil {
				return err
			}
			if in, err = readBody(t, made); err != nil {
				return err
			}
		}
		w := writing{e: e, t: t, tx: tx, by: by, req: req, in: in, patch: as.patch, aside: aside}
		if err := w.run(); err != nil {
			return err
		}
		out = Result{Created: w.old == nil, Operation: w.operation}
		stored = w.next
		children, err = embedded(tx, t, req.ID)
		return err
	})
	if err != nil {
		return Result{}, e.deniedInside(ctx, by, err)
	}
	e.Wake()
	out.Body, err = e.show(ctx, stored, children, false)
	return out, err
}

// PutIn is Put inside a transaction of the caller's, for what must be stored
// together with something else or not at all. Whoever calls audits a refusal, for
// it rolls everything back, and wakes the engine when the transaction is over.
func (e *Engine) PutIn(tx Tx, by audit.By, req Request) (Resource, error) {
	r, err := e.putIn(tx, nil, by, req)
	var l *linkDenied
	if errors.As(err, &l) {
		err = l.refusal(by)
	}
	return r, err
}

func (e *Engine) putIn(tx Tx, aside *Aside, by audit.By, req Request) (Resource, error) {
	t, err := e.Type(req.ID.Type())
	if err != nil {
		return Resource{}, err
	}
	if !e.Allowed(by, t.Name+"/write", req.ID) {
		return Resource{}, Denied(by, t.Name+"/write", req.ID)
	}
	if t.ReadOnly {
		return Resource{}, fault.New(fault.Invalid, "OperationNotAllowed", "a %s is made by the server alone", t.Title)
	}
	if err := checkName(t, req.ID.Name()); err != nil {
		return Resource{}, err
	}
	in, err := readBody(t, req.Body)
	if err != nil {
		return Resource{}, err
	}
	w := writing{e: e, t: t, tx: tx, by: by, req: req, in: in, aside: aside}
	err = w.run()
	return w.next, err
}

// deniedInside audits a refusal of a linked scope: the write that found it was
// rolled back, and its audit record with it.
func (e *Engine) deniedInside(ctx context.Context, by audit.By, err error) error {
	var l *linkDenied
	if !errors.As(err, &l) {
		return err
	}
	if l.why != nil {
		return e.refuse(ctx, by, l.link.Action, l.link.ID, l.why)
	}
	if err := e.Authorize(ctx, by, l.link.Action, l.link.ID); err != nil {
		return err
	}
	return l.refusal(by) // granted since: the write did not happen all the same
}

func (l *linkDenied) refusal(by audit.By) error {
	if l.why != nil {
		return l.why
	}
	return Denied(by, l.link.Action, l.link.ID)
}

// linkDenied carries the link that the caller may not use out of a transaction,
// and why, where that is not a missing right to the action.
type linkDenied struct {
	link Link
	why  error
}

// DeniedInside refuses an action inside of a write, whose transaction would take the
// record of the refusal along: the engine audits it when that is over, a read, too,
// for it is a part of a write.
func DeniedInside(by audit.By, action string, at scope.ID) error {
	return &linkDenied{link: Link{ID: at, Action: action}, why: Denied(by, action, at)}
}

func (l *linkDenied) Error() string {
	return "no right to " + l.link.Action + " at " + l.link.ID.String()
}

// writing is one PUT or PATCH inside its transaction.
type writing struct {
	e     *Engine
	t     *Type
	tx    Tx
	by    audit.By
	req   Request
	in    body
	patch bool
	aside *Aside

	old       *Resource
	next      Resource
	secret    string // Draft's
	operation *Operation
}

func (w *writing) run() error {
	now := w.tx.Now()
	if err := w.load(); err != nil {
		return err
	}
	if err := w.build(now); err != nil {
		return err
	}
	if err := w.check(); err != nil {
		return err
	}
	if err := w.identity(now); err != nil {
		return err
	}
	state := Creating
	if w.old != nil {
		state = Updating
	}
	w.next.want(state, now)
	if w.t.Reconcile == nil {
		w.next.Observed, w.next.State = w.next.Revision, Succeeded
	}
	if w.t.Store != nil {
		if err := w.t.Store(w.tx, w.by, &Change{Old: w.old, New: &w.next, Now: now, Secret: w.secret, Aside: w.aside}); err != nil {
			return err
		}
	}
	w.next.Touch(now)
	if err := w.tx.PutResource(w.next); err != nil {
		return err
	}
	if w.next.Behind() || w.next.State == Failed {
		op, err := w.e.operation(w.tx, w.by, "write", w.next)
		if err != nil {
			return err
		}
		w.operation = op
	}
	return w.tx.Audit(w.by, audit.Event{Type: "resource.write", Outcome: audit.Success, Target: w.next.ID.String(), Detail: map[string]string{"type": w.t.Name, "created": yes(w.old == nil)}})
}

func yes(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// load finds the resource and its parent and checks the request's conditions.
func (w *writing) load() error {
	if up, ok := parentOf(w.req.ID); ok {
		parent, found, err := w.tx.ResourceByID(up.Key())
		if err != nil || !found {
			return absent(err, up)
		}
		if parent.State == Deleting {
			return fault.New(fault.Conflict, "ResourceGroupBeingDeleted", "'%s' is being deleted and takes nothing new.", up.Name()).WithRemedy("Wait until it is gone and try again.")
		}
		w.next.ID = w.req.ID
	}
	old, found, err := w.tx.ResourceByID(w.req.ID.Key())
	if err != nil {
		return err
	}
	if found {
		if old.State == Deleting {
			return fault.New(fault.Conflict, "Conflict", "'%s' is being deleted.", w.req.ID.Name()).WithRemedy("Wait until it is gone and try again.")
		}
		w.old = &old
	} else if w.patch {
		return missing(w.req.ID)
	}
	return conditions(w.req, w.old)
}

func conditions(req Request, old *Resource) error {
	etag := ""
	if old != nil {
		etag = old.ETag
	}
	switch {
	case req.IfNoneMatch == "*" && old != nil:
		return fault.New(fault.Precondition, "PreconditionFailed", "'%s' exists already (If-None-Match: *).", req.ID.Name())
	case req.IfNoneMatch != "" && req.IfNoneMatch != "*":
		return fault.New(fault.Invalid, "InvalidParameter", "If-None-Match takes only * for a write.").WithTarget("If-None-Match")
	case req.IfMatch == "":
		return nil
	case old == nil, req.IfMatch != "*" && req.IfMatch != etag:
		return fault.New(fault.Precondition, "PreconditionFailed", "'%s' has changed since it was read (If-Match).", req.ID.Name()).WithRemedy("Read it again and repeat the change.")
	}
	return nil
}

// build makes the next version from the old one and the body.
func (w *writing) build(now time.Time) error {
	if w.old != nil {
		w.next = *w.old
	} else {
		w.next = Resource{ID: w.req.ID, CreatedAt: now}
	}
	switch {
	case w.in.location == nil || !w.t.Located:
	case w.old != nil && w.old.Location != *w.in.location:
		return fault.New(fault.Conflict, "InvalidResourceLocation", "The resource '%s' already exists in location '%s'; it cannot move to '%s'.", w.req.ID.Name(), w.old.Location, *w.in.location).WithTarget("location")
	default:
		if w.old == nil {
			if err := available(w.t, *w.in.location); err != nil {
				return err
			}
		}
		w.next.Location = *w.in.location
	}
	if w.t.Located && w.next.Location == "" {
		return fault.New(fault.Invalid, "LocationRequired", "The location property is required for this definition.").WithRemedy(`Give one, "location": "southcentralus" for example.`).WithTarget("location")
	}
	if w.in.hasTags || (!w.patch && w.old != nil) {
		w.next.Tags = w.in.tags
	}
	if w.in.top != nil {
		top := map[string]json.RawMessage{}
		if len(w.next.Top) > 0 {
			if err := json.Unmarshal(w.next.Top, &top); err != nil {
				return err
			}
		}
		maps.Copy(top, w.in.top)
		b, err := json.Marshal(top)
		if err != nil {
			return err
		}
		w.next.Top = b
	}
	return w.properties()
}

func (w *writing) properties() error {
	switch {
	case !w.patch:
		w.next.Properties = w.in.properties
	case w.in.properties != nil:
		merged, err := mergePatch(w.next.Properties, w.in.properties, 0)
		if err != nil {
			return err
		}
		w.next.Properties = merged
	}
	if w.next.Properties == nil {
		w.next.Properties = json.RawMessage(`{}`)
	}
	return nil
}

// check lets the type validate, and holds links to the caller's rights.
func (w *writing) check() error {
	d := Draft{ID: w.next.ID, Old: w.old, Location: w.next.Location, Properties: w.next.Properties, Aside: w.aside}
	if err := w.t.Check(&d); err != nil {
		return err
	}
	w.next.Properties, w.secret = d.Properties, d.Secret
	if w.t.Links == nil || w.patch && w.in.properties == nil {
		return nil // who changes tags or identity links nothing
	}
	links, err := w.t.Links(d.Properties)
	if err != nil {
		return err
	}
	for _, l := range links {
		if !w.e.Allowed(w.by, l.Action, l.ID) {
			return &linkDenied{link: l}
		}
		if r, ok, err := w.tx.ResourceByID(l.ID.Key()); err != nil {
			return err
		} else if !ok || r.State == Deleting {
			return fault.New(fault.Invalid, "InvalidResourceReference", "Resource %s referenced by resource %s was not found.", l.ID, w.req.ID).WithRemedy("Create it first.")
		}
	}
	return nil
}

// Act does a POST verb without a body: start, powerOff and so on.
func (e *Engine) Act(ctx context.Context, by audit.By, id scope.ID, verb string) (Result, error) {
	return e.ActWith(ctx, by, Request{ID: id}, verb)
}

// ActWith does a POST verb with what the request's body says about it.
func (e *Engine) ActWith(ctx context.Context, by audit.By, req Request, verb string) (Result, error) {
	id := req.ID
	t, err := e.Type(id.Type())
	if err != nil {
		return Result{}, err
	}
	act := t.Actions[verb]
	if act == nil {
		return Result{}, fault.New(fault.NotFound, "InvalidAction", "a %s has no action '%s'", t.Title, clip(verb))
	}
	if err := e.Authorize(ctx, by, t.Name+"/"+verb+"/action", id); err != nil {
		return Result{}, err
	}
	var out Result
	err = e.cfg.Write(ctx, func(tx Tx) error {
		r, ok, err := tx.ResourceByID(id.Key())
		if err != nil || !ok {
			return absent(err, id)
		}
		if r.State == Deleting {
			return fault.New(fault.Conflict, "Conflict", "'%s' is being deleted.", id.Name())
		}
		r.Want(tx.Now())
		if err := act(tx, by, &r, req.Body); err != nil {
			return err
		}
		if err := tx.PutResource(r); err != nil {
			return err
		}
		if out.Operation, err = e.operation(tx, by, verb+"/action", r); err != nil {
			return err
		}
		return tx.Audit(by, audit.Event{Type: "resource.action", Outcome: audit.Success, Target: id.String(), Detail: map[string]string{"action": verb}})
	})
	e.Wake()
	return out, err
}

// Same reports whether two JSON values are equal after normalization by their
// type: field order and spaces aside.
func Same(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	if json.Compact(&x, a) != nil || json.Compact(&y, b) != nil {
		return false
	}
	return bytes.Equal(x.Bytes(), y.Bytes())
}
