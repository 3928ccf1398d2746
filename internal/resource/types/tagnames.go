package types

import (
	"context"
	"maps"
	"slices"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// The action on the tag names of a subscription, and how many names it offers, with
// how many values each.
const (
	tagNamesAction = "Microsoft.Resources/subscriptions/tagNames"
	maxTagNames    = 500
)

// subscriptionPrivate is what the server knows of a subscription beside its name.
type subscriptionPrivate struct {
	TagNames map[string][]string `json:"tagNames,omitempty"`
}

// TagNames lists the tag names of a subscription: those that it offers, and those
// that anything has which the caller may read, with how often.
func (a Accounts) TagNames(ctx context.Context, by audit.By, subscription scope.ID) ([]map[string]any, error) {
	r, err := a.Engine.Find(ctx, by, subscription)
	if err != nil {
		return nil, err
	}
	var p subscriptionPrivate
	if err := r.ReadPrivate(&p); err != nil {
		return nil, err
	}
	used, spelled := map[string]map[string]int{}, map[string]string{} // case makes no other name
	for name, values := range p.TagNames {
		used[name], spelled[strings.ToLower(name)] = map[string]int{}, name
		for _, v := range values {
			used[name][v] = 0
		}
	}
	count := func(tags map[string]string) {
		for name, value := range tags {
			key, known := spelled[strings.ToLower(name)]
			if !known {
				key, spelled[strings.ToLower(name)], used[name] = name, name, map[string]int{}
			}
			used[key][value]++
		}
	}
	count(r.Tags)
	for _, kind := range []string{resource.TypeGroup, ""} {
		list, err := a.Engine.Each(ctx, by, resource.Query{Under: subscription, Type: kind})
		if err != nil {
			return nil, err
		}
		for _, x := range list {
			count(x.Tags)
		}
	}
	out := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		out = append(out, showTagName(subscription, name, used[name]))
	}
	return out, nil
}

// spelling is how a name is spelled already: case makes no other name.
func spelling(names map[string][]string, name string) string {
	for have := range names {
		if strings.EqualFold(have, name) {
			return have
		}
	}
	return name
}

func showTagName(subscription scope.ID, name string, values map[string]int) map[string]any {
	at := subscription.String() + "/tagNames/" + name
	list, total := []map[string]any{}, 0
	for _, v := range slices.Sorted(maps.Keys(values)) {
		list = append(list, showTagValue(at, v, values[v]))
		total += values[v]
	}
	return map[string]any{"id": at, "tagName": name, "count": map[string]any{"type": "Total", "value": total}, "values": list}
}

func showTagValue(at, value string, n int) map[string]any {
	return map[string]any{"id": at + "/tagValues/" + value, "tagValue": value, "count": map[string]any{"type": "Total", "value": n}}
}

// OfferTag adds a tag name, and with a value one of its values, to what a
// subscription offers, and says whether that is new there. It changes no tag of
// anything.
func (a Accounts) OfferTag(ctx context.Context, by audit.By, subscription scope.ID, name string, value *string) (shown map[string]any, fresh bool, err error) {
	probe := map[string]string{name: ""}
	if value != nil {
		probe[name] = *value
	}
	if err := resource.CheckTags(probe); err != nil {
		return nil, false, err
	}
	err = a.changeTagNames(ctx, by, subscription, name, "write", func(names map[string][]string, used map[string]int) error {
		key := spelling(names, name)
		values, ok := names[key]
		switch {
		case !ok && value != nil:
			return fault.New(fault.NotFound, "PredefinedTagNameNotFound", "The tag name '%s' is none that the subscription offers.", clip(name)).WithRemedy("See: az tag list")
		case !ok && len(names) >= maxTagNames:
			return tooManyTags()
		}
		fresh = !ok
		if value != nil && !slices.Contains(values, *value) {
			fresh = true
			if len(values) >= maxTagNames {
				return tooManyTags()
			}
			values = append(slices.Clone(values), *value)
		}
		names[key] = values
		shown = showOffered(subscription, key, values, used, value)
		return nil
	})
	return shown, fresh, err
}

