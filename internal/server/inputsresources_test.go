package server

import (
	"slices"
	"strings"
	"testing"

	"sallyport/internal/resource/types"
)

// readOnly are members that Azure's schemas mark readOnly, or that say where a part
// of a resource is. Clients send back what they have read, so that they are taken
// and, as in Azure, mean nothing.
func readOnly() map[string]string {
	out := map[string]string{}
	const address, server = "the address says it", "readOnly: the server says it"
	for _, name := range []string{"id", "name", "type", "properties.subnets[].id", "properties.subnets[].type", "properties.securityRules[].id", "properties.securityRules[].type",
		"properties.ipConfigurations[].id", "properties.ipConfigurations[].type"} {
		out[name] = address
	}
	for _, name := range []string{"etag", "systemData", "resources", "…[].etag", "….provisioningState", "properties.resourceGuid", "….timeCreated", "properties.instanceView", "properties.vmId", "properties.uniqueId",
		"properties.defaultSecurityRules*", "properties.networkInterfaces*", "properties.subnets", "properties.ipConfiguration", "properties.hostedWorkloads", "properties.tapConfigurations", "properties.macAddress",
		"properties.dnsSettings.appliedDnsServers", "properties.dnsSettings.internalFqdn", "properties.dnsSettings.internalDomainNameSuffix", "….patchSettings.status",
		"properties.primary", "properties.virtualMachine", "properties.vnetEncryptionSupported", "properties.clientId", "properties.principalId", "properties.tenantId", "….imageReference.exactVersion",
		"….extensions[].id", "….extensions[].type"} {
		out[name] = server
	}
	for _, name := range []string{"privateEndpoints", "ipConfigurations", "ipConfigurationProfiles", "resourceNavigationLinks", "serviceAssociationLinks", "purpose", "delegations[].id", "delegations[].type", "delegations[].properties.actions"} {
		out["properties.subnets[].properties."+name] = server
	}
	for _, name := range []string{"adFqdn", "agentConfiguration", "agentVersion", "cloudMetadata", "detectedProperties", "displayName", "dnsFqdn", "domainName", "errorDetails", "extensions", "lastStatusChange", "machineFqdn",
		"networkProfile", "osName", "osSku", "osVersion", "status", "vmUuid"} {
		out["properties."+name] = "readOnly: the machine says it of itself"
	}
	return out
}

// constant are leaves of answers that are the same whatever is put in.
func constant() map[string]string {
	return map[string]string{
		"type":                                "each kind is tested by itself",
		"id":                                  "a deployment is tried at one address where its body may change",
		"name":                                "as id, and an extension has the name that it is known by",
		"properties.provisioningState":        "nothing is reconciled here, and what needs none has Succeeded",
		"properties.osName":                   "machines run Linux",
		"….tenantId":                          "a deployment has one tenant",
		"properties.status":                   "no machine joins here",
		"properties.errorDetails[]*":          "as status",
		"properties.storageProfile.dataDisks": "a machine has one disk",
		"….imageReference.exactVersion":       "an image has one version",
		"….primary":                           "there is one interface with one configuration",
		"properties.subnets[].type":           "what a subnet is",
		"properties.parameters.p.type":        "the template says it, and the sample has one",
		"properties.error.code":               "of a deployment of which nothing was made; its details say of what",
		"properties.outputResources":          "of a deployment of which nothing was made",
	}
}

const (
	version = "api-version=2024-07-01"
	testKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJtUDRVdHVWnyl7WxG2lwnQKWfPyLvGvBuPJmwuUuL6J"
	nextKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAfTjJUKYLVGUh3JaVkyxRaRPxrVFAyg3+CkKEvfJRkK"
)

