package types

import (
	"slices"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/resource"
)

// action accepts an operation that exists here, or a pattern with '*' that at least
// one such matches. A misspelt operation would grant nothing, or in a "not" list
// take nothing away, and nobody would see it.
func (a Authorization) action(pattern string, data bool, field string) error {
	refused := fault.New(fault.Invalid, "InvalidActionOrNotAction", "'%s' does not match any of the actions supported by the providers.", clip(pattern)).
		WithRemedy("Operations look like Microsoft.Compute/virtualMachines/read; * stands for any part of one.").WithTarget(field)
	if len(pattern) > 256 || pattern == "" || strings.Contains(pattern, "**") {
		return refused
	}
	for _, part := range strings.Split(pattern, "/") {
		if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_*") != "" {
			return refused
		}
	}
	switch {
	case pattern == "*":
		return nil
	case !strings.Contains(pattern, "/"):
		return refused
	case a.named(pattern, data), !data && a.Operation(pattern), strings.Contains(pattern, "*") && slices.ContainsFunc(a.operations(data), wildcard(pattern)):
		return nil
	}
	return refused
}

// Operation reports whether a control action exists here: of a resource type, of
// this package, or named by a built-in role.
func (a Authorization) Operation(action string) bool {
	return slices.ContainsFunc(a.operations(false), func(known string) bool { return strings.EqualFold(known, action) }) || a.named(action, false)
}

// operations are the control actions that exist here, or the data actions, which are
// those that built-in roles name.
func (a Authorization) operations(data bool) []string {
	var out []string
	for _, d := range a.Roles.Definitions() {
		for _, p := range d.Permissions {
			list := p.Actions
			if data {
				list = p.DataActions
			}
			if d.BuiltIn && !d.Directory {
				out = append(out, slices.DeleteFunc(slices.Clone(list), func(s string) bool { return strings.Contains(s, "*") })...)
			}
		}
	}
	if data {
		return out
	}
	for _, t := range a.Engine.Types() {
		out = append(out, t.Name+"/read", t.Name+"/write", t.Name+"/delete")
		for verb := range t.Actions {
			out = append(out, t.Name+"/"+verb+"/action")
		}
	}
	return append(out,
		RoleAssignment+"/read", RoleAssignment+"/write", RoleAssignment+"/delete", RoleDefinition+"/read", RoleDefinition+"/write", RoleDefinition+"/delete",
		"Microsoft.Resources/subscriptions/resourceGroups/moveResources/action", "Microsoft.Resources/subscriptions/resourceGroups/validateMoveResources/action",
		"Microsoft.Management/managementGroups/subscriptions/write", "Microsoft.Management/managementGroups/subscriptions/delete",
		resource.AssignIdentity, resource.TagsWrite, tagNamesAction+"/write", tagNamesAction+"/delete", "Sallyport.Access/auditRecords/read", "Sallyport.Access/machineSessions/read", "Sallyport.Access/machineSessions/end/action",
		"Sallyport.Access/certificates/read", "Sallyport.Access/certificates/revoke/action", "Sallyport.Access/revocations/read", "Sallyport.Access/agentUpgrades/read", "Sallyport.Access/agentUpgrades/write", "Sallyport.Access/agentUpgrades/delete", "Microsoft.Authorization/auditRetention/write",
		"Sallyport.Access/tenantSettings/write", "Sallyport.Access/keys/read", "Sallyport.Access/keys/rotate/action", "Sallyport.Access/restores/read", "Sallyport.Access/restores/confirm/action",
		ActionRejoin, "Sallyport.Access/inventory/read",
	)
}

// wildcard is the test of a pattern in which * stands for any text.
func wildcard(pattern string) func(string) bool {
	parts := strings.Split(strings.ToLower(pattern), "*")
	return func(operation string) bool {
		rest, ok := strings.CutPrefix(strings.ToLower(operation), parts[0])
		for i, part := range parts[1:] {
			if !ok {
				return false
			}
			if i == len(parts)-2 {
				return strings.HasSuffix(rest, part)
			}
			_, rest, ok = strings.Cut(rest, part)
		}
		return ok && rest == ""
	}
}

// named reports whether a built-in role names the action as it is.
func (a Authorization) named(action string, data bool) bool {
	for _, d := range a.Roles.Definitions() {
		for _, p := range d.Permissions {
			list := p.Actions
			if data {
				list = p.DataActions
			}
			if d.BuiltIn && !d.Directory && slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, action) }) {
				return true
			}
		}
	}
	return false
}
