package graph

import (
	"slices"
	"strings"
	"time"

	"sallyport/internal/directory"
	"sallyport/internal/httpd"
)

// userConsent is Entra's name for the policy that lets people consent to what
// needs no administrator.
const userConsent = "ManagePermissionGrantsForSelf.microsoft-user-default-legacy"

func grantEntity() entity {
	return entity{set: "oauth2PermissionGrants", odata: "#microsoft.graph.oAuth2PermissionGrant", schema: map[string]kind{
		"id": text, "clientId": text, "consentType": text, "principalId": text, "resourceId": text, "scope": text,
	}}
}

func grantObject(g directory.PermissionGrant) object {
	kind := "AllPrincipals"
	if g.PrincipalID != "" {
		kind = "Principal"
	}
	return object{"id": g.ID, "clientId": g.ClientID, "consentType": kind, "principalId": nullable(g.PrincipalID), "resourceId": g.ResourceID, "scope": strings.Join(g.Scopes, " ")}
}

// listGrants lists all grants, or those of one client.
func (h *Handler) listGrants(ofOne bool) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		if err := h.mayRead(c, ""); err != nil {
			return err
		}
		id := strings.ToLower(c.Var("id"))
		if _, ok := h.index().ServicePrincipal(id); ofOne && !ok {
			return directory.NotFound(id)
		}
		q, err := parseQuery(c, grantEntity())
		if err != nil {
			return err
		}
		p := &page{q: q}
		h.index().PermissionGrantsAfter(q.start(), func(g directory.PermissionGrant) bool {
			return ofOne && g.ClientID != id || p.add(g.ID, grantObject(g))
		})
		return h.answer(c, "oauth2PermissionGrants", p)
	}
}

func (h *Handler) getGrant(c *httpd.Call) error {
	if err := h.mayRead(c, ""); err != nil {
		return err
	}
	g, ok := h.index().PermissionGrant(c.Var("id"))
	if !ok {
		return directory.NotFound(c.Var("id"))
	}
	return h.show(c, grantEntity(), grantObject(g))
}

func (h *Handler) createGrant(c *httpd.Call) error {
	b, err := readBody(c, "oAuth2PermissionGrant")
	if err != nil {
		return err
	}
	client, resource, kind := b.text("clientId"), b.text("resourceId"), b.text("consentType")
	principal, scope := b.text("principalId"), b.text("scope")
	b.require("clientId", client != nil)
	b.require("resourceId", resource != nil)
	b.require("consentType", kind != nil)
	b.require("scope", scope != nil)
	b.take("startTime", new(any)) // ignored, as Graph does
	b.take("expiryTime", new(any))
	if err := b.finish(); err != nil {
		return err
	}
	switch {
	case *kind == "AllPrincipals" && value(principal) == "", *kind == "Principal" && value(principal) != "":
	default:
		return badBody("consentType is AllPrincipals without a principalId, or Principal with one.").WithTarget("consentType")
	}
	g, err := h.cfg.Directory.CreateGrant(c.R.Context(), c.By, directory.PermissionGrant{ClientID: *client, ResourceID: *resource, PrincipalID: value(principal), Scopes: strings.Fields(*scope)})
	if err != nil {
		return err
	}
	return h.created(c, grantEntity(), grantObject(g))
}

func (h *Handler) updateGrant(c *httpd.Call) error {
	b, err := readBody(c, "oAuth2PermissionGrant")
	if err != nil {
		return err
	}
	scope := b.text("scope")
	b.require("scope", scope != nil)
	b.key(c.Var("id"))
	if err := b.finish("clientId", "consentType", "principalId", "resourceId", "startTime", "expiryTime"); err != nil {
		return err
	}
	if err := h.cfg.Directory.UpdateGrant(c.R.Context(), c.By, c.Var("id"), strings.Fields(*scope)); err != nil {
		return err
	}
	return c.NoContent(204)
}

func (h *Handler) deleteGrant(c *httpd.Call) error {
	if err := h.cfg.Directory.DeleteGrant(c.R.Context(), c.By, c.Var("id")); err != nil {
		return err
	}
	return c.NoContent(204)
}

