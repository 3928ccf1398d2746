package graph

import (
	"net/http"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/credential"
	"sallyport/internal/directory"
	"sallyport/internal/httpd"
	"sallyport/internal/rbac"
)

// Config is what a Handler is made of; every field is required.
type Config struct {
	Directory   *directory.Service
	Credentials *credential.Service
	Roles       *rbac.DirectoryRoles
	Policies    Policies
	// URL is the server's own, without a slash at the end.
	URL string
}

// Handler answers the Graph rows.
type Handler struct{ cfg Config }

// New returns a Handler.
func New(cfg Config) *Handler {
	cfg.URL = strings.TrimSuffix(cfg.URL, "/")
	return &Handler{cfg: cfg}
}

// Mount puts every Graph row's handler into the mux.
func (h *Handler) Mount(m *httpd.Mux) {
	for id, f := range map[string]httpd.HandlerFunc{
		"graph.users.list": h.listUsers, "graph.users.create": h.createUser, "graph.users.get": h.getUser, "graph.users.update": h.updateUser, "graph.users.delete": h.deleteUser,
		"graph.users.revokeSignInSessions": h.revokeSessions, "graph.users.invalidateAllRefreshTokens": h.revokeSessions, "graph.me.invalidateAllRefreshTokens": h.revokeSessions, "graph.me.get": h.getUser, "graph.me.update": h.updateUser, "graph.me.revokeSignInSessions": h.revokeSessions,
		"graph.groups.list": h.listGroups, "graph.groups.create": h.createGroup, "graph.groups.get": h.getGroup, "graph.groups.update": h.updateGroup, "graph.groups.delete": h.deleteGroup,
		"graph.groups.members.list": h.members(false), "graph.groups.transitiveMembers.list": h.members(true),
		"graph.groups.members.add": h.addMember, "graph.groups.members.remove": h.removeMember,
		"graph.groups.owners.list": h.groupOwners, "graph.groups.owners.add": h.addGroupOwner, "graph.groups.owners.remove": h.removeGroupOwner,
		"graph.applications.list": h.listApplications, "graph.applications.create": h.createApplication, "graph.applications.get": h.getApplication,
		"graph.applications.update": h.updateApplication, "graph.applications.delete": h.deleteApplication, "graph.applications.owners": h.owners,
		"graph.applications.addPassword": h.addPassword, "graph.applications.removePassword": h.removePassword,
		"graph.servicePrincipals.list": h.listPrincipals, "graph.servicePrincipals.create": h.createPrincipal, "graph.servicePrincipals.get": h.getPrincipal,
		"graph.servicePrincipals.update": h.updatePrincipal, "graph.servicePrincipals.delete": h.deletePrincipal, "graph.servicePrincipals.owners": h.owners,
		"graph.servicePrincipals.addPassword": h.addPassword, "graph.servicePrincipals.removePassword": h.removePassword,
		"graph.directoryObjects.getByIds": h.getByIDs, "graph.directoryObjects.get": h.getObject,
		"graph.organization.list": h.listOrganizations, "graph.organization.get": h.getOrganization,
		"graph.directoryRoleTemplates.list": h.listRoles(templateEntity(), templateObject), "graph.directoryRoleTemplates.get": h.showRole(templateEntity(), templateObject),
		"graph.directoryRoles.list": h.listRoles(roleEntity(), roleObject), "graph.directoryRoles.get": h.showRole(roleEntity(), roleObject), "graph.directoryRoles.activate": h.activateRole,
		"graph.directoryRoles.members": h.directoryRoleMembers, "graph.directoryRoles.members.add": h.addRoleMember, "graph.directoryRoles.members.remove": h.removeRoleMember,
		"graph.roleDefinitions.list": h.listRoles(definitionEntity(), definitionObject), "graph.roleDefinitions.get": h.showRole(definitionEntity(), definitionObject),
		"graph.roleAssignments.list": h.listRoleAssignments, "graph.roleAssignments.create": h.createRoleAssignment,
		"graph.roleAssignments.get": h.getRoleAssignment, "graph.roleAssignments.delete": h.deleteRoleAssignment,
		"graph.oauth2PermissionGrants.list": h.listGrants(false), "graph.oauth2PermissionGrants.create": h.createGrant, "graph.oauth2PermissionGrants.get": h.getGrant,
		"graph.oauth2PermissionGrants.update": h.updateGrant, "graph.oauth2PermissionGrants.delete": h.deleteGrant, "graph.servicePrincipals.oauth2PermissionGrants": h.listGrants(true),
		"graph.servicePrincipals.appRoleAssignments": h.listAppRoles(true), "graph.servicePrincipals.appRoleAssignments.create": h.createAppRole, "graph.servicePrincipals.appRoleAssignments.delete": h.deleteAppRole,
		"graph.servicePrincipals.appRoleAssignedTo": h.listAppRoles(false), "graph.servicePrincipals.appRoleAssignedTo.create": h.createAppRole, "graph.servicePrincipals.appRoleAssignedTo.delete": h.deleteAppRole,
		"graph.conditionalAccessPolicies.list": h.listPolicies, "graph.conditionalAccessPolicies.create": h.createPolicy, "graph.conditionalAccessPolicies.get": h.showPolicy,
		"graph.conditionalAccessPolicies.update": h.changePolicy, "graph.conditionalAccessPolicies.delete": h.deletePolicy,
		"graph.authorizationPolicy.get": h.getPolicy, "graph.authorizationPolicy.update": h.updatePolicy,
		"graph.applications.owners.add": h.addOwner, "graph.applications.owners.remove": h.removeOwner,
		"graph.servicePrincipals.owners.add": h.addOwner, "graph.servicePrincipals.owners.remove": h.removeOwner,
	} {
		h.handle(m, id, f)
	}
	for _, set := range []string{"users", "me", "groups", "servicePrincipals", "directoryObjects"} {
		if set != "directoryObjects" {
			h.handle(m, "graph."+set+".memberOf", h.memberOf(false))
			h.handle(m, "graph."+set+".transitiveMemberOf", h.memberOf(true))
		}
		if set != "directoryObjects" && set != "groups" {
			h.handle(m, "graph."+set+".ownedObjects", h.ownedObjects)
		}
		h.handle(m, "graph."+set+".getMemberGroups", h.getMemberGroups)
		h.handle(m, "graph."+set+".checkMemberGroups", h.checkMemberships("groupIds", h.groups))
		h.handle(m, "graph."+set+".getMemberObjects", h.getMemberObjects)
		h.handle(m, "graph."+set+".checkMemberObjects", h.checkMemberships("ids", h.groupsAndRoles))
	}
}

