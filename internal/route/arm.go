package route

const (
	armSubscription = "/subscriptions/{subscription}"
	armGroup        = armSubscription + "/resourceGroups/{group}"
	armLocation     = armSubscription + "/providers/Microsoft.Compute/locations/{location}"

	armManagementGroup = "/providers/Microsoft.Management/managementGroups/{name}"

	whyListed  = "each item is shown only to a caller who may read it; the engine filters"
	whyCatalog = "a catalogue that is the same for everybody"
	whyTicket  = "the engine shows a ticket to who started it and to readers of its resource"
)

func armRows() []Row {
	rows := []Row{
		armRow("metadata.endpoints", "GET", "/metadata/endpoints", "", "").public(),
		armRow("aliases", "GET", "/aliases.json", "", "").public(),
		armRow("tenants.list", "GET", "/tenants", "", "whoever is signed in belongs to the one tenant"),
		armRow("subscriptions.list", "GET", "/subscriptions", "", whyListed),
		armRow("subscriptions.get", "GET", armSubscription, "Microsoft.Resources/subscriptions/read", ""),
		armRow("locations.list", "GET", armSubscription+"/locations", "Microsoft.Resources/subscriptions/read", ""),
		armRow("operations.status", "GET", armSubscription+"/providers/Microsoft.Resources/operationStatuses/{operation}", "", whyTicket),
		armRow("operations.result", "GET", armSubscription+"/providers/Microsoft.Resources/operationResults/{operation}", "", whyTicket),
		armRow("providers.list", "GET", armSubscription+"/providers", "", whyCatalog),
		armRow("providers.get", "GET", armSubscription+"/providers/{namespace}", "", whyCatalog),
		armRow("providers.register", "POST", armSubscription+"/providers/{namespace}/register", "", "every namespace is registered; nothing changes"),
		armRow("resources.list", "GET", armSubscription+"/resources", "", whyListed),
		armRow("resources.listInGroup", "GET", armGroup+"/resources", "", whyListed),
		armRow("resources.move", "POST", armGroup+"/moveResources", "Microsoft.Resources/subscriptions/resourceGroups/moveResources/action", ""),
		armRow("resources.validateMove", "POST", armGroup+"/validateMoveResources", "Microsoft.Resources/subscriptions/resourceGroups/validateMoveResources/action", ""),
		armRow("resourceGroups.list", "GET", armSubscription+"/resourceGroups", "", whyListed),
		armRow("resourceGroups.head", "HEAD", armGroup, "Microsoft.Resources/resourceGroups/read", ""),
	}
	rows = append(rows, armItem("resourceGroups", "Microsoft.Resources/resourceGroups", armGroup)...)
	for _, kind := range []string{"virtualNetworks", "networkSecurityGroups", "publicIPAddresses", "networkInterfaces"} {
		rows = append(rows, armTracked(kind, "Microsoft.Network/"+kind)...)
	}
	rows = append(rows, armTracked("userAssignedIdentities", "Microsoft.ManagedIdentity/userAssignedIdentities")...)
	rows = append(rows, armManagementGroups()...)
	rows = append(rows, armTags()...)
	rows = append(rows, armTracked("virtualMachines", "Microsoft.Compute/virtualMachines")...)
	rows = append(rows, armCompute()...)
	rows = append(rows, armScaleSets()...)
	rows = append(rows, armHybrid()...)
	rows = append(rows, armDeployments()...)
	rows = append(rows, armAuthorization()...)
	rows = append(rows, armSignIns()...)
	rows = append(rows, armLive()...)
	rows = append(rows, armUpgrades()...)
	return append(rows, armAccess()...)
}

