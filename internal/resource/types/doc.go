// Package types holds the resource types, a file each and a row in all.go:
// resource groups, networks, virtual machines and their extension, role
// assignments, subscriptions, management groups and tenants; and what machines
// are told by them (Wanted).
//
// It refuses: what would have no effect but looks as if it had (a network rule
// that nobody enforces, a password, a condition), by name. Source of shapes and
// codes: Azure's REST reference for Microsoft.Resources, Microsoft.Network,
// Microsoft.Compute, Microsoft.Authorization and Microsoft.Management.
package types
