package directory

import (
	"slices"
	"strings"
)

// Permission is something that an application can be allowed to do at one of our
// resources: delegated, for the person it acts for, who still needs the right
// himself; or as itself.
type Permission struct {
	Value         string // "User.Read.All", as in scopes and in the claims scp and roles
	DelegatedID   string // GUID of the delegated permission, "" where there is none
	ApplicationID string // GUID of the application permission, "" where there is none
	// AdminOnly says that people cannot consent to the delegated permission for
	// themselves, whatever the tenant's policy.
	AdminOnly bool
	Text      string // "Read all users' full profiles": for the page where people consent
	// Actions are the directory actions that it covers, as patterns.
	Actions []string
}

// The permissions that other code names.
const (
	AccessAsUser      = "Directory.AccessAsUser.All"
	UserRead          = "User.Read"
	UserImpersonation = "user_impersonation"
)

// Permissions lists what a resource offers, in alphabetical order, with the ids
// of Microsoft's "Microsoft Graph permissions reference"; nil for what is no
// resource of ours. What a permission covers is this directory's decision, close
// to what the reference says; a permission never covers more than its name.
func Permissions(resourceAppID string) []Permission {
	switch resourceAppID {
	case GraphAppID:
		return graphPermissions()
	case ARMAppID:
		return []Permission{{UserImpersonation, "41094075-9dad-400e-a0bd-54e686782033", "", false, "Access Azure Resource Manager as you: everything that your roles allow", nil}}
	}
	return nil
}

// PermissionOf finds a permission of a resource by its value, in any case.
func PermissionOf(resourceAppID, value string) (Permission, bool) {
	for _, p := range Permissions(resourceAppID) {
		if strings.EqualFold(p.Value, value) {
			return p, true
		}
	}
	return Permission{}, false
}

// PreAuthorized lists the delegated permissions that a client has at a resource
// without anybody's consent: the command lines act as the whole person.
func PreAuthorized(appID, resourceAppID string) []string {
	if appID != AzureCLI && appID != SallyCLI {
		return nil
	}
	switch resourceAppID {
	case GraphAppID: // what Entra gives the Azure CLI, as far as it exists here
		return []string{"Application.ReadWrite.All", "AppRoleAssignment.ReadWrite.All", "DelegatedPermissionGrant.ReadWrite.All", AccessAsUser, "Group.ReadWrite.All", "User.Read.All", "User.ReadWrite.All"}
	case ARMAppID:
		return []string{UserImpersonation}
	}
	return nil
}

func graphPermissions() []Permission {
	all := slices.Concat(personPermissions(), groupPermissions(), clientPermissions(), directoryPermissions())
	slices.SortFunc(all, func(a, b Permission) int { return strings.Compare(a.Value, b.Value) })
	return all
}

// on makes action patterns of the directory.
func on(actions ...string) []string {
	out := make([]string, 0, len(actions))
	for _, a := range actions {
		out = append(out, "microsoft.directory/"+a)
	}
	return out
}

func personPermissions() []Permission {
	return []Permission{
		{UserRead, "e1fe6dd8-ba31-4d61-89e7-88639da4683d", "", false, "Sign you in and read your profile",
			on("me/standard/read", "organization/standard/read")},
		{"User.ReadWrite", "b4e74841-8e56-480b-be8b-910348b18b4c", "", false, "Read and update your profile",
			on("me/standard/read", "organization/standard/read", "me/basic/update")},
		{"User.Read.All", "a154be20-db9c-4678-8ab7-66f6cc099a59", "df021288-bdef-4463-88db-98f22de89214", true, "Read all users' full profiles",
			on("me/standard/read", "organization/standard/read", "users/standard/read")},
		{"User.ReadWrite.All", "204e0828-b5ca-4ad8-b9f3-f32a958e7cc4", "741f803b-c850-494e-b5df-cde7c675a1ca", true, "Read and write all users' full profiles, create and delete users",
			on("me/*", "organization/standard/read", "users/standard/read", "users/create", "users/delete", "users/update", "users/basic/update", "users/userPrincipalName/update", "users/enable", "users/disable", "users/invalidateAllRefreshTokens")},
		{"User-PasswordProfile.ReadWrite.All", "56760768-b641-451f-8906-e1b8ab31bca7", "cc117bb9-00cf-4eb8-b580-ea2a878fe8f7", true, "Reset the passwords of users",
			on("users/standard/read", "users/update", "users/password/update")},
	}
}

