package cli

import (
	"context"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) definitionList() *cobra.Command {
	flags := []flag{{name: "name", short: "n", usage: "Name or GUID of the role"}, flagScope("Scope; the subscription by default"), optional(flagGroup()),
		{name: "custom-role-only", kind: 'b', usage: "Only roles made here"}}
	return leafFor("list", "List role definitions.", flags, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		at, err := scopeOf(s, in)
		if err != nil {
			return err
		}
		items, err := s.List(ctx, call(http.MethodGet, at+definitionsURL))
		if err != nil {
			return err
		}
		list := []any{}
		for _, item := range items {
			doc, err := object(item)
			if err != nil {
				return err
			}
			if properties, ok := doc["properties"].(map[string]any); ok {
				properties["roleType"] = properties["type"]
				delete(properties, "type")
			}
			flatten(doc)
			n := in.text("name")
			if n != "" && !strings.EqualFold(n, text(doc, "roleName")) && !strings.EqualFold(n, text(doc, "name")) || in.on("custom-role-only") && text(doc, "roleType") != "CustomRole" {
				continue
			}
			list = append(list, doc)
		}
		return a.print(list, columns("Name=roleName", "Type=roleType", "Description=description")...)
	})
}
