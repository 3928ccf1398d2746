package cli

import (
	"net/http"
	"strconv"
	"strings"

	"sallyport/internal/cli/client"
)

// Paths and flags that many rows share.
const (
	groupURL     = "/subscriptions/{subscription}/resourceGroups/{name}"
	machinesURL  = "/subscriptions/{subscription}[/resourceGroups/{resource-group}]/providers/Microsoft.Compute/virtualMachines"
	machineURL   = "/subscriptions/{subscription}/resourceGroups/{resource-group}/providers/Microsoft.Compute/virtualMachines/{name}"
	extensionURL = "/subscriptions/{subscription}/resourceGroups/{resource-group}/providers/Microsoft.Compute/virtualMachines/{vm-name}/extensions/{name}"
	ownerURL     = "/subscriptions/{subscription}/resourceGroups/{resource-group}/providers/Microsoft.Compute/virtualMachines/{vm-name}"
	retentionURL = "/providers/Sallyport.Access/auditRetention"
	accessMember = "/providers/Sallyport.Access/machines/default"
)

func flagName(what string) flag {
	return flag{name: "name", short: "n", required: true, usage: "Name of the " + what}
}

func flagGroup() flag {
	return flag{name: "resource-group", short: "g", required: true, usage: "Name of the resource group"}
}

func optional(f flag) flag {
	f.required = false
	return f
}

func flagTags() flag {
	return flag{name: "tags", kind: 'l', usage: "Space-separated tags: key=value"}
}

func groupName() flag {
	return flag{name: "name", short: "n", required: true, usage: "Name of the resource group", aliases: "resource-group/g"}
}

// verbs returns every command that makes one call.
func verbs() []verb {
	var all []verb
	all = append(all, groupVerbs()...)
	all = append(all, machineVerbs()...)
	all = append(all, extensionVerbs()...)
	all = append(all, accessVerbs()...)
	all = append(all, setVerbs()...)
	all = append(all, joinedVerbs()...)
	all = append(all, signInVerbs()...)
	all = append(all, certListVerb())
	all = append(all, revocationVerbs()...)
	all = append(all, upgradeVerbs()...)
	return append(all, directoryVerbs()...)
}

func groupVerbs() []verb {
	own := func(doc map[string]any) any { nulls(doc, "managedBy"); return doc }
	return []verb{
		{
			path: "group create", short: "Create a resource group.", method: http.MethodPut, url: groupURL, shape: own,
			flags: []flag{groupName(), {name: "location", short: "l", required: true, usage: "Location"}, flagTags()},
			body: func(in values) (any, error) {
				body := map[string]any{"location": in.text("location")}
				return body, addTags(body, in)
			},
		},
		{path: "group show", short: "Show a resource group.", method: http.MethodGet, url: groupURL, flags: []flag{groupName()}, shape: own},
		{path: "group list", short: "List resource groups.", method: http.MethodGet, url: "/subscriptions/{subscription}/resourceGroups", list: true, shape: own,
			columns: columns("Name=name", "Location=location", "Status=properties.provisioningState")},
		{
			path: "group delete", short: "Delete a resource group and everything in it.", method: http.MethodDelete, url: groupURL,
			flags: []flag{groupName()}, confirm: "Are you sure you want to perform this operation?", wait: "Deleting", quiet: true,
		},
		{
			path: "resource list", short: "List resources.", method: http.MethodGet, url: "/subscriptions/{subscription}[/resourceGroups/{resource-group}]/resources",
			flags: []flag{optional(flagGroup()), {name: "resource-type", usage: "Only resources of this type"}, optional(flagName("resource"))}, list: true,
			query: []string{"$expand=createdTime,changedTime,provisioningState", "$filter=resourceType eq '{resource-type}'", "$filter=name eq '{name}'", "$filter=resourceType eq '{resource-type}' and name eq '{name}'"},
			check: func(in values) error {
				if kind := in.text("resource-type"); kind != "" && !strings.Contains(kind, "/") {
					return clientError{"Malformed resource-type: --resource-type=<namespace>/<resource-type> expected."}
				}
				return nil
			},
			shape: listed, columns: columns("Name=name", "ResourceGroup=resourceGroup", "Location=location", "Type=type", "Status=provisioningState"),
		},
		{
			path: "account list-locations", short: "List locations.", method: http.MethodGet, url: "/subscriptions/{subscription}/locations", list: true,
			columns: columns("DisplayName=displayName", "Name=name", "RegionalDisplayName=regionalDisplayName"),
		},
	}
}

