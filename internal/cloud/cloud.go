package cloud

import "strings"

// Global is the cloud that a deployment is of unless somebody says otherwise.
const Global = "AzureCloud"

// Cloud is one of Azure's clouds, as clients know it.
type Cloud struct {
	// Name is what az and the SDKs call it. The extension that az ssh comes from
	// knows no other names.
	Name string
	// Environment is its name in a machine's metadata ("azEnvironment",
	// https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service).
	Environment string
	// Instance is its name in the answer for the kind of a domain
	// (cloud_instance_name).
	Instance string
	// SSH is the resource that certificates are for.
	SSH string
	// Management and Graph are the names by which clients ask for tokens for
	// Resource Manager and Microsoft Graph, without a slash at the end.
	Management, Graph []string
}

// Scope is the scope under which certificates are asked for.
func (c Cloud) Scope() string { return c.SSH + "/.default" }

// All returns the clouds, the global one first.
func All() []Cloud {
	return []Cloud{
		{Name: Global, Environment: "AzurePublicCloud", Instance: "microsoftonline.com", SSH: "https://pas.windows.net/CheckMyAccess/Linux",
			Management: []string{"https://management.azure.com", "https://management.core.windows.net"}, Graph: []string{"https://graph.microsoft.com"}},
		{Name: "AzureUSGovernment", Environment: "AzureUSGovernmentCloud", Instance: "microsoftonline.us", SSH: "https://pasff.usgovcloudapi.net/CheckMyAccess/Linux",
			Management: []string{"https://management.usgovcloudapi.net", "https://management.core.usgovcloudapi.net"}, Graph: []string{"https://graph.microsoft.us"}},
		{Name: "AzureChinaCloud", Environment: "AzureChinaCloud", Instance: "partner.microsoftonline.cn", SSH: "https://pas.chinacloudapi.cn/CheckMyAccess/Linux",
			Management: []string{"https://management.chinacloudapi.cn", "https://management.core.chinacloudapi.cn"}, Graph: []string{"https://microsoftgraph.chinacloudapi.cn"}},
	}
}

// Named finds a cloud by its name, in any case, as az does. No name is the global
// cloud's: deployments that are older than the choice have none.
func Named(name string) (Cloud, bool) {
	if name == "" {
		name = Global
	}
	for _, c := range All() {
		if strings.EqualFold(c.Name, name) {
			return c, true
		}
	}
	return Cloud{}, false
}

// Names lists the clouds' names.
func Names() []string {
	var out []string
	for _, c := range All() {
		out = append(out, c.Name)
	}
	return out
}

// Of is the cloud that a signed list of keys names; the list was checked when it
// was read.
func Of(name string) Cloud {
	if c, ok := Named(name); ok {
		return c
	}
	return All()[0]
}