// armManagementGroups: the tree above the subscriptions.
func armManagementGroups() []Row {
	const kind = "Microsoft.Management/managementGroups"
	const one, inside = armManagementGroup, armManagementGroup + "/subscriptions"
	return []Row{
		armRow("managementGroups.list", "GET", "/providers/"+kind, "", whyListed),
		armRow("managementGroups.get", "GET", one, kind+"/read", ""),
		armRow("managementGroups.put", "PUT", one, kind+"/write", ""),
		armRow("managementGroups.patch", "PATCH", one, kind+"/write", ""),
		armRow("managementGroups.delete", "DELETE", one, kind+"/delete", ""),
		armRow("managementGroups.checkName", "POST", "/providers/Microsoft.Management/checkNameAvailability", "", "whether a name is taken is all that it tells, and whoever wants to make one must know it"),
		armRow("managementGroups.entities", "POST", "/providers/Microsoft.Management/getEntities", "", whyListed),
		armRow("managementGroupSubscriptions.list", "GET", inside, kind+"/read", ""),
		armRow("managementGroupSubscriptions.get", "GET", inside+"/{subscription}", kind+"/read", ""),
		armRow("managementGroupSubscriptions.put", "PUT", inside+"/{subscription}", kind+"/subscriptions/write", ""),
		armRow("managementGroupSubscriptions.delete", "DELETE", inside+"/{subscription}", kind+"/subscriptions/delete", ""),
	}
}

// armTags: the tags of what has some, at an address of their own, and the names
// that a subscription offers for them.
func armTags() []Row {
	const kind, names = "Microsoft.Resources/tags", armSubscription + "/tagNames"
	const one = "/{scope...}/providers/" + kind + "/default"
	rows := []Row{
		armRow("tags.get", "GET", one, "", "the engine asks for the right to read what has the tags"),
		armRow("tags.put", "PUT", one, kind+"/write", ""),
		armRow("tags.patch", "PATCH", one, kind+"/write", ""),
		armRow("tags.delete", "DELETE", one, kind+"/write", ""),
		armRow("tagNames.list", "GET", names, "Microsoft.Resources/subscriptions/read", ""),
	}
	for _, x := range [][2]string{{"tagNames", names + "/{name}"}, {"tagValues", names + "/{name}/tagValues/{child}"}} {
		rows = append(rows, armRow(x[0]+".put", "PUT", x[1], "Microsoft.Resources/subscriptions/tagNames/write", ""),
			armRow(x[0]+".delete", "DELETE", x[1], "Microsoft.Resources/subscriptions/tagNames/delete", ""))
	}
	return rows
}

func armRow(id, method, pattern, action, why string) Row {
	limiter := "write"
	if method == "GET" || method == "HEAD" {
		limiter = "read"
	}
	return Row{ID: "arm." + id, Method: method, Pattern: pattern, Door: Caller, Surface: ARM, Action: action, Why: why, Limiter: limiter}
}

func (r Row) public() Row {
	r.Door, r.Why = Public, "a client reads it before anybody signs in"
	return r
}

// armItem is what every resource answers at its own address.
func armItem(id, kind, pattern string) []Row {
	return []Row{
		armRow(id+".get", "GET", pattern, kind+"/read", ""),
		armRow(id+".put", "PUT", pattern, kind+"/write", ""),
		armRow(id+".patch", "PATCH", pattern, kind+"/write", ""),
		armRow(id+".delete", "DELETE", pattern, kind+"/delete", ""),
	}
}

// armTracked adds the lists of a type that lives in resource groups.
func armTracked(id, kind string) []Row {
	return append(armItem(id, kind, armGroup+"/providers/"+kind+"/{name}"),
		armRow(id+".list", "GET", armSubscription+"/providers/"+kind, "", whyListed),
		armRow(id+".listInGroup", "GET", armGroup+"/providers/"+kind, "", whyListed))
}

