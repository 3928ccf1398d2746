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

// DirectoryOptions are the query options of a row of Microsoft Graph: those of a list,
// or of one object. What a list can be filtered by depends on what it holds.
func (r Row) DirectoryOptions() []string {
	switch {
	case r.Surface != Graph || r.Method != "GET":
		return nil
	case strings.HasSuffix(r.ID, ".get"):
		return []string{"$select"}
	}
	return []string{"$filter", "$search", "$select", "$top", "$skiptoken", "$count"}
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

// Parameters are the query parameters of a row of Resource Manager's that begin with
// no dollar, beside api-version. As with Options, another one is refused: whoever asks
// that a machine hibernates must not have it switched off.
func (r Row) Parameters() []string {
	const principal = "principal"
	id, _ := strings.CutPrefix(r.ID, "arm.")
	switch id {
	case "sessions.list", "sessions.revoke", "certificates.revokeAll", "access.explain":
		return []string{principal}
	case "certificates.list":
		return []string{principal, "all"}
	case "machineSessions.list":
		return []string{principal, "machine"}
	case "machineSessions.get", "machineSessions.end":
		return []string{"machine"}
	case "auditRecords.list":
		return []string{"startTime", "endTime"}
	case "auditRecords.follow":
		return []string{"startTime", "endTime", "wait", "from"}
	}
	switch kind, verb, _ := strings.Cut(id, "."); {
	case verb == "powerOff":
		return []string{SkipShutdown}
	case verb == "deallocate":
		return []string{Hibernate}
	case verb == "delete" && slices.Contains([]string{"virtualMachines", "scaleSets", "scaleSetInstances"}, kind), id == "scaleSets.deleteInstances":
		return []string{ForceDeletion}
	}
	return nil
}

// What Azure's clients may ask of the way that a machine is stopped, each false unless
// they say so. No machine here can do it, so that httpd lets false through alone.
const (
	SkipShutdown  = "skipShutdown"
	Hibernate     = "hibernate"
	ForceDeletion = "forceDeletion"
)

// Bodyless reports whether an operation of Resource Manager's reads no body, so that
// one which says anything is refused.
func (r Row) Bodyless() bool {
	id, ok := strings.CutPrefix(r.ID, "arm.")
	kind, verb, _ := strings.Cut(id, ".")
	switch {
	case !ok || r.Method == "GET" || r.Method == "HEAD":
		return false
	case r.Method == "DELETE":
		return true
	case r.Method == "PUT":
		return slices.Contains([]string{"managementGroupSubscriptions", "tagNames", "tagValues"}, kind)
	}
	switch id {
	case "providers.register", "managementGroups.entities", "hybridMachines.quarantine", "joinTokens.create", "auditRecords.verify":
		return true
	}
	switch kind {
	case "virtualMachines", "scaleSetInstances":
		return slices.Contains([]string{"start", "powerOff", "deallocate", "restart"}, verb)
	case "sessions", "machineSessions", "certificates":
		return r.Method == "POST"
	case "agentUpgrades":
		return verb != "put"
	}
	return false
}