func armKinds(sub string) []kind {
	rg := sub + "/resourceGroups/RG"
	network, compute := rg+"/providers/Microsoft.Network/", rg+"/providers/Microsoft.Compute/"
	located := map[string][]any{"location": {"southcentralus", "West US 2", "nowhere"}}
	put := func(c *castle, path, body string) {
		c.t.Helper()
		if r := c.send("PUT", path+"?"+version, parsed(body), nil); !r.fine() {
			c.t.Fatalf("PUT %s: %d %s", path, r.status, r.text)
		}
	}
	nic := func(c *castle, n string) string {
		path := network + "networkInterfaces/nic" + n
		put(c, path, `{"location":"westeurope","properties":{"ipConfigurations":[{"name":"a"}]}}`)
		return path
	}
	vm := func(c *castle, n string) string {
		path := compute + "virtualMachines/vm" + n
		put(c, path, `{"location":"westeurope","identity":{"type":"SystemAssigned"},"properties":{"storageProfile":{"imageReference":{"publisher":"Debian","offer":"debian-12","sku":"12-gen2","version":"latest"}},"networkProfile":{"networkInterfaces":[{"id":"`+nic(c, n)+`"}]}}}`)
		return path
	}
	kinds := []kind{
		{name: "Microsoft.Resources/resourceGroups", path: sub + "/resourceGroups/g{{n}}", list: sub + "/resourceGroups",
			body: `{"location":"westeurope","tags":{"a":"b"},"managedBy":"/subscriptions/x/resourceGroups/y","properties":{}}`},
		{name: types.VirtualNetwork, path: network + "virtualNetworks/{{n}}", list: network + "virtualNetworks",
			body: `{"location":"westeurope","tags":{"a":"b"},"extendedLocation":{"name":"e","type":"EdgeZone"},"properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]},
				"subnets":[{"name":"s","properties":{"addressPrefix":"10.0.0.0/24"}}],"dhcpOptions":{"dnsServers":["192.0.2.1"]},"flowTimeoutInMinutes":4,"enableDdosProtection":false}}`},
		{name: types.SecurityGroup, path: network + "networkSecurityGroups/{{n}}", list: network + "networkSecurityGroups",
			body: `{"location":"westeurope","tags":{"a":"b"},"properties":{"flushConnection":false,"securityRules":[{"name":"ssh","properties":{"protocol":"Tcp","sourcePortRange":"*","destinationPortRange":"22","sourceAddressPrefix":"*",
				"destinationAddressPrefix":"*","access":"Allow","priority":1000,"direction":"Inbound","description":"d"}}]}}`},
		{name: types.PublicIP, path: network + "publicIPAddresses/{{n}}", list: network + "publicIPAddresses",
			body: `{"location":"westeurope","tags":{"a":"b"},"sku":{"name":"Standard","tier":"Regional"},"zones":["1"],"properties":{"publicIPAllocationMethod":"Static","publicIPAddressVersion":"IPv4","idleTimeoutInMinutes":4,
				"dnsSettings":{"domainNameLabel":"label"}}}`},
		{name: types.NetworkInterface, path: network + "networkInterfaces/n{{n}}", list: network + "networkInterfaces",
			body: `{"location":"westeurope","tags":{"a":"b"},"properties":{"networkSecurityGroup":{"id":"` + network + `networkSecurityGroups/base"},"enableAcceleratedNetworking":false,"ipConfigurations":[{"name":"c","properties":{
				"privateIPAllocationMethod":"Dynamic","subnet":{"id":"` + network + `virtualNetworks/base/subnets/s"},"publicIPAddress":{"id":"` + network + `publicIPAddresses/base"}}}]}}`,
			other: map[string][]any{"properties.networkSecurityGroup.id": {network + "networkSecurityGroups/second"}, "properties.ipConfigurations[0].properties.publicIPAddress.id": {network + "publicIPAddresses/second"},
				"properties.ipConfigurations[0].properties.subnet.id": {network + "virtualNetworks/base/subnets/s2"}, "properties.ipConfigurations[0].properties.privateIPAllocationMethod": {"Static"}}},
		{name: types.UserIdentity, path: rg + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/u{{n}}", list: rg + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities",
			body: `{"location":"westeurope","tags":{"a":"b"}}`},
		{name: types.VirtualMachine, path: compute + "virtualMachines/m{{n}}", list: compute + "virtualMachines", before: nic,
			body: `{"location":"westeurope","tags":{"a":"b"},"zones":["1"],"identity":{"type":"SystemAssigned"},"properties":{"hardwareProfile":{"vmSize":"Standard_DS1_v2"},
				"storageProfile":{"imageReference":{"publisher":"Debian","offer":"debian-12","sku":"12-gen2","version":"latest"},"osDisk":{"createOption":"FromImage","caching":"ReadWrite","osType":"Linux","managedDisk":{"storageAccountType":"Premium_LRS"}}},
				"osProfile":{"computerName":"host","adminUsername":"azureuser","linuxConfiguration":{"disablePasswordAuthentication":true,"provisionVMAgent":true,"ssh":{"publicKeys":[{"path":"/home/azureuser/.ssh/authorized_keys","keyData":"` + testKey + `"}]}}},
				"networkProfile":{"networkInterfaces":[{"id":"{{before}}","properties":{"primary":true}}]},"licenseType":"l"}}`},
		{name: types.Extension, path: "{{before}}/extensions/AADSSHLoginForLinux", list: "{{before}}/extensions", before: vm,
			body: `{"location":"westeurope","tags":{"a":"b"},"properties":{"publisher":"Microsoft.Azure.ActiveDirectory","type":"AADSSHLoginForLinux","typeHandlerVersion":"1.0","autoUpgradeMinorVersion":true,"enableAutomaticUpgrade":false,"forceUpdateTag":"1"}}`},
		{name: types.HybridMachine, path: rg + "/providers/Microsoft.HybridCompute/machines/h{{n}}", list: rg + "/providers/Microsoft.HybridCompute/machines",
			body:   `{"location":"westeurope","tags":{"a":"b"},"kind":"AWS","identity":{"type":"SystemAssigned"},"properties":{"locationData":{"name":"cellar"},"osProfile":{"linuxConfiguration":{"patchSettings":{"patchMode":"Manual"}}}}}`,
			silent: map[string]string{"properties.osProfile.computerName": "readOnly: the machine says it of itself"}},
		{name: types.HybridExtension, path: "{{before}}/extensions/AADSSHLoginForLinux", list: "{{before}}/extensions", before: func(c *castle, n string) string {
			path := rg + "/providers/Microsoft.HybridCompute/machines/e" + n
			put(c, path, `{"location":"westeurope","identity":{"type":"SystemAssigned"}}`)
			return path
		}, body: `{"location":"westeurope","tags":{"a":"b"},"properties":{"publisher":"Microsoft.Azure.ActiveDirectory","type":"AADSSHLoginForLinux","typeHandlerVersion":"1.0","autoUpgradeMinorVersion":true}}`},
		{name: types.ScaleSet, path: compute + "virtualMachineScaleSets/s{{n}}", list: compute + "virtualMachineScaleSets",
			body: `{"location":"westeurope","tags":{"a":"b"},"zones":["1"],"sku":{"name":"Standard_DS1_v2","tier":"Standard","capacity":1},"identity":{"type":"SystemAssigned"},"properties":{"upgradePolicy":{"mode":"Manual"},"overprovision":false,"orchestrationMode":"Uniform","singlePlacementGroup":true,
				"scaleInPolicy":{"rules":["Default"],"forceDeletion":false},
				"virtualMachineProfile":{"storageProfile":{"imageReference":{"publisher":"Debian","offer":"debian-12","sku":"12-gen2","version":"latest"},"osDisk":{"createOption":"FromImage","osType":"Linux"}},
				"osProfile":{"computerNamePrefix":"host","adminUsername":"azureuser","linuxConfiguration":{"disablePasswordAuthentication":true,"ssh":{"publicKeys":[{"path":"/home/azureuser/.ssh/authorized_keys","keyData":"` + testKey + `"}]}}},
				"networkProfile":{"networkInterfaceConfigurations":[{"name":"nic","properties":{"primary":true,"networkSecurityGroup":{"id":"` + network + `networkSecurityGroups/base"},"ipConfigurations":[{"name":"ip","properties":{"subnet":{"id":"` + network + `virtualNetworks/base/subnets/s"}}}]}}]},
				"extensionProfile":{"extensions":[{"name":"AADSSHLoginForLinux","properties":{"publisher":"Microsoft.Azure.ActiveDirectory","type":"AADSSHLoginForLinux","typeHandlerVersion":"1.0","autoUpgradeMinorVersion":true}}]}}}}`,
			other: map[string][]any{"properties.upgradePolicy.mode": {"Automatic"}, "sku.capacity": {float64(2)}, "properties.scaleInPolicy.rules[0]": {"NewestVM"}}},
		{name: types.Deployment, path: rg + "/providers/Microsoft.Resources/deployments/d{{n}}", list: rg + "/providers/Microsoft.Resources/deployments",
			body: `{"tags":{"a":"b"},"properties":{"mode":"Incremental","parameters":{"p":{"value":"v"}},"template":{"$schema":"https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#","contentVersion":"1.0.0.0",
				"parameters":{"p":{"type":"string"}},"resources":[{"type":"Microsoft.Network/networkSecurityGroups","apiVersion":"2022-01-01","name":"made","location":"westeurope","properties":{}}]}}}`,
			silent: map[string]string{"properties.template*": "a deployment keeps what it made, not what said so: a template may hold secrets (Azure does not show it with the deployment either)"}},
	}
	for i := range kinds {
		k := &kinds[i]
		k.method, k.query = "PUT", version
		if k.name != types.Deployment {
			k.patch = "PATCH"
			if k.other == nil {
				k.other = map[string][]any{}
			}
			k.other["location"] = located["location"]
		}
	}
	return kinds
}

