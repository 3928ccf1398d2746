package route

import (
	"slices"
	"strings"
)

// Options are the query options of a row that begin with a dollar, in the spelling of
// OData. A request that has another is refused: an option that nobody reads would
// answer another question than was asked. Those of Microsoft Graph depend on what is
// asked for, and its handler reads them all.
func (r Row) Options() []string {
	const top, skip, filter, expand = "$top", "$skipToken", "$filter", "$expand"
	id, ok := strings.CutPrefix(r.ID, "arm.")
	if !ok {
		return nil
	}
	id = strings.TrimSuffix(id, "AtRoot")
	kind, verb, _ := strings.Cut(id, ".")
	switch id {
	case "resources.list", "resources.listInGroup", "resourceGroups.list":
		return []string{top, skip, filter, expand}
	case "roleDefinitions.list", "roleAssignments.list":
		return []string{filter}
	case "managementGroups.get":
		return []string{expand, "$recurse"}
	case "imageVersions.list", "extensionVersions.list":
		return []string{top, "$orderby", expand}
	case "machines.get":
		return []string{expand}
	case "machineSessions.list", "certificates.list":
		return []string{skip}
	case "revocations.list":
		return []string{top, skip}
	case "auditRecords.list", "auditRecords.follow":
		return []string{top, skip, filter}
	}
	viewed := slices.Contains([]string{"virtualMachines", "extensions", "hybridMachines", "hybridExtensions", "scaleSetInstances", "scaleSetInstanceExtensions"}, kind)
	switch verb {
	case "list", "listInGroup":
		switch {
		case viewed && kind != "scaleSetInstanceExtensions":
			return []string{top, skip, expand}
		case paged(kind):
			return []string{top, skip}
		}
	case "get", "instanceView":
		if viewed {
			return []string{expand}
		}
	}
	return nil
}

// paged are the other lists of the engine.
func paged(kind string) bool {
	return slices.Contains([]string{"virtualNetworks", "networkSecurityGroups", "publicIPAddresses", "networkInterfaces", "userAssignedIdentities", "scaleSets", "deployments"}, kind)
}

// Conditional reports whether a row reads If-Match and If-None-Match: it writes what
// has an ETag.
func (r Row) Conditional() bool {
	kind, verb, _ := strings.Cut(strings.TrimPrefix(r.ID, "arm."), ".")
	switch verb {
	case "put", "patch", "delete":
		return paged(kind) || slices.Contains([]string{"resourceGroups", "virtualMachines", "extensions", "hybridMachines", "hybridExtensions", "scaleSetInstances"}, kind)
	}
	return false
}
