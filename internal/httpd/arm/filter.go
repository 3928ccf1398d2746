package arm

import (
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/scope"
)

// filter narrows a generic list: by name, type, group, location, and by one tag.
// Each may be asked once, because all are joined with "and".
func filter(q *resource.Query, terms []types.Term, filters bool) error {
	seen := map[string]bool{}
	for _, t := range terms {
		name := t.Name
		if !filters || t.Call || seen[name] {
			return unfiltered(name)
		}
		seen[name] = true
		switch name {
		case "name":
			q.Name = t.Value
		case "resourcetype":
			q.Type = t.Value
		case "location":
			q.Location = strings.ToLower(strings.ReplaceAll(t.Value, " ", ""))
		case "tagname":
			q.TagName = t.Value
		case "tagvalue":
			q.TagValue = &t.Value
		case "resourcegroup":
			at, err := scope.Parse(scope.ResourceGroup(q.Under.SubscriptionID(), t.Value).String())
			if err != nil {
				return err
			}
			q.Under = at
		default:
			return unfiltered(name)
		}
	}
	for name, given := range map[string]string{"name": q.Name, "resourcetype": q.Type, "location": q.Location, "tagname": q.TagName} {
		if seen[name] && given == "" {
			return unfiltered(name)
		}
	}
	if q.TagValue != nil && q.TagName == "" {
		return unfiltered("tagvalue")
	}
	return nil
}

func unfiltered(name string) error {
	return fault.New(fault.Invalid, "InvalidFilter", "this list cannot be filtered by %q like that", name).
		WithRemedy("The generic list filters by name, resourceType, resourceGroup, location, and tagName with or without tagValue, each once with eq '...' and joined with and.").WithTarget("$filter")
}