// handle puts a handler behind the first question: may this client ask for this
// at all? An application is asked by the handler, which knows whether it asks
// about itself.
func (h *Handler) handle(m *httpd.Mux, id string, f httpd.HandlerFunc) {
	m.Handle(id, func(c *httpd.Call) error {
		h.resolve(c)
		if c.R.Method != http.MethodGet && id != "graph.directoryObjects.getByIds" {
			if err := unasked(c); err != nil {
				return err
			}
		}
		if c.By.Type == audit.User || c.By.Principal == "" {
			if err := h.cfg.Directory.MayAsk(c.By, h.action(c)); err != nil {
				return err
			}
		}
		return f(c)
	})
}

// resolve reads the other keys of Graph: applications and service principals go by
// (appId='ID'), too, and people by (userPrincipalName='NAME').
func (h *Handler) resolve(c *httpd.Call) {
	id := c.Var("id")
	if !strings.HasPrefix(id, "(") {
		return
	}
	name, literal, _ := strings.Cut(strings.TrimSuffix(id[1:], ")"), "=")
	text, n, ok := "", 0, strings.HasPrefix(literal, "'")
	if ok {
		text, n, ok = quoted(literal)
	}
	if !ok || n != len(literal) {
		return
	}
	set, _, _ := strings.Cut(strings.TrimPrefix(c.Row.Pattern, "/v1.0/"), "/")
	switch set + " " + name {
	case "applications appId":
		if a, ok := h.index().Application(strings.ToLower(text)); ok {
			c.SetVar("id", a.ID)
		}
	case "servicePrincipals appId":
		if p, ok := h.index().ServicePrincipalByAppID(strings.ToLower(text)); ok {
			c.SetVar("id", p.ID)
		}
	case "users userPrincipalName":
		if strings.Contains(text, "@") { // an empty {id} is whoever asks, as at /me
			c.SetVar("id", text)
		}
	}
}

// action is what the request needs. A person who reads himself by his id or name
// needs what /me needs, as in Microsoft Graph.
func (h *Handler) action(c *httpd.Call) string {
	const users = "microsoft.directory/users/"
	property, ok := strings.CutPrefix(c.Row.Scope, users)
	if ok && strings.HasSuffix(property, "/read") && c.By.Type == audit.User && c.Var("id") != "" && h.subject(c) == c.By.Principal {
		return "microsoft.directory/me/" + property
	}
	return c.Row.Scope
}

// mayRead asks whether the caller may read an object, "" for any.
func (h *Handler) mayRead(c *httpd.Call, id string) error {
	return h.cfg.Directory.MayRead(c.By, id, h.action(c))
}

func (h *Handler) index() *directory.Index { return h.cfg.Directory.Index() }

// subject returns the object id that a request is about: {id}, which for users
// may be a UPN, or the caller of /me.
func (h *Handler) subject(c *httpd.Call) string {
	id := c.Var("id")
	if id == "" {
		return c.By.Principal
	}
	if strings.Contains(id, "@") {
		if u, ok := h.index().UserByUPN(id); ok {
			return u.ID
		}
	}
	return strings.ToLower(id)
}

// nullable shows an empty text as null, as Graph does.
func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// listOf shows a nil list as an empty one.
func listOf(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
