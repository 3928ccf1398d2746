package cli

import (
	"encoding/json"
	"strings"

	"sallyport/internal/cli/output"
	"sallyport/internal/scope"
)

// flatten moves the members of "properties" up, as az shows most resources. A
// member whose name is taken gets az's prefix ("typePropertiesType").
func flatten(doc map[string]any) map[string]any {
	properties, ok := doc["properties"].(map[string]any)
	if !ok {
		return doc
	}
	delete(doc, "properties")
	for k, v := range properties {
		if _, taken := doc[k]; taken {
			k += "Properties" + strings.ToUpper(k[:1]) + k[1:]
		}
		doc[k] = v
	}
	return doc
}

// resource flattens and adds the resource group's name, as az does.
func resource(doc map[string]any) any {
	flatten(doc)
	addGroup(doc)
	return doc
}

func addGroup(doc map[string]any) {
	id, err := scope.Parse(text(doc, "id"))
	if err == nil && id.ResourceGroupName() != "" {
		doc["resourceGroup"] = id.ResourceGroupName()
	}
}

// machine is a virtual machine as az shows it.
func machine(doc map[string]any) any {
	flatten(doc)
	addGroup(doc)
	if children, ok := doc["resources"].([]any); ok {
		for _, c := range children {
			if child, ok := c.(map[string]any); ok {
				extension(child)
				without(child, "type")
			}
		}
	}
	return doc
}

// member returns one member of a resource; nothing where it is absent.
func member(name string) func(map[string]any) any {
	return func(doc map[string]any) any {
		if doc[name] == nil {
			return json.RawMessage("null")
		}
		return doc[name]
	}
}

// extension is an extension of a machine as az shows it.
func extension(doc map[string]any) any {
	resource(doc)
	without(doc, "etag")
	return doc
}

// listed is a resource of the generic list as az shows it.
func listed(doc map[string]any) any {
	addGroup(doc)
	nulls(doc, "changedTime", "createdTime", "extendedLocation", "identity", "kind", "managedBy", "plan", "properties", "provisioningState", "sku", "tags")
	azTimes(doc, "changedTime", "createdTime")
	nullsIn(doc, "identity", "userAssignedIdentities")
	nullsIn(doc, "sku", "capacity", "family", "model", "name", "size", "tier")
	return doc
}

// extensions returns a machine's extensions.
func extensions(doc map[string]any) any {
	list, _ := doc["resources"].([]any)
	shown := []any{}
	for _, item := range list {
		if child, ok := item.(map[string]any); ok {
			shown = append(shown, extension(child))
		}
	}
	return shown
}

// text returns a string member by path; empty where there is none.
func text(doc map[string]any, path ...string) string {
	for _, name := range path[:len(path)-1] {
		next, ok := doc[name].(map[string]any)
		if !ok {
			return ""
		}
		doc = next
	}
	s, _ := doc[path[len(path)-1]].(string)
	return s
}

// columns makes table columns from "Title=expression" pairs.
func columns(pairs ...string) []output.Column {
	list := make([]output.Column, 0, len(pairs))
	for _, p := range pairs {
		title, expression, _ := strings.Cut(p, "=")
		list = append(list, output.Column{Title: title, Expression: expression})
	}
	return list
}