func addTags(body map[string]any, in values) error {
	if !in.given("tags") {
		return nil
	}
	tags := map[string]string{}
	for _, t := range in.list("tags") {
		k, v, _ := strings.Cut(t, "=")
		if t != "" {
			tags[k] = v // a tag without a name the server refuses
		}
	}
	body["tags"] = tags
	return nil
}

func machineVerbs() []verb {
	power := func(name, short, suffix, wait string) verb {
		return verb{
			path: "vm " + name, short: short, method: http.MethodPost, url: machineURL, suffix: suffix,
			flags: []flag{flagName("virtual machine"), flagGroup()}, ids: true, wait: wait, quiet: true,
		}
	}
	return []verb{
		power("start", "Start a stopped VM.", "/start", "Starting"),
		power("stop", "Power off a running VM.", "/powerOff", "Stopping"),
		power("deallocate", "Stop a VM and release what it uses.", "/deallocate", "Deallocating"),
		power("restart", "Restart a VM.", "/restart", "Restarting"),
		{
			path: "vm delete", short: "Delete a VM.", method: http.MethodDelete, url: machineURL, flags: []flag{flagName("virtual machine"), flagGroup()},
			ids: true, confirm: "Are you sure you want to perform this operation?", wait: "Deleting", quiet: true,
		},
		{
			path: "vm get-instance-view", short: "Show the state of a running VM.", method: http.MethodGet, url: machineURL, query: []string{"$expand=instanceView"},
			flags: []flag{flagName("virtual machine"), flagGroup()}, ids: true, shape: machine,
			columns: columns("Name=name", "ResourceGroup=resourceGroup", "Location=location", "ProvisioningState=provisioningState", "PowerState=instanceView.statuses[1].displayStatus"),
		},
		{
			path: "vm identity show", short: "Show the managed identity of a VM.", method: http.MethodGet, url: machineURL,
			flags: []flag{flagName("virtual machine"), flagGroup()}, ids: true, shape: member("identity"),
		},
	}
}

func extensionVerbs() []verb {
	owner := flag{name: "vm-name", required: true, usage: "Name of the virtual machine"}
	table := columns("Name=name", "ProvisioningState=provisioningState", "Publisher=publisher", "Version=typeHandlerVersion", "AutoUpgradeMinorVersion=autoUpgradeMinorVersion")
	location := flag{name: "location", short: "l", required: true, late: true, usage: "Location"}
	publisher := flag{name: "publisher", short: "p", required: true, late: true, usage: "Publisher of the extension"}
	name := flagName("extension")
	name.late = true
	const types = "/subscriptions/{subscription}/providers/Microsoft.Compute/locations/{location}/publishers/{publisher}/artifacttypes/vmextension/types"
	return []verb{
		{
			path: "vm extension show", short: "Show an extension of a VM.", method: http.MethodGet, url: extensionURL, ids: true, shape: extension, columns: table,
			flags: []flag{flagName("extension"), flagGroup(), owner, {name: "instance-view", kind: 'b', usage: "Show the extension's state on the machine"}},
			query: []string{"$expand@instance-view=instanceView"},
		},
		{
			path: "vm extension list", short: "List the extensions of a VM.", method: http.MethodGet, url: ownerURL, ids: true, shape: extensions, columns: table,
			flags: []flag{flagGroup(), owner},
		},
		{
			path: "vm extension delete", short: "Remove an extension from a VM.", method: http.MethodDelete, url: extensionURL, ids: true, wait: "Removing", quiet: true,
			flags: []flag{flagName("extension"), flagGroup(), owner},
		},
		{
			path: "vm extension image list-names", short: "List the extensions of a publisher.", method: http.MethodGet, url: types,
			flags: []flag{location, publisher},
		},
		{
			path: "vm extension image list-versions", short: "List the versions of an extension.", method: http.MethodGet, url: types, suffix: "/{name}/versions",
			flags: []flag{location, publisher, name},
		},
		{
			path: "vm extension image show", short: "Show a version of an extension.", method: http.MethodGet, url: types, suffix: "/{name}/versions/{version}", shape: func(doc map[string]any) any { return flatten(doc) },
			flags: []flag{location, publisher, name, {name: "version", required: true, late: true, usage: "Version"}},
		},
	}
}