func armCompute() []Row {
	const vm = armGroup + "/providers/Microsoft.Compute/virtualMachines/{name}"
	const publisher = armLocation + "/publishers/{publisher}/artifacttypes"
	rows := armItem("extensions", "Microsoft.Compute/virtualMachines/extensions", vm+"/extensions/{child}")
	rows = append(rows,
		armRow("extensions.list", "GET", vm+"/extensions", "", whyListed),
		armRow("virtualMachines.instanceView", "GET", vm+"/instanceView", "Microsoft.Compute/virtualMachines/read", ""),
		armRow("publishers.list", "GET", armLocation+"/publishers", "", whyCatalog),
		armRow("extensionTypes.list", "GET", publisher+"/vmextension/types", "", whyCatalog),
		armRow("extensionVersions.list", "GET", publisher+"/vmextension/types/{type}/versions", "", whyCatalog),
		armRow("extensionVersions.get", "GET", publisher+"/vmextension/types/{type}/versions/{version}", "", whyCatalog),
		armRow("imageOffers.list", "GET", publisher+"/vmimage/offers", "", whyCatalog),
		armRow("imageSKUs.list", "GET", publisher+"/vmimage/offers/{offer}/skus", "", whyCatalog),
		armRow("imageVersions.list", "GET", publisher+"/vmimage/offers/{offer}/skus/{sku}/versions", "", whyCatalog),
		armRow("imageVersions.get", "GET", publisher+"/vmimage/offers/{offer}/skus/{sku}/versions/{version}", "", whyCatalog))
	for _, verb := range []string{"start", "powerOff", "deallocate", "restart"} {
		rows = append(rows, armRow("virtualMachines."+verb, "POST", vm+"/"+verb, "Microsoft.Compute/virtualMachines/"+verb+"/action", ""))
	}
	return rows
}

// armScaleSets: machines that are all alike. Extensions of a set are part of its
// model, and network interfaces part of its instances: neither has a row of its own.
func armScaleSets() []Row {
	const kind = "Microsoft.Compute/virtualMachineScaleSets"
	const set = armGroup + "/providers/" + kind + "/{name}"
	const one = set + "/virtualMachines/{child}"
	rows := append(armTracked("scaleSets", kind),
		armRow("scaleSets.instanceView", "GET", set+"/instanceView", kind+"/read", ""),
		armRow("scaleSets.networkInterfaces", "GET", set+"/networkInterfaces", "", whyListed),
		armRow("scaleSetExtensions.list", "GET", set+"/extensions", kind+"/read", ""),
		armRow("scaleSetExtensions.get", "GET", set+"/extensions/{child}", kind+"/read", ""),
		armRow("scaleSetExtensions.put", "PUT", set+"/extensions/{child}", kind+"/write", ""),
		armRow("scaleSetExtensions.delete", "DELETE", set+"/extensions/{child}", kind+"/write", ""),
		armRow("scaleSetInstances.list", "GET", set+"/virtualMachines", "", whyListed),
		armRow("scaleSetInstances.get", "GET", one, kind+"/virtualMachines/read", ""),
		armRow("scaleSetInstances.delete", "DELETE", one, kind+"/virtualMachines/delete", ""),
		armRow("scaleSetInstances.instanceView", "GET", one+"/instanceView", kind+"/virtualMachines/read", ""),
		armRow("scaleSetInstances.networkInterfaces", "GET", one+"/networkInterfaces", kind+"/virtualMachines/read", ""),
		armRow("scaleSetInstances.networkInterface", "GET", one+"/networkInterfaces/{interface}", kind+"/virtualMachines/read", ""),
		armRow("scaleSetInstanceExtensions.list", "GET", one+"/extensions", kind+"/virtualMachines/read", ""),
		armRow("scaleSetInstanceExtensions.get", "GET", one+"/extensions/{extension}", kind+"/virtualMachines/extensions/read", ""))
	for _, verb := range []string{"manualupgrade", "delete"} {
		rows = append(rows, armRow("scaleSets."+verb+"Instances", "POST", set+"/"+verb, kind+"/"+verb+"/action", ""))
	}
	for _, verb := range []string{"start", "powerOff", "deallocate", "restart"} {
		rows = append(rows, armRow("scaleSets."+verb, "POST", set+"/"+verb, kind+"/"+verb+"/action", ""),
			armRow("scaleSetInstances."+verb, "POST", one+"/"+verb, kind+"/virtualMachines/"+verb+"/action", ""))
	}
	return rows
}

// armDeployments: templates, and what became of them.
func armDeployments() []Row {
	const kind = "Microsoft.Resources/deployments"
	const one = armGroup + "/providers/" + kind + "/{name}"
	return []Row{
		armRow("deployments.get", "GET", one, kind+"/read", ""),
		armRow("deployments.head", "HEAD", one, kind+"/read", ""),
		armRow("deployments.put", "PUT", one, kind+"/write", ""),
		armRow("deployments.delete", "DELETE", one, kind+"/delete", ""),
		armRow("deployments.validate", "POST", one+"/validate", kind+"/write", ""),
		armRow("deployments.operations", "GET", one+"/operations", kind+"/read", ""),
		armRow("deployments.operationsOf", "GET", armGroup+"/deployments/{name}/operations", kind+"/read", ""), // the address that az and the SDKs ask
		armRow("deployments.listInGroup", "GET", armGroup+"/providers/"+kind, "", whyListed),
	}
}