func groupPermissions() []Permission {
	read := []string{"groups/standard/read", "groups/members/read", "users/memberOf/read", "servicePrincipals/memberOf/read", "groups/memberOf/read", "me/memberOf/read", "groups/owners/read"}
	return []Permission{
		{"Group.Read.All", "5f8c59db-677d-491f-a6b8-5f174b11ec1d", "5b567255-7703-4780-807c-7be8301ae99b", true, "Read all groups", on(read...)},
		{"Group.ReadWrite.All", "4e46008b-f24c-477d-8fff-7bb4ec7aafe0", "62a82d76-70ea-41e2-9197-370581804d09", true, "Read and write all groups, their members, create and delete groups",
			on(append([]string{"groups/create", "groups/delete", "groups/basic/update", "groups/members/update", "groups/owners/update"}, read...)...)},
		{"GroupMember.Read.All", "bc024368-1153-4739-b217-4326f2e966d0", "98830695-27a2-44f7-8c18-0c3ebc9698f6", true, "Read who is in which group", on(read...)},
		{"GroupMember.ReadWrite.All", "f81125ac-d3b7-4573-a3b2-7099cc39df9e", "dbaae8cf-10b5-4b86-a4a1-f871c94c6695", true, "Read and change who is in which group",
			on(append([]string{"groups/members/update"}, read...)...)},
	}
}

func clientPermissions() []Permission {
	read := []string{"applications/standard/read", "servicePrincipals/standard/read"}
	return []Permission{
		{"Application.Read.All", "c79f8feb-a9db-4090-85f9-90d820caa0eb", "9a5d68dd-52b0-4cc2-bd40-abcf44ac3a30", true, "Read all applications and service principals", on(read...)},
		{"Application.ReadWrite.All", "bdfbf15f-ee85-4955-8675-146e8e5296b5", "1bfefb4e-e0b5-418b-a88f-73c46d2cc8e9", true, "Read and write all applications and service principals, and what proves them",
			on(append([]string{"applications/*", "servicePrincipals/create", "servicePrincipals/delete", "servicePrincipals/enable", "servicePrincipals/disable", "servicePrincipals/basic/update",
				"servicePrincipals/credentials/update", "servicePrincipals/owners/update"}, read...)...)},
		{"ServicePrincipalEndpoint.Read.All", "9f9ce928-e038-4e3b-8faf-7b59049a8ddc", "5256681e-b7f6-40c0-8447-2d9db68797a0", true, "Read the endpoints of service principals",
			on("servicePrincipals/standard/read")},
		{"ServicePrincipalEndpoint.ReadWrite.All", "7297d82c-9546-4aed-91df-3d4f0a9b3ff0", "89c8469c-83ad-45f7-8ff2-6e3d4285709e", true, "Read and update the endpoints of service principals",
			on("servicePrincipals/standard/read", "servicePrincipals/endpoints/update")},
		{"AppRoleAssignment.ReadWrite.All", "84bccea3-f856-4a8a-967b-dbe0a3d53a64", "06b708a9-e830-4db3-a914-8e69da51d44f", true, "Give applications permissions of their own",
			on("servicePrincipals/standard/read", "appRoleAssignments/standard/read", ActionGrantApplication[len("microsoft.directory/"):])},
		{"DelegatedPermissionGrant.Read.All", "a197cdc4-a8e8-4d49-9d35-4ca7c83887b4", "81b4724a-58aa-41c1-8a55-84ef97466587", true, "Read the permissions that applications were given",
			on("oAuth2PermissionGrants/standard/read", "appRoleAssignments/standard/read")},
		{"DelegatedPermissionGrant.ReadWrite.All", "41ce6ca6-6826-4807-84f1-1c82854f7ee5", "8e8e4742-1d95-4f68-9d56-6ee75648c72a", true, "Give applications permissions to act for people",
			on("oAuth2PermissionGrants/standard/read", "appRoleAssignments/standard/read", ActionGrantDelegated[len("microsoft.directory/"):])},
	}
}