func accessVerbs() []verb {
	return []verb{
		{
			path: "access confirm-restore", short: "Confirm the role assignments of a restored backup: the server issues again.", method: http.MethodPost,
			url: "/providers/Sallyport.Access/confirmRestore", flags: []flag{{name: "restore-id", required: true, usage: "Id of the restore, as `sally access review` shows it"}},
			body:    func(in values) (any, error) { return map[string]any{"restoreId": in.text("restore-id")}, nil },
			confirm: "What was taken away after the backup is given back with this. Have you looked through: sally access review?", quiet: true,
		},
		{path: "audit retention show", short: "Show how long audit records are kept.", method: http.MethodGet, url: retentionURL},
		{
			path: "audit retention update", short: "Change how long audit records are kept.", method: http.MethodPut, url: retentionURL,
			flags: []flag{{name: "days", required: true, usage: "Days, 30 at least; 0 keeps them for ever"}}, confirm: "Records older than that are deleted for good. Are you sure?",
			body: func(in values) (any, error) {
				days, err := strconv.Atoi(in.text("days"))
				if err != nil {
					return nil, usageError{"argument --days: '" + in.text("days") + "' is not a number"}
				}
				return map[string]any{"days": days}, nil
			},
		},
	}
}

func directoryVerbs() []verb {
	id := flag{name: "id", required: true, usage: "Object id or user principal name"}
	filter := flag{name: "filter", usage: "OData filter"}
	name := flag{name: "display-name", usage: "Beginning of the display name"}
	named := columns("DisplayName=displayName", "Id=id", "AppId=appId", "CreatedDateTime=createdDateTime")
	return []verb{
		{
			path: "ad user create", short: "Create a user.", method: http.MethodPost, surface: client.Graph, url: "/users", body: newUser,
			flags: []flag{
				{name: "display-name", required: true, usage: "Display name"}, {name: "password", required: true, usage: "First password; @FILE or @- keeps it out of the argument list"},
				{name: "user-principal-name", required: true, usage: "User principal name: NAME@DOMAIN"}, {name: "mail-nickname", usage: "Mail alias; NAME by default"},
				{name: "force-change-password-next-sign-in", kind: 'b', usage: "The user must choose another password at the first sign-in"},
			},
		},
		{
			path: "ad user list", short: "List users.", method: http.MethodGet, surface: client.Graph, url: "/users", list: true,
			flags: []flag{name, filter, {name: "upn", usage: "User principal name"}},
			query: []string{"$filter={filter}", "$filter=startswith(displayName,'{display-name}')", "$filter=userPrincipalName eq '{upn}'"},
		},
		{path: "ad user show", short: "Show a user.", method: http.MethodGet, surface: client.Graph, url: "/users/{id}", flags: []flag{id}},
		{path: "ad user delete", short: "Delete a user.", method: http.MethodDelete, surface: client.Graph, url: "/users/{id}", flags: []flag{id}, quiet: true},
		{
			path: "ad user update", short: "Change a user.", method: http.MethodPatch, surface: client.Graph, url: "/users/{id}", quiet: true, body: changedUser,
			flags: []flag{
				id, {name: "display-name", usage: "Display name"}, {name: "account-enabled", kind: 'b', usage: "false: the user cannot sign in"},
				{name: "password", usage: "New password; @FILE or @- keeps it out of the argument list"}, {name: "mail-nickname", usage: "Mail alias"},
				{name: "force-change-password-next-sign-in", kind: 'b', usage: "The user must choose another password at the next sign-in"},
			},
		},
		{path: "ad signed-in-user show", short: "Show the signed-in user.", method: http.MethodGet, surface: client.Graph, url: "/me"},
		{
			path: "ad group list", short: "List groups.", method: http.MethodGet, surface: client.Graph, url: "/groups", list: true, flags: []flag{name, filter},
			query: []string{"$filter={filter}", "$filter=startswith(displayName,'{display-name}')"},
		},
		{
			path: "ad app list", short: "List applications.", method: http.MethodGet, surface: client.Graph, url: "/applications", list: true, mine: "application", flags: []flag{name, filter, {name: "app-id", usage: "Application (client) id"}, {name: "all", kind: 'b', usage: "Accepted for az's sake: all are listed"}},
			query:   []string{"$filter={filter}", "$filter=startswith(displayName,'{display-name}')", "$filter=appId eq '{app-id}'"},
			columns: named, by: "displayName",
		},
		{
			path: "ad app permission delete-grant", short: "Take back what an application was granted.", method: http.MethodDelete, surface: client.Graph, url: "/oauth2PermissionGrants/{id}", quiet: true,
			flags: []flag{{name: "id", required: true, usage: "Id of the grant: sally ad app permission list-grants"}},
		},
		{
			path: "ad sp list", short: "List service principals.", method: http.MethodGet, surface: client.Graph, url: "/servicePrincipals", list: true, mine: "servicePrincipal",
			flags:   []flag{name, filter, {name: "spn", usage: "Service principal name"}, {name: "all", kind: 'b', usage: "Accepted for az's sake: all are listed"}},
			query:   []string{"$filter={filter}", "$filter=startswith(displayName,'{display-name}')", "$filter=servicePrincipalNames/any(c:c eq '{spn}')"},
			columns: named, by: "displayName",
		},
		{
			path: "ad sp create", short: "Create the service principal of an application.", method: http.MethodPost, surface: client.Graph, url: "/servicePrincipals",
			flags: []flag{{name: "id", required: true, usage: "Application (client) id"}},
			body:  func(in values) (any, error) { return map[string]any{"appId": in.text("id")}, nil },
		},
	}
}