// armHybrid: machines that joined from elsewhere, and the tokens that let them.
func armHybrid() []Row {
	const kind = "Microsoft.HybridCompute/machines"
	const machine = armGroup + "/providers/" + kind + "/{name}"
	rows := append(armTracked("hybridMachines", kind), armItem("hybridExtensions", kind+"/extensions", machine+"/extensions/{child}")...)
	return append(rows,
		armRow("hybridExtensions.list", "GET", machine+"/extensions", "", whyListed),
		armRow("hybridMachines.quarantine", "POST", machine+"/quarantine", kind+"/quarantine/action", ""),
		armRow("joinTokens.create", "POST", "/{scope...}/providers/Sallyport.Access/createJoinToken", "",
			"the service asks for "+kind+"/write at a group, and for "+kind+"/rejoin/action at a machine, now and when the token is used"))
}

// armAuthorization: role definitions and assignments at any scope, and at "/".
func armAuthorization() []Row {
	const definitions, assignments = "Microsoft.Authorization/roleDefinitions", "Microsoft.Authorization/roleAssignments"
	var rows []Row
	for _, at := range [][2]string{{"", "/{scope...}/providers/"}, {"AtRoot", "/providers/"}} {
		suffix, prefix := at[0], at[1]
		rows = append(rows,
			armRow("roleDefinitions.list"+suffix, "GET", prefix+definitions, definitions+"/read", ""),
			armRow("roleDefinitions.get"+suffix, "GET", prefix+definitions+"/{name}", definitions+"/read", ""),
			armRow("roleDefinitions.put"+suffix, "PUT", prefix+definitions+"/{name}", definitions+"/write", ""),
			armRow("roleDefinitions.delete"+suffix, "DELETE", prefix+definitions+"/{name}", definitions+"/delete", ""),
			armRow("roleAssignments.list"+suffix, "GET", prefix+assignments, assignments+"/read", ""),
			armRow("roleAssignments.get"+suffix, "GET", prefix+assignments+"/{name}", assignments+"/read", ""),
			armRow("roleAssignments.put"+suffix, "PUT", prefix+assignments+"/{name}", assignments+"/write", ""),
			armRow("roleAssignments.delete"+suffix, "DELETE", prefix+assignments+"/{name}", assignments+"/delete", ""))
	}
	return rows
}

// armSignIns is where people are signed in, and how they may.
func armSignIns() []Row {
	const sessions, settings = "/providers/Sallyport.Access/sessions", "/providers/Sallyport.Access/tenantSettings/default"
	const own = "everybody sees and ends his own sign-ins; the service asks a directory role for those of others"
	return []Row{
		armRow("sessions.list", "GET", sessions, "", own),
		armRow("sessions.revoke", "POST", sessions+"/{name}/revoke", "", own),
		armRow("tenantSettings.get", "GET", settings, "", "every member of the tenant may know how to sign in"),
		armRow("tenantSettings.patch", "PATCH", settings, "Sallyport.Access/tenantSettings/write", ""),
	}
}

// armLive is what is open on machines, and what opens them.
func armLive() []Row {
	const certificates, revocations = "/providers/Sallyport.Access/certificates", "/providers/Sallyport.Access/revocations"
	const mine = "everybody sees and revokes his own certificates; for those of others the handler asks the directory roles, and the engine at the root management group"
	const sessions = "/providers/Sallyport.Access/machineSessions"
	const own = "everybody sees and ends his own sessions; for those of others the handler asks the engine at the machine that each is on"
	return []Row{
		armRow("machineSessions.list", "GET", sessions, "", own),
		armRow("machineSessions.get", "GET", sessions+"/{name}", "", own),
		armRow("machineSessions.end", "POST", sessions+"/{name}/end", "", own),
		armRow("revocations.list", "GET", revocations, "Sallyport.Access/revocations/read", ""),
		armRow("revocations.get", "GET", revocations+"/{name}", "Sallyport.Access/revocations/read", ""),
		armRow("certificates.list", "GET", certificates, "", mine),
		armRow("certificates.get", "GET", certificates+"/{name}", "", mine),
		armRow("certificates.revoke", "POST", certificates+"/{name}/revoke", "", mine),
		armRow("certificates.revokeAll", "POST", certificates+"/revokeAll", "", mine+", and for a managed identity at its resource"),
	}
}

