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
				resource(child)
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

// extensions returns a machine's extensions.
func extensions(doc map[string]any) any {
	machine(doc)
	list, ok := doc["resources"].([]any)
	if !ok {
		return []any{}
	}
	return list
}

// entity is a Graph object without the annotation that only programs need.
func entity(doc map[string]any) any {
	delete(doc, "@odata.context")
	return doc
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