func appRoleEntity() entity {
	return entity{set: "appRoleAssignments", odata: "#microsoft.graph.appRoleAssignment", schema: map[string]kind{
		"id": text, "appRoleId": text, "principalId": text, "principalDisplayName": text, "principalType": text, "resourceId": text, "resourceDisplayName": text, "createdDateTime": other, "deletedDateTime": other,
	}}
}

func (h *Handler) appRoleObject(a directory.AppRoleAssignment) object {
	p, _ := h.index().ServicePrincipal(a.PrincipalID)
	r, _ := h.index().ServicePrincipal(a.ResourceID)
	return object{"id": a.ID, "appRoleId": a.RoleID, "principalId": a.PrincipalID, "principalDisplayName": p.DisplayName, "principalType": "ServicePrincipal",
		"resourceId": a.ResourceID, "resourceDisplayName": r.DisplayName, "createdDateTime": a.CreatedAt.UTC().Format(time.RFC3339), "deletedDateTime": nil}
}

// listAppRoles lists what a service principal was given or, as a resource, gives.
func (h *Handler) listAppRoles(given bool) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		id := strings.ToLower(c.Var("id"))
		if err := h.mayRead(c, id); err != nil {
			return err
		}
		if _, ok := h.index().ServicePrincipal(id); !ok {
			return directory.NotFound(id)
		}
		q, err := parseQuery(c, appRoleEntity())
		if err != nil {
			return err
		}
		p := &page{q: q}
		h.index().AppRoleAssignmentsAfter(q.start(), func(a directory.AppRoleAssignment) bool {
			if given && a.PrincipalID != id || !given && a.ResourceID != id {
				return true
			}
			return p.add(a.ID, h.appRoleObject(a))
		})
		return h.answer(c, "appRoleAssignments", p)
	}
}

// createAppRole takes the same body at the application's address and at the
// resource's.
func (h *Handler) createAppRole(c *httpd.Call) error {
	b, err := readBody(c, "appRoleAssignment")
	if err != nil {
		return err
	}
	principal, resource, role := b.text("principalId"), b.text("resourceId"), b.text("appRoleId")
	b.require("principalId", principal != nil)
	b.require("resourceId", resource != nil)
	b.require("appRoleId", role != nil)
	b.fixed("principalType", "permissions are given to service principals", `"ServicePrincipal"`)
	if err := b.finish(); err != nil {
		return err
	}
	if at := c.Var("id"); !strings.EqualFold(at, *principal) && !strings.EqualFold(at, *resource) {
		return badBody("the service principal of the address is neither principalId nor resourceId.").WithTarget("principalId")
	}
	a, err := h.cfg.Directory.AssignAppRole(c.R.Context(), c.By, directory.AppRoleAssignment{PrincipalID: *principal, ResourceID: *resource, RoleID: *role})
	if err != nil {
		return err
	}
	return h.created(c, appRoleEntity(), h.appRoleObject(a))
}

func (h *Handler) deleteAppRole(c *httpd.Call) error {
	a, ok := h.index().AppRoleAssignment(c.Var("assignment"))
	if at := c.Var("id"); !ok || !strings.EqualFold(at, a.PrincipalID) && !strings.EqualFold(at, a.ResourceID) {
		return directory.NotFound(c.Var("assignment"))
	}
	if err := h.cfg.Directory.RemoveAppRole(c.R.Context(), c.By, a.ID); err != nil {
		return err
	}
	return c.NoContent(204)
}

// getPolicy shows the tenant's switches in Graph's shape.
func (h *Handler) getPolicy(c *httpd.Call) error {
	if err := h.mayRead(c, ""); err != nil {
		return err
	}
	policies := []string{}
	if h.index().ConsentPolicy().Users {
		policies = append(policies, userConsent)
	}
	return h.show(c, authorizationEntity(), object{
		"id": "authorizationPolicy", "displayName": "Authorization Policy", "description": "Used to manage authorization related settings across the company.",
		"allowInvitesFrom": "none", "allowedToSignUpEmailBasedSubscriptions": false, "allowedToUseSSPR": false, "allowEmailVerifiedUsersToJoinOrganization": false, "blockMsolPowerShell": true,
		"defaultUserRolePermissions": object{"allowedToCreateApps": false, "allowedToCreateSecurityGroups": false, "allowedToCreateTenants": false, "allowedToReadOtherUsers": true, "permissionGrantPoliciesAssigned": policies},
	})
}

