package resource

import (
	"context"
	"encoding/json"
	"maps"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/scope"
)

// TagsWrite is the action that changes tags alone, at what has them.
const TagsWrite = "Microsoft.Resources/tags/write"

// TagChange makes the tags that something shall have of those that it has.
type TagChange func(have map[string]string) (map[string]string, error)

// MergeTags adds tags and changes values. Names match in any case, as everywhere
// in Azure.
func MergeTags(given map[string]string) TagChange {
	return func(have map[string]string) (map[string]string, error) {
		out := without(have, func(name, _ string) bool { return holds(given, name, nil) })
		maps.Copy(out, given)
		return out, nil
	}
}

// ReplaceTags leaves no others.
func ReplaceTags(given map[string]string) TagChange {
	return func(map[string]string) (map[string]string, error) { return given, nil }
}

// DeleteTags takes those away that have the given names and values.
func DeleteTags(given map[string]string) TagChange {
	return func(have map[string]string) (map[string]string, error) {
		return without(have, func(name, value string) bool { return holds(given, name, &value) }), nil
	}
}

func holds(tags map[string]string, name string, value *string) bool {
	for k, v := range tags {
		if strings.EqualFold(k, name) && (value == nil || v == *value) {
			return true
		}
	}
	return false
}

func without(have map[string]string, leave func(name, value string) bool) map[string]string {
	out := map[string]string{}
	for k, v := range have {
		if !leave(k, v) {
			out[k] = v
		}
	}
	return out
}

// Tags returns the tags of a resource, a group or a subscription to who may read it.
func (e *Engine) Tags(ctx context.Context, by audit.By, id scope.ID) (map[string]string, error) {
	if _, err := e.tagged(id); err != nil {
		return nil, err
	}
	r, _, err := e.find(ctx, by, id)
	if err != nil {
		return nil, err
	}
	return without(r.Tags, func(string, string) bool { return false }), nil
}

// ChangeTags changes the tags of a resource, a group or a subscription, and nothing
// else of it. It needs TagsWrite there.
func (e *Engine) ChangeTags(ctx context.Context, by audit.By, id scope.ID, change TagChange) (map[string]string, error) {
	t, err := e.tagged(id)
	if err != nil {
		return nil, err
	}
	var next map[string]string
	if t.Name == TypeSubscription {
		err := e.changeOwnTags(ctx, by, id, change, &next)
		return next, err
	}
	_, err = e.write(ctx, by, Request{ID: id}, writeAs{patch: true, action: TagsWrite, before: func(tx Tx, _ *Aside) ([]byte, error) {
		r, ok, err := tx.ResourceByID(id.Key())
		if err != nil || !ok {
			return nil, absent(err, id)
		}
		if next, err = changed(r, change); err != nil {
			return nil, err
		}
		return json.Marshal(map[string]any{"tags": next})
	}})
	return next, err
}

// changeOwnTags is the change for what nobody writes by a PUT.
func (e *Engine) changeOwnTags(ctx context.Context, by audit.By, id scope.ID, change TagChange, next *map[string]string) error {
	if err := e.Authorize(ctx, by, TagsWrite, id); err != nil {
		return err
	}
	return e.cfg.Write(ctx, func(tx Tx) error {
		r, ok, err := tx.ResourceByID(id.Key())
		if err != nil || !ok {
			return absent(err, id)
		}
		if *next, err = changed(r, change); err != nil {
			return err
		}
		r.Tags = *next
		r.Touch(tx.Now())
		if err := tx.PutResource(r); err != nil {
			return err
		}
		return tx.Audit(by, audit.Event{Type: "resource.write", Outcome: audit.Success, Target: id.String(), Detail: map[string]string{"type": id.Type(), "created": yes(false)}})
	})
}

func changed(r Resource, change TagChange) (map[string]string, error) {
	next, err := change(r.Tags)
	if err != nil {
		return nil, err
	}
	if next == nil {
		next = map[string]string{}
	}
	return next, CheckTags(next)
}

// tagged is the type of what can have tags: what lives in a resource group, the
// group, and the subscription.
func (e *Engine) tagged(id scope.ID) (*Type, error) {
	t, err := e.Type(id.Type())
	if err != nil {
		return nil, err
	}
	up, _ := id.Parent()
	if t.Name == TypeSubscription || t.Name == TypeGroup || (t.Located && !t.ReadOnly && strings.EqualFold(up.Type(), TypeGroup)) {
		return t, nil
	}
	return nil, fault.New(fault.Invalid, "InvalidParameter", "a %s has no tags of its own", t.Title).WithRemedy("Subscriptions, resource groups and the resources that are in a group have them.")
}
