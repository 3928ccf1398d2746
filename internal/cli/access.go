package cli

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/cli/output"
)

func (a *app) accessExplain() *cobra.Command {
	flags := []flag{{name: "user", usage: "User principal name or object id; yourself by default"},
		{name: "machine", usage: "Name of the machine", aliases: "name/n"}, optional(flagGroup()), flagInstance(), flagMachineIDs()}
	cmd := leafFor("explain", "Say why somebody gets into a machine, or does not.", flags, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		at, err := a.machineScope(ctx, s, in, "machine")
		if err != nil {
			return err
		}
		c := client.Call{Method: http.MethodGet, Path: at + "/providers/Sallyport.Access/explain", Query: url.Values{}}
		if who := in.text("user"); who != "" {
			c.Query.Set("principal", who)
		}
		var doc struct {
			Properties map[string]any `json:"properties"`
		}
		if err := do(ctx, s, c, &doc); err != nil {
			return err
		}
		if a.out.Format == output.Table && a.out.Query == nil {
			return a.print(steps(doc.Properties), columns("Step=step", "Passed=passed", "What=message")...)
		}
		return a.print(doc.Properties)
	})
	cmd.Example = "  sally access explain --user alice@example.com --machine VM -g GROUP -o table"
	return cmd
}

func (a *app) accessWho() *cobra.Command {
	flags := []flag{{name: "scope", usage: "A machine, resource group, subscription or management group, by id"},
		{name: "machine", usage: "Name of a machine, with its resource group", aliases: "name/n"}, optional(flagGroup()), flagMachineIDs()}
	cmd := leafFor("who", "List who may log in at a scope, and by which role assignment.", flags, func(ctx context.Context, in values) error {
		named := in.text("machine") != "" || in.text("resource-group") != "" || in.given("ids")
		if named == (in.text("scope") != "") {
			return usageError{"usage error: give --scope, or --machine and --resource-group, or --ids"}
		}
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		var at string
		if named {
			at, err = a.machineScope(ctx, s, in, "machine")
		} else {
			at, err = fillURL("{scope}", s, in)
		}
		if err != nil {
			return err
		}
		items, err := s.List(ctx, client.Call{Method: http.MethodGet, Path: at + "/providers/Sallyport.Access/whoCanLogIn", Query: url.Values{}})
		if err != nil {
			return err
		}
		return a.print(items, columns("Principal=principal.name", "Type=principal.type", "Access=access", "Role=through.roleName", "Scope=through.scope", "Groups=join(' > ', through.groups[].name)")...)
	})
	cmd.Example = "  sally access who --machine MACHINE -g GROUP -o table\n  sally access who --scope /subscriptions/ID"
	return cmd
}

// steps lays an explanation out as lines: the account's steps, each assignment
// before the step that counts them, the machine's steps, the verdict.
func steps(doc map[string]any) []any {
	lines := []any{}
	list, _ := doc["steps"].([]any)
	for _, item := range list {
		step, _ := item.(map[string]any)
		if text(step, "step") == "role" {
			lines = append(lines, assignmentLines(doc)...)
		}
		lines = append(lines, step)
	}
	verdict, _ := doc["verdict"].(map[string]any)
	return append(lines, map[string]any{"step": "verdict", "passed": text(verdict, "reason") == "granted", "message": text(verdict, "message")})
}

func assignmentLines(doc map[string]any) []any {
	var lines []any
	list, _ := doc["assignments"].([]any)
	for _, item := range list {
		x, _ := item.(map[string]any)
		via := ""
		groups, _ := x["groups"].([]any)
		for _, g := range groups {
			named, _ := g.(map[string]any)
			via += " > " + text(named, "name")
		}
		if via != "" {
			via = " by group " + strings.TrimPrefix(via, " > ")
		}
		lines = append(lines, map[string]any{"step": "assignment", "passed": x["counts"], "message": text(x, "roleName") + " at " + text(x, "scope") + via + ": " + text(x, "why")})
	}
	return lines
}