func authorizationEntity() entity {
	return entity{set: "policies/authorizationPolicy", odata: "#microsoft.graph.authorizationPolicy", schema: map[string]kind{
		"id": text, "displayName": text, "description": text, "allowInvitesFrom": text, "allowedToSignUpEmailBasedSubscriptions": boolean, "allowedToUseSSPR": boolean,
		"allowEmailVerifiedUsersToJoinOrganization": boolean, "blockMsolPowerShell": boolean, "defaultUserRolePermissions": other,
	}}
}

// updatePolicy changes the one switch that can be changed.
func (h *Handler) updatePolicy(c *httpd.Call) error {
	b, err := readBody(c, "authorizationPolicy")
	if err != nil {
		return err
	}
	var user struct {
		Policies     *[]string
		Apps, Groups *bool
	}
	o, _ := b.object("defaultUserRolePermissions", "defaultUserRolePermissions")
	o.take("permissionGrantPoliciesAssigned", &user.Policies)
	user.Apps, user.Groups = o.boolean("allowedToCreateApps"), o.boolean("allowedToCreateSecurityGroups")
	o.fixed("allowedToCreateTenants", "there is one tenant", "false")
	o.fixed("allowedToReadOtherUsers", "every member reads the directory", "true")
	b.within(o)
	b.key("authorizationPolicy")
	if err := b.finish("displayName", "description"); err != nil {
		return err
	}
	if user.Apps != nil && *user.Apps || user.Groups != nil && *user.Groups {
		return badBody("people without a role create neither applications nor groups here.").WithTarget("defaultUserRolePermissions")
	}
	if user.Policies == nil {
		return badBody("defaultUserRolePermissions.permissionGrantPoliciesAssigned is what can be changed.").WithTarget("defaultUserRolePermissions")
	}
	for _, p := range *user.Policies {
		if p != userConsent {
			return badBody("'%s' is not a policy here: permissionGrantPoliciesAssigned is empty, or holds %s.", bounded(p), userConsent).WithTarget("permissionGrantPoliciesAssigned")
		}
	}
	if err := h.cfg.Directory.SetConsentPolicy(c.R.Context(), c.By, directory.ConsentPolicy{Users: slices.Contains(*user.Policies, userConsent)}); err != nil {
		return err
	}
	return c.NoContent(204)
}

// offered is what a resource offers, as its service principal shows it.
func offered(appID string) (scopes, roles []object) {
	scopes, roles = []object{}, []object{}
	for _, p := range directory.Permissions(appID) {
		kind := "User"
		if p.AdminOnly {
			kind = "Admin"
		}
		if p.DelegatedID != "" {
			scopes = append(scopes, object{"id": p.DelegatedID, "value": p.Value, "type": kind, "isEnabled": true, "adminConsentDisplayName": p.Text, "adminConsentDescription": p.Text, "userConsentDisplayName": p.Text, "userConsentDescription": p.Text})
		}
		if p.ApplicationID != "" {
			roles = append(roles, object{"id": p.ApplicationID, "value": p.Value, "displayName": p.Text, "description": p.Text, "isEnabled": true, "allowedMemberTypes": []string{"Application"}, "origin": "Application"})
		}
	}
	return scopes, roles
}

// application finds what an address of applications or service principals is
// about: the application.
func (h *Handler) application(id string) (directory.Application, bool) {
	if p, ok := h.index().ServicePrincipal(id); ok {
		return h.index().Application(p.AppID)
	}
	return h.index().ApplicationByID(id)
}

func (h *Handler) addOwner(c *httpd.Call) error {
	id, err := h.reference(c)
	if err != nil {
		return err
	}
	a, ok := h.application(c.Var("id"))
	if !ok {
		return directory.NotFound(c.Var("id"))
	}
	if err := h.cfg.Directory.AddOwner(c.R.Context(), c.By, a.ID, id); err != nil {
		return err
	}
	return c.NoContent(204)
}

func (h *Handler) removeOwner(c *httpd.Call) error {
	a, ok := h.application(c.Var("id"))
	if !ok {
		return directory.NotFound(c.Var("id"))
	}
	if err := h.cfg.Directory.RemoveOwner(c.R.Context(), c.By, a.ID, c.Var("owner")); err != nil {
		return err
	}
	return c.NoContent(204)
}