// armUpgrades is the upgrade of machines' agents in rings.
func armUpgrades() []Row {
	const upgrades, read, write = "/providers/Sallyport.Access/agentUpgrades", "Sallyport.Access/agentUpgrades/read", "Sallyport.Access/agentUpgrades/write"
	return []Row{
		armRow("agentUpgrades.list", "GET", upgrades, read, ""),
		armRow("agentUpgrades.get", "GET", upgrades+"/{name}", read, ""),
		armRow("agentUpgrades.put", "PUT", upgrades+"/{name}", write, ""),
		armRow("agentUpgrades.delete", "DELETE", upgrades+"/{name}", "Sallyport.Access/agentUpgrades/delete", ""),
		armRow("agentUpgrades.pause", "POST", upgrades+"/{name}/pause", write, ""),
		armRow("agentUpgrades.resume", "POST", upgrades+"/{name}/resume", write, ""),
		armRow("agentUpgrades.cancel", "POST", upgrades+"/{name}/cancel", write, ""),
	}
}

// armAccess is what Azure lacks, in a namespace of its own.
func armAccess() []Row {
	const machines = "/{scope...}/providers/Sallyport.Access/machines"
	const who, readAssignments = "/providers/Sallyport.Access/whoCanLogIn", "Microsoft.Authorization/roleAssignments/read"
	return []Row{
		armRow("access.who", "GET", "/{scope...}"+who, readAssignments, ""),
		armRow("access.whoAtRoot", "GET", who, readAssignments, ""),
		armRow("access.explain", "GET", "/{scope...}/providers/Sallyport.Access/explain", "Microsoft.Compute/virtualMachines/read", ""),
		armRow("machines.list", "GET", machines, "", whyListed),
		armRow("machines.get", "GET", machines+"/default", "Microsoft.Compute/virtualMachines/read", ""),
		armRow("restore.review", "GET", "/providers/Sallyport.Access/restore", "Sallyport.Access/restores/read", ""),
		armRow("restore.confirm", "POST", "/providers/Sallyport.Access/confirmRestore", "Sallyport.Access/restores/confirm/action", ""),
		armRow("auditRecords.list", "GET", "/providers/Sallyport.Access/auditRecords", "Sallyport.Access/auditRecords/read", ""),
		armRow("auditRecords.follow", "GET", "/providers/Sallyport.Access/auditRecords/follow", "Sallyport.Access/auditRecords/read", ""),
		armRow("auditRecords.proof", "GET", "/providers/Sallyport.Access/auditProof", "Sallyport.Access/auditRecords/read", ""),
		armRow("keys.list", "GET", "/providers/Sallyport.Access/keys", "Sallyport.Access/keys/read", ""),
		armRow("keys.rotate", "POST", "/providers/Sallyport.Access/rotateKey", "Sallyport.Access/keys/rotate/action", ""),
		armRow("keys.manifestRequest", "GET", "/providers/Sallyport.Access/manifestRequest", "Sallyport.Access/keys/rotate/action", ""),
		armRow("keys.applyManifest", "POST", "/providers/Sallyport.Access/applyManifest", "Sallyport.Access/keys/rotate/action", ""),
		armRow("auditRetention.get", "GET", "/providers/Sallyport.Access/auditRetention", "Sallyport.Access/auditRecords/read", ""),
		armRow("auditRetention.put", "PUT", "/providers/Sallyport.Access/auditRetention", "Microsoft.Authorization/auditRetention/write", ""),
		armRow("auditRecords.verify", "POST", "/providers/Sallyport.Access/verifyAudit", "Sallyport.Access/auditRecords/read", ""),
	}
}