func showOffered(subscription scope.ID, name string, values []string, used map[string]int, value *string) map[string]any {
	if value != nil {
		return showTagValue(subscription.String()+"/tagNames/"+name, *value, used[*value])
	}
	for _, v := range values {
		used[v] += 0
	}
	return showTagName(subscription, name, used)
}

func tooManyTags() error {
	return fault.New(fault.Invalid, "InvalidTagCount", "a subscription offers at most %d tag names with as many values each", maxTagNames)
}

// WithdrawTag takes a name, or one of its values, out of what a subscription
// offers. As in Azure, what anything has stays, and a name goes when its values have.
func (a Accounts) WithdrawTag(ctx context.Context, by audit.By, subscription scope.ID, name string, value *string) error {
	return a.changeTagNames(ctx, by, subscription, name, "delete", func(names map[string][]string, used map[string]int) error {
		key := spelling(names, name)
		values, ok := names[key]
		switch {
		case !ok:
		case value == nil && len(values) > 0:
			return fault.New(fault.Conflict, "PredefinedTagNameHasValues", "The tag name '%s' still offers %d values.", clip(key), len(values)).WithRemedy("Delete them first: az tag remove-value --name NAME --value VALUE")
		case value == nil && len(used) > 0:
			return stillUsed(key)
		case value != nil && used[*value] > 0:
			return stillUsed(key + " = " + *value)
		case value == nil:
			delete(names, key)
		default:
			names[key] = slices.DeleteFunc(slices.Clone(values), func(have string) bool { return have == *value })
		}
		return nil
	})
}

func stillUsed(tag string) error {
	return fault.New(fault.Conflict, "PredefinedTagInUse", "The tag '%s' is on resources, groups or the subscription itself.", clip(tag)).WithRemedy("See which: az resource list --tag NAME, and take it off them first.")
}

// usesOf counts the values that a tag has anywhere in a subscription, whoever may
// read it.
func usesOf(tx AccountsTx, subscription resource.Resource, name string) (map[string]int, error) {
	used := map[string]int{}
	list, err := tx.ListResources(resource.Range{Under: subscription.ID})
	if err != nil {
		return nil, err
	}
	for _, r := range append(list, subscription) {
		for have, value := range r.Tags {
			if strings.EqualFold(have, name) && !strings.EqualFold(r.ID.Type(), Deployment) {
				used[value]++
			}
		}
	}
	return used, nil
}

// changeTagNames changes what a subscription offers; change is told how often each
// value of the name is used.
func (a Accounts) changeTagNames(ctx context.Context, by audit.By, subscription scope.ID, name, verb string, change func(offered map[string][]string, used map[string]int) error) error {
	if err := a.Engine.Authorize(ctx, by, tagNamesAction+"/"+verb, subscription); err != nil {
		return err
	}
	return a.Write(ctx, func(tx AccountsTx) error {
		r, ok, err := tx.ResourceByID(subscription.Key())
		if err != nil || !ok {
			return absent(err, subscription)
		}
		var p subscriptionPrivate
		if err := r.ReadPrivate(&p); err != nil {
			return err
		}
		if p.TagNames == nil {
			p.TagNames = map[string][]string{}
		}
		used, err := usesOf(tx, r, name)
		if err != nil {
			return err
		}
		if err := change(p.TagNames, used); err != nil {
			return err
		}
		if err := r.WritePrivate(p); err != nil {
			return err
		}
		r.Touch(tx.Now())
		if err := tx.PutResource(r); err != nil {
			return err
		}
		return tx.Audit(by, audit.Event{Type: "resource.write", Outcome: audit.Success, Target: subscription.String(), Detail: map[string]string{"type": resource.TypeSubscription, "created": "false"}})
	})
}
