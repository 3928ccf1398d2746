package resource

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
)

// pageSize is how many items a page holds at most, and when nothing is asked.
const pageSize = 100

// Get returns one resource as people see it.
func (e *Engine) Get(ctx context.Context, by audit.By, id scope.ID, expand bool) (map[string]any, error) {
	r, children, err := e.find(ctx, by, id)
	if err != nil {
		return nil, err
	}
	return e.show(ctx, r, children, expand)
}

// Find returns one resource as stored, after the same check as Get.
func (e *Engine) Find(ctx context.Context, by audit.By, id scope.ID) (Resource, error) {
	r, _, err := e.find(ctx, by, id)
	return r, err
}

func (e *Engine) find(ctx context.Context, by audit.By, id scope.ID) (r Resource, children []Resource, err error) {
	t, err := e.Type(id.Type())
	if err != nil {
		return r, nil, err
	}
	if err := e.authorizeRead(by, t, id); err != nil {
		return r, nil, err
	}
	err = e.cfg.Read(ctx, func(tx Tx) error {
		var ok bool
		if r, ok, err = tx.ResourceByID(id.Key()); err != nil {
			return err
		}
		if !ok {
			if up, has := parentOf(id); has {
				if _, ok, err := tx.ResourceByID(up.Key()); err != nil || !ok {
					return absent(err, up)
				}
			}
			return missing(id)
		}
		children, err = embedded(tx, t, id)
		return err
	})
	return r, children, err
}

// authorizeRead lets a caller read what it may read, and the subscriptions,
// groups and management groups that lead to something where it holds any role:
// otherwise nobody could walk down to the one machine that is his.
func (e *Engine) authorizeRead(by audit.By, t *Type, id scope.ID) error {
	action := t.Name + "/read"
	if e.Allowed(by, action, id) || (t.ReadAs != "" && e.Allowed(by, t.ReadAs, id)) || (leads(t) && e.holdsAt(by, id)) {
		return nil
	}
	return Denied(by, action, id)
}

func leads(t *Type) bool {
	return t.Name == TypeSubscription || t.Name == TypeGroup || t.Name == TypeManagementGroup
}

// holdsAt reports whether the caller holds any role at, above or below a scope.
func (e *Engine) holdsAt(by audit.By, id scope.ID) bool {
	return len(e.cfg.Rights.Assignments(rbac.Filter{Principals: by.Principals(), Scope: id, Above: true, Below: true})) > 0
}

func embedded(tx Tx, t *Type, id scope.ID) ([]Resource, error) {
	if t.Embed == "" {
		return nil, nil
	}
	return tx.ListResources(Range{Under: id, Type: t.Embed})
}

// show makes the wire form: what ARM has for every resource, around what the
// type shows.
func (e *Engine) show(ctx context.Context, r Resource, children []Resource, expand bool) (map[string]any, error) {
	t, err := e.Type(r.ID.Type())
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	if len(r.Top) > 0 {
		if err := json.Unmarshal(r.Top, &out); err != nil {
			return nil, err
		}
	}
	maps.Copy(out, map[string]any{"id": r.ID.String(), "name": r.ID.Name(), "type": t.Name, "etag": r.ETag})
	if t.Called != nil {
		out["name"] = t.Called(r.ID)
	}
	if t.Located {
		out["location"] = r.Location
	}
	if t.Located || len(r.Tags) > 0 {
		tags := r.Tags
		if tags == nil {
			tags = map[string]string{}
		}
		out["tags"] = tags
	}
	if r.Identity != nil && !t.Principal {
		out["identity"] = r.Identity.Shown()
	}
	properties := map[string]any{}
	if t.Show != nil {
		properties, err = t.Show(ctx, View{Resource: r, Children: children, Expand: expand})
	} else {
		err = r.ReadProperties(&properties)
	}
	if err != nil {
		return nil, err
	}
	if _, own := properties["provisioningState"]; !own {
		properties["provisioningState"] = r.State
	}
	out["properties"] = properties
	if t.Embed != "" && len(children) > 0 {
		list := make([]map[string]any, 0, len(children))
		for _, c := range children {
			shown, err := e.show(ctx, c, nil, false)
			if err != nil {
				return nil, err
			}
			list = append(list, shown)
		}
		out["resources"] = list
	}
	return out, nil
}

// Query asks for a list.
type Query struct {
	Under scope.ID // a subscription, group or parent resource; zero for everywhere
	Type  string   // "" for every type that lives in resource groups
	Name  string   // only resources of this name, any case
	// Location, and a tag by its name or by name and value, any case but the value's;
	// TagName "" selects nothing by tags.
	Location, TagName string
	TagValue          *string
	Expand            bool
	Times             bool   // show when each was made and last changed
	Top               int    // at most so many; 0 for a page
	After             string // what Page.Next said
}