func newUser(in values) (any, error) {
	upn := in.text("user-principal-name")
	nick := in.text("mail-nickname")
	if nick == "" {
		nick, _, _ = strings.Cut(upn, "@")
	}
	return map[string]any{
		"accountEnabled": true, "displayName": in.text("display-name"), "mailNickname": nick, "userPrincipalName": upn,
		"passwordProfile": map[string]any{"password": in.text("password"), "forceChangePasswordNextSignIn": in.on("force-change-password-next-sign-in")},
	}, nil
}

func changedUser(in values) (any, error) {
	body := map[string]any{}
	for flag, member := range map[string]string{"display-name": "displayName", "mail-nickname": "mailNickname"} {
		if in.given(flag) {
			body[member] = in.text(flag)
		}
	}
	if in.given("account-enabled") {
		body["accountEnabled"] = in.on("account-enabled")
	}
	profile := map[string]any{}
	if in.given("password") {
		profile["password"] = in.text("password")
	}
	if in.given("force-change-password-next-sign-in") {
		profile["forceChangePasswordNextSignIn"] = in.on("force-change-password-next-sign-in")
	}
	if len(profile) > 0 {
		body["passwordProfile"] = profile
	}
	if len(body) == 0 {
		return nil, clientError{"nothing to change: give at least one property"}
	}
	return body, nil
}