func directoryPermissions() []Permission {
	read := []string{"*/standard/read", "*/members/read", "*/memberOf/read", "*/owners/read"}
	roles := []string{"directoryRoles/standard/read", "directoryRoles/members/read", "roleDefinitions/standard/read", "roleAssignments/standard/read"}
	return []Permission{
		{"Directory.Read.All", "06da0dbc-49e2-44d2-8312-53f166ab848a", "7ab1d382-f21e-4acd-a863-ba3e13f7da61", true, "Read the whole directory", on(read...)},
		{"Directory.ReadWrite.All", "c5366453-9fb0-48a5-a156-24f0c49a4b84", "19dbc75e-c2e2-444c-a770-ec69d8559fc7", true, "Read and write the directory, without deleting, passwords and secrets",
			on(append([]string{"me/basic/update", "users/create", "users/update", "users/basic/update", "groups/create", "groups/basic/update", "groups/members/update", "groups/owners/update",
				"applications/create", "applications/basic/update", "servicePrincipals/create", "servicePrincipals/basic/update"}, read...)...)},
		{AccessAsUser, "0e263e50-5827-48a4-b97c-d940288653c7", "", true, "Do in the directory whatever you may", on("*")},
		{"Organization.Read.All", "4908d5b9-3fb2-4b1e-9336-1888b7937185", "498476ce-e0fe-48b0-b801-37ba7e2685c6", true, "Read about the organization", on("organization/standard/read")},
		{"Policy.Read.All", "572fea84-0151-49b2-9301-11cb16974376", "246dd0d5-5bd0-4def-940b-0421030a5b68", true, "Read the organization's policies", on("authorizationPolicy/standard/read", "conditionalAccessPolicies/allProperties/read")},
		{"Policy.Read.ConditionalAccess", "633e0fce-8c58-4cfb-9495-12bbd5a24f7c", "37730810-e9ba-4e46-b07e-8ca78d182097", true, "Read Conditional Access policies",
			on("conditionalAccessPolicies/allProperties/read")},
		{"Policy.ReadWrite.ConditionalAccess", "ad902697-1014-4ef5-81ef-2b4301988e8c", "01c0a623-fc9b-48e9-b794-0756f8e8f067", true, "Read and write Conditional Access policies",
			on("conditionalAccessPolicies/allProperties/read", "conditionalAccessPolicies/create", "conditionalAccessPolicies/basic/update", "conditionalAccessPolicies/delete")},
		{"Policy.ReadWrite.Authorization", "edd3c878-b384-41fd-95ad-e7407dd775be", "fb221be6-99f2-473f-bd32-01c6a0e9ca3b", true, "Change who may consent to permissions",
			on("authorizationPolicy/standard/read", "authorizationPolicy/basic/update")},
		{"RoleManagement.Read.Directory", "741c54c3-0c1e-44a1-818b-3f97ab4e8c83", "483bed4a-2ad3-4361-a73b-c83ccdbdc53c", true, "Read directory roles and who has them", on(roles...)},
		{"RoleManagement.ReadWrite.Directory", "d01b97e9-cbc0-49fe-810a-750afd5527a3", "9e3f62cf-ca93-4989-b6ce-bf83c28f9fe8", true, "Give and take directory roles",
			on(append([]string{"roleAssignments/allProperties/allTasks"}, roles...)...)},
	}
}

// permissionFor names the first delegated permission of the list that has an
// action in so many words, for sentences.
func permissionFor(action string) string {
	for _, p := range Permissions(GraphAppID) {
		if slices.Contains(p.Actions, action) {
			return p.Value
		}
	}
	return AccessAsUser
}
