package rbac

import "sallyport/internal/directory"

// BuiltIns returns the definitions that exist in every tenant: six resource
// roles and six directory roles, with the ids, names, texts and permissions of
// Azure's "built-in roles" reference and Entra's role reference. The caller owns
// the result.
func BuiltIns() []Definition { return append(resourceRoles(), directoryRoles()...) }

func resourceRoles() []Definition {
	login := []string{
		"Microsoft.Network/publicIPAddresses/read",
		"Microsoft.Network/virtualNetworks/read",
		"Microsoft.Network/loadBalancers/read",
		"Microsoft.Network/networkInterfaces/read",
		"Microsoft.Compute/virtualMachines/*/read",
		"Microsoft.HybridCompute/machines/*/read",
		"Microsoft.HybridConnectivity/endpoints/listCredentials/action",
	}
	return []Definition{
		resourceRole(Owner, "Owner", "Grants full access to manage all resources, including the ability to assign roles in Azure RBAC.",
			Permission{Actions: []string{"*"}}),
		resourceRole(Contributor, "Contributor", "Grants full access to manage all resources, but does not allow you to assign roles in Azure RBAC, manage assignments in Azure Blueprints, or share image galleries.",
			Permission{Actions: []string{"*"}, NotActions: []string{
				"Microsoft.Authorization/*/Delete",
				"Microsoft.Authorization/*/Write",
				"Microsoft.Authorization/elevateAccess/Action",
				"Microsoft.Blueprint/blueprintAssignments/write",
				"Microsoft.Blueprint/blueprintAssignments/delete",
				"Microsoft.Compute/galleries/share/action",
				"Microsoft.Purview/consents/write",
				"Microsoft.Purview/consents/delete",
				"Microsoft.Resources/deploymentStacks/manageDenySetting/action",
			}}),
		resourceRole(Reader, "Reader", "View all resources, but does not allow you to make any changes.",
			Permission{Actions: []string{"*/read"}}),
		resourceRole(UserAccessAdministrator, "User Access Administrator", "Lets you manage user access to Azure resources.",
			Permission{Actions: []string{"*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"}}),
		resourceRole(VMAdministratorLogin, "Virtual Machine Administrator Login", "View Virtual Machines in the portal and login as administrator",
			Permission{Actions: login, DataActions: []string{
				ActionLogin, ActionLoginAsAdmin,
				ActionHybridLogin, ActionHybridLoginAsAdmin,
			}}),
		resourceRole(VMUserLogin, "Virtual Machine User Login", "View Virtual Machines in the portal and login as a regular user.",
			Permission{Actions: login, DataActions: []string{ActionLogin, ActionHybridLogin}}),
	}
}

func resourceRole(id, name, text string, p Permission) Definition {
	return Definition{ID: id, Name: name, Description: text, BuiltIn: true, Permissions: []Permission{p}, AssignableScopes: []string{"/"}}
}

// The directory roles act on microsoft.directory/... at scope.Directory only.
// None but the first may give roles or permissions of applications.
func directoryRoles() []Definition {
	const d = "microsoft.directory/"
	read := []string{d + "*/standard/read", d + "*/members/read", d + "*/memberOf/read", d + "*/owners/read"}
	with := func(actions ...string) []string {
		out := append([]string{}, read...)
		for _, a := range actions {
			out = append(out, d+a)
		}
		return out
	}
	return []Definition{
		directoryRole(GlobalAdministrator, "Global Administrator", "Can manage all aspects of Microsoft Entra ID and Microsoft services that use Microsoft Entra identities.",
			d+"*"),
		directoryRole(UserAdministrator, "User Administrator", "Can manage all aspects of users and groups, including resetting passwords for limited admins.",
			with("users/*", "groups/*", "groups.security/*")...),
		directoryRole(ApplicationAdministrator, "Application Administrator", "Can create and manage all aspects of app registrations and enterprise apps.",
			with("applications/*", "servicePrincipals/create", "servicePrincipals/delete", "servicePrincipals/enable", "servicePrincipals/disable", "servicePrincipals/basic/update",
				"servicePrincipals/credentials/update", "servicePrincipals/owners/update", directory.ActionGrantDelegated[len(d):])...),
		directoryRole(AuthenticationAdministrator, "Authentication Administrator", "Can access to view, set and reset authentication method information for any non-admin user.",
			with("users/authenticationMethods/*", "users/basic/update", "users/delete", "users/disable", "users/enable", "users/invalidateAllRefreshTokens", "users/password/update",
				"users/userPrincipalName/update")...),
		directoryRole(SecurityAdministrator, "Security Administrator", "Can read security information and reports, and manage configuration in Microsoft Entra ID and Office 365.",
			with("conditionalAccessPolicies/*", "namedLocations/*", "auditLogs/allProperties/read", "signInReports/allProperties/read", "servicePrincipals/policies/update")...),
		directoryRole(GlobalReader, "Global Reader", "Can read everything that a Global Administrator can, but not update anything.",
			d+"*/read"),
	}
}

func directoryRole(id, name, text string, actions ...string) Definition {
	return Definition{ID: id, Name: name, Description: text, BuiltIn: true, Directory: true,
		Permissions: []Permission{{Actions: actions}}, AssignableScopes: []string{"/"}}
}
