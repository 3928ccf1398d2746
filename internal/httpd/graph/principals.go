package graph

import (
	"strings"
	"time"

	"sallyport/internal/credential"
	"sallyport/internal/directory"
	"sallyport/internal/guid"
	"sallyport/internal/httpd"
)

func principalEntity() entity {
	return entity{set: "servicePrincipals", odata: "#microsoft.graph.servicePrincipal", schema: map[string]kind{
		"id": text, "appId": text, "displayName": text, "appDisplayName": text, "servicePrincipalNames": list, "servicePrincipalType": text, "accountEnabled": boolean,
		"appOwnerOrganizationId": text, "alternativeNames": list, "signInAudience": text, "tags": list, "homepage": text, "createdDateTime": other, "deletedDateTime": other,
		"passwordCredentials": other, "keyCredentials": other, "appRoles": other, "oauth2PermissionScopes": other, "replyUrls": list, "appRoleAssignmentRequired": boolean,
	}}
}

func (h *Handler) principalObject(p directory.ServicePrincipal) object {
	alternative, replies := []string{}, []string(nil)
	if p.Type == directory.TypeManagedIdentity {
		alternative = []string{"isExplicit=" + explicit(p), p.ResourceID}
	}
	if a, ok := h.index().Application(p.AppID); ok {
		replies = a.RedirectURIs
	}
	scopes, roles := offered(p.AppID)
	return object{
		"id": p.ID, "appId": p.AppID, "displayName": p.DisplayName, "appDisplayName": p.DisplayName, "servicePrincipalNames": listOf(p.Names), "servicePrincipalType": string(p.Type),
		"accountEnabled": p.Enabled, "appOwnerOrganizationId": h.index().Tenant().ID, "alternativeNames": alternative, "signInAudience": "AzureADMyOrg", "tags": []string{}, "homepage": nil,
		"createdDateTime": p.CreatedAt.UTC().Format(time.RFC3339), "deletedDateTime": nil, "passwordCredentials": []object{}, "keyCredentials": []object{},
		"appRoles": roles, "oauth2PermissionScopes": scopes, "replyUrls": listOf(replies), "appRoleAssignmentRequired": false,
	}
}

// explicit tells the two kinds of managed identities apart, as Entra does: one that is
// a resource of its own, and one that another resource has.
func explicit(p directory.ServicePrincipal) string {
	if strings.Contains(strings.ToLower(p.ResourceID), "/providers/microsoft.managedidentity/userassignedidentities/") {
		return "True"
	}
	return "False"
}

func (h *Handler) listPrincipals(c *httpd.Call) error {
	if err := h.mayRead(c, ""); err != nil {
		return err
	}
	q, err := parseQuery(c, principalEntity())
	if err != nil {
		return err
	}
	p := &page{q: q}
	h.index().ServicePrincipalsAfter(q.start(), func(sp directory.ServicePrincipal) bool { return p.add(sp.ID, h.principalObject(sp)) })
	return h.answer(c, "servicePrincipals", p)
}

func (h *Handler) getPrincipal(c *httpd.Call) error {
	id := h.subject(c)
	if err := h.mayRead(c, id); err != nil {
		return err
	}
	p, ok := h.index().ServicePrincipal(id)
	if !ok {
		return directory.NotFound(c.Var("id"))
	}
	o, err := h.withCredentials(c, p.ID, h.principalObject(p))
	if err != nil {
		return err
	}
	return h.show(c, principalEntity(), o)
}

func (h *Handler) createPrincipal(c *httpd.Call) error {
	b, err := readBody(c, "ServicePrincipal")
	if err != nil {
		return err
	}
	appID := b.text("appId")
	b.require("appId", appID != nil)
	b.fixed("accountEnabled", "it begins enabled", "true", `"true"`, `"True"`)
	b.fixed("tags", "it is not kept")
	b.fixed("servicePrincipalType", "a managed identity is made by its resource", `"Application"`)
	b.take("displayName", new(string)) // Graph takes the name from the application too
	if err := b.finish(); err != nil {
		return err
	}
	id, ok := guid.Parse(value(appID))
	if !ok {
		return badBody("invalid value specified for property 'appId' of resource 'ServicePrincipal'.").WithTarget("appId")
	}
	p, err := h.cfg.Directory.CreateServicePrincipal(c.R.Context(), c.By, id)
	if err != nil {
		return err
	}
	return h.created(c, principalEntity(), h.principalObject(p))
}

func (h *Handler) updatePrincipal(c *httpd.Call) error {
	b, err := readBody(c, "ServicePrincipal")
	if err != nil {
		return err
	}
	enabled := b.boolean("accountEnabled")
	b.fixed("appRoleAssignmentRequired", "conditional access says who signs in to an application", "false")
	keys := b.keys()
	b.key(c.Var("id"))
	b.fixed("passwordCredentials", "secrets are made by the server: use addPassword")
	for _, p := range []string{"tags", "notes", "homepage", "appRoles", "oauth2PermissionScopes", "replyUrls", "alternativeNames"} {
		b.fixed(p, "accountEnabled and keyCredentials are what can be changed, and the rest is its application's")
	}
	if err := b.finish("appId", "appDisplayName", "displayName", "appOwnerOrganizationId", "servicePrincipalNames", "servicePrincipalType", "signInAudience", "createdDateTime", "deletedDateTime"); err != nil {
		return err
	}
	if b.require("accountEnabled", enabled != nil || keys != nil); b.err != nil {
		return b.err
	}
	p, ok := h.index().ServicePrincipal(c.Var("id"))
	if !ok {
		return directory.NotFound(c.Var("id"))
	}
	gone, added, err := h.changed(c, "servicePrincipals", p.ID, keys)
	if err != nil {
		return err
	}
	var others []func(directory.Tx) error
	if keys != nil {
		change, _, err := h.cfg.Credentials.PrepareCertificates(c.R.Context(), c.By, p.ID, gone, added)
		if err != nil {
			return err
		}
		if others = append(others, credential.InDirectory(change)); enabled == nil {
			if err := h.cfg.Credentials.Do(c.R.Context(), change); err != nil {
				return err
			}
		}
	}
	if enabled != nil {
		if err := h.cfg.Directory.EnableServicePrincipal(c.R.Context(), c.By, p.ID, *enabled, others...); err != nil {
			return err
		}
	}
	return c.NoContent(204)
}

func (h *Handler) deletePrincipal(c *httpd.Call) error {
	if err := h.cfg.Directory.DeleteServicePrincipal(c.R.Context(), c.By, c.Var("id")); err != nil {
		return err
	}
	return c.NoContent(204)
}
