package rbac

// BuiltIns returns the definitions that exist in every tenant: six resource
// roles and four directory roles, with the ids, names, texts and permissions of
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
				"Microsoft.HybridCompute/machines/login/action", "Microsoft.HybridCompute/machines/loginAsAdmin/action",
			}}),
		resourceRole(VMUserLogin, "Virtual Machine User Login", "View Virtual Machines in the portal and login as a regular user.",
			Permission{Actions: login, DataActions: []string{ActionLogin, "Microsoft.HybridCompute/machines/login/action"}}),
	}
}

func resourceRole(id, name, text string, p Permission) Definition {
	return Definition{ID: id, Name: name, Description: text, BuiltIn: true, Permissions: []Permission{p}, AssignableScopes: []string{"/"}}
}

// The directory roles act on microsoft.directory/... at scope.Directory only.
func directoryRoles() []Definition {
	return []Definition{
		directoryRole(GlobalAdministrator, "Global Administrator", "Can manage all aspects of Microsoft Entra ID and Microsoft services that use Microsoft Entra identities.",
			"microsoft.directory/*"),
		directoryRole(UserAdministrator, "User Administrator", "Can manage all aspects of users and groups, including resetting passwords for limited admins.",
			"microsoft.directory/*/standard/read", "microsoft.directory/users/*", "microsoft.directory/groups/*", "microsoft.directory/groups.security/*"),
		directoryRole(ApplicationAdministrator, "Application Administrator", "Can create and manage all aspects of app registrations and enterprise apps.",
			"microsoft.directory/*/standard/read", "microsoft.directory/applications/*", "microsoft.directory/servicePrincipals/*"),
		directoryRole(GlobalReader, "Global Reader", "Can read everything that a Global Administrator can, but not update anything.",
			"microsoft.directory/*/read"),
	}
}

func directoryRole(id, name, text string, actions ...string) Definition {
	return Definition{ID: id, Name: name, Description: text, BuiltIn: true, Directory: true,
		Permissions: []Permission{{Actions: actions}}, AssignableScopes: []string{"/"}}
}