// standing makes what the samples refer to, and returns the subscription.
func standing(c *castle) string {
	c.t.Helper()
	sub := c.subscription()
	c.want(201, "admin", "PUT", sub+"/resourceGroups/RG?"+version, `{"location":"westeurope"}`)
	network := sub + "/resourceGroups/RG/providers/Microsoft.Network/"
	for _, name := range []string{"base", "second"} {
		c.want(201, "admin", "PUT", network+"networkSecurityGroups/"+name+"?"+version, `{"location":"westeurope"}`)
		c.want(201, "admin", "PUT", network+"publicIPAddresses/"+name+"?"+version, `{"location":"westeurope"}`)
	}
	c.want(201, "admin", "PUT", network+"virtualNetworks/base?"+version, `{"location":"westeurope","properties":{"subnets":[{"name":"s"},{"name":"s2"}]}}`)
	return sub
}

// TestInputs_OfResources changes every input of every resource type: the answers of
// the write, of GET and of the list tell the change, or it is refused.
func TestInputs_OfResources(t *testing.T) {
	c := newCastle(t)
	sub := standing(c)
	kinds, used := armKinds(sub), map[string]bool{}
	for _, typ := range types.All(types.Config{}) {
		i := slices.IndexFunc(kinds, func(k kind) bool { return strings.EqualFold(k.name, typ.Name) })
		if i < 0 {
			if !typ.ReadOnly && typ.Name != types.ScaleSetInstance && typ.Name != types.ScaleSetExtension { // a set's model makes those
				t.Errorf("there is no sample of a %s", typ.Name)
			}
			continue
		}
		if kinds[i].shape = typ.Shape; typ.Shape == nil {
			t.Errorf("%s does not say what it may hold", typ.Name)
		}
	}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			x := &inputs{castle: c, t: t, kind: k, seen: record{}, used: map[string]bool{}}
			x.vary()
			t.Logf("%d requests", x.asked)
			x.settle()
			used = merged(used, x.used)
		})
	}
	for name, list := range map[string]map[string]string{"readOnly": readOnly(), "constant": constant()} {
		for entry := range list {
			if !used[entry] {
				t.Errorf("the list %s has %q, which nothing needs", name, entry)
			}
		}
	}
}