// Page is one page of a list.
type Page struct {
	Value []map[string]any
	Next  string // "" on the last page
}

// List returns what the caller may read of what the query selects. A caller who
// holds no role anywhere in the scope is refused rather than shown nothing.
func (e *Engine) List(ctx context.Context, by audit.By, q Query) (Page, error) {
	list, next, err := e.list(ctx, by, q)
	if err != nil {
		return Page{}, err
	}
	page := Page{Value: make([]map[string]any, 0, len(list)), Next: next}
	for _, x := range list {
		shown, err := e.show(ctx, x.resource, x.children, q.Expand)
		if err != nil {
			return Page{}, err
		}
		referred(shown)
		if q.Times {
			shown["createdTime"], shown["changedTime"] = x.resource.CreatedAt, x.resource.ChangedAt
		}
		page.Value = append(page.Value, shown)
	}
	return page, nil
}

// referred leaves the ids of what is embedded: lists name it, as Azure's do, and
// azure-cli 2.91.0 ends with a traceback when they show it.
func referred(shown map[string]any) {
	list, ok := shown["resources"].([]map[string]any)
	if !ok {
		return
	}
	for i, child := range list {
		list[i] = map[string]any{"id": child["id"]}
	}
}

// Each returns the stored resources that List would show, all pages of them.
func (e *Engine) Each(ctx context.Context, by audit.By, q Query) ([]Resource, error) {
	var out []Resource
	for {
		list, next, err := e.list(ctx, by, q)
		if err != nil {
			return nil, err
		}
		for _, x := range list {
			out = append(out, x.resource)
		}
		if next == "" {
			return out, nil
		}
		q.After = next
	}
}

type listed struct {
	resource Resource
	children []Resource
}

func (e *Engine) list(ctx context.Context, by audit.By, q Query) (out []listed, next string, err error) {
	if q.Type != "" {
		t, err := e.Type(q.Type)
		if err != nil {
			return nil, "", err
		}
		if !q.Under.IsZero() && !leads(t) && !e.Allowed(by, t.Name+"/read", q.Under) && !e.holdsAt(by, q.Under) {
			return nil, "", Denied(by, t.Name+"/read", q.Under)
		}
	}
	after, err := base64.RawURLEncoding.DecodeString(q.After)
	if err != nil {
		return nil, "", fault.Wrap(err, fault.Invalid, "InvalidParameter", "$skipToken is not one that this server gave").WithTarget("$skipToken")
	}
	top := pageSize
	if q.Top > 0 {
		top = min(q.Top, pageSize)
	}
	err = e.cfg.Read(ctx, func(tx Tx) error {
		out, next = nil, ""
		if err := e.mustExist(tx, q.Under); err != nil {
			return err
		}
		for at := string(after); ; {
			batch, err := tx.ListResources(Range{Under: q.Under, Type: q.Type, After: at, Limit: pageSize})
			if err != nil {
				return err
			}
			for _, r := range batch {
				at = r.ID.Key()
				if !e.visible(by, r, q) {
					continue
				}
				if len(out) == top {
					next = base64.RawURLEncoding.EncodeToString([]byte(out[top-1].resource.ID.Key()))
					return nil
				}
				x := listed{resource: r}
				if x.children, err = e.childrenOf(tx, r); err != nil {
					return err
				}
				out = append(out, x)
			}
			if len(batch) < pageSize {
				return nil
			}
		}
	})
	return out, next, err
}

func (e *Engine) mustExist(tx Tx, id scope.ID) error {
	if id.IsZero() || id == scope.Root() {
		return nil
	}
	if _, ok, err := tx.ResourceByID(id.Key()); err != nil || !ok {
		return absent(err, id)
	}
	return nil
}

func (e *Engine) childrenOf(tx Tx, r Resource) ([]Resource, error) {
	t, err := e.Type(r.ID.Type())
	if err != nil {
		return nil, err
	}
	return embedded(tx, t, r.ID)
}

// visible applies the filter and the caller's rights to one item.
func (e *Engine) visible(by audit.By, r Resource, q Query) bool {
	if q.Name != "" && !strings.EqualFold(q.Name, r.ID.Name()) {
		return false
	}
	if q.Location != "" && !strings.EqualFold(q.Location, r.Location) || q.TagName != "" && !holds(r.Tags, q.TagName, q.TagValue) {
		return false
	}
	t := e.types[strings.ToLower(r.ID.Type())]
	if t == nil {
		return false
	}
	if q.Type == "" {
		// The generic list shows tracked resources: not groups, not children.
		if up, ok := r.ID.Parent(); leads(t) || t.Hidden || !ok || !strings.EqualFold(up.Type(), TypeGroup) {
			return false
		}
	}
	return e.authorizeRead(by, t, r.ID) == nil
}
