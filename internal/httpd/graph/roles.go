package graph

import (
	"slices"
	"strings"
	"time"

	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/rbac"
)

func (h *Handler) listOrganizations(c *httpd.Call) error {
	q, err := parseQuery(c, organizationEntity())
	if err != nil {
		return err
	}
	p := &page{q: q}
	p.add(h.index().Tenant().ID, h.organization())
	return h.answer(c, "organization", p)
}

func (h *Handler) getOrganization(c *httpd.Call) error {
	if !strings.EqualFold(c.Var("id"), h.index().Tenant().ID) {
		return directory.NotFound(c.Var("id"))
	}
	return h.show(c, organizationEntity(), h.organization())
}

func organizationEntity() entity {
	return entity{set: "organization", odata: "#microsoft.graph.organization", schema: map[string]kind{
		"id": text, "displayName": text, "verifiedDomains": other, "tenantType": text, "createdDateTime": other, "deletedDateTime": other,
	}}
}

func (h *Handler) organization() object {
	t := h.index().Tenant()
	domains := []object{}
	for i, d := range t.Domains {
		domains = append(domains, object{"name": d, "isDefault": i == 0, "isInitial": i == 0, "type": "Managed", "capabilities": ""})
	}
	return object{"id": t.ID, "displayName": t.DisplayName, "verifiedDomains": domains, "tenantType": "AAD", "createdDateTime": t.CreatedAt.UTC().Format(time.RFC3339), "deletedDateTime": nil}
}

func roleEntity() entity {
	return entity{set: "directoryRoles", odata: "#microsoft.graph.directoryRole", schema: map[string]kind{
		"id": text, "displayName": text, "description": text, "roleTemplateId": text, "deletedDateTime": other,
	}}
}

func templateEntity() entity {
	return entity{set: "directoryRoleTemplates", odata: "#microsoft.graph.directoryRoleTemplate", schema: map[string]kind{
		"id": text, "displayName": text, "description": text, "deletedDateTime": other,
	}}
}

// roleObject shows a directory role. Every role of ours is active, and its id is
// its template's: Entra's are ids of their own, which no client may rely on.
func roleObject(d rbac.Definition) object {
	return object{"id": d.ID, "displayName": d.Name, "description": d.Description, "roleTemplateId": d.ID, "deletedDateTime": nil}
}

func templateObject(d rbac.Definition) object {
	return object{"id": d.ID, "displayName": d.Name, "description": d.Description, "deletedDateTime": nil}
}

// listRoles lists the directory roles in one of their shapes.
func (h *Handler) listRoles(e entity, shape func(rbac.Definition) object) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		if err := h.mayRead(c, ""); err != nil {
			return err
		}
		q, err := parseQuery(c, e)
		if err != nil {
			return err
		}
		p := &page{q: q}
		all := slices.SortedFunc(slices.Values(h.cfg.Roles.Definitions()), func(a, b rbac.Definition) int { return strings.Compare(a.ID, b.ID) })
		for _, d := range all {
			if (q.count || d.ID > q.after) && !p.add(d.ID, shape(d)) {
				break
			}
		}
		return h.answer(c, e.set, p)
	}
}

func (h *Handler) showRole(e entity, shape func(rbac.Definition) object) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		if err := h.mayRead(c, ""); err != nil {
			return err
		}
		d, ok := h.definition(c.Var("id"))
		if !ok {
			return directory.NotFound(c.Var("id"))
		}
		return h.show(c, e, shape(d))
	}
}

// activateRole is what clients of the older interface do before they use a role.
// Every role is active, so there is nothing to do but to say so.
func (h *Handler) activateRole(c *httpd.Call) error {
	b, err := readBody(c, "directoryRole")
	if err != nil {
		return err
	}
	id := b.text("roleTemplateId")
	b.require("roleTemplateId", id != nil)
	if err := b.finish(); err != nil {
		return err
	}
	if _, ok := h.definition(value(id)); !ok {
		return directory.NotFound(value(id))
	}
	return fault.New(fault.Conflict, "Request_MultipleObjectsWithSameKeyValue", "a conflicting object with one or more of the specified property values is present in the directory: the role is active.").
		WithRemedy("Nothing needs to be done.")
}

func (h *Handler) directoryRoleMembers(c *httpd.Call) error {
	if err := h.mayRead(c, ""); err != nil {
		return err
	}
	id := strings.ToLower(c.Var("id"))
	if _, ok := h.definition(id); !ok {
		return directory.NotFound(id)
	}
	var ids []string
	for _, a := range h.cfg.Roles.Assignments("") {
		if a.RoleID == id {
			ids = append(ids, a.PrincipalID)
		}
	}
	return h.objects(c, ids)
}

// addRoleMember and removeRoleMember are role assignments in the older form.
func (h *Handler) addRoleMember(c *httpd.Call) error {
	if _, ok := h.definition(c.Var("id")); !ok {
		return directory.NotFound(c.Var("id"))
	}
	id, err := h.reference(c)
	if err != nil {
		return err
	}
	if _, err := h.cfg.Roles.Assign(c.R.Context(), c.By, c.Var("id"), id); err != nil {
		return err
	}
	return c.NoContent(204)
}

func (h *Handler) removeRoleMember(c *httpd.Call) error {
	for _, a := range h.cfg.Roles.Assignments(c.Var("member")) {
		if strings.EqualFold(a.RoleID, c.Var("id")) {
			if err := h.cfg.Roles.Remove(c.R.Context(), c.By, a.ID); err != nil {
				return err
			}
			return c.NoContent(204)
		}
	}
	return directory.NotFound(c.Var("member"))
}

func (h *Handler) definition(id string) (rbac.Definition, bool) {
	for _, d := range h.cfg.Roles.Definitions() {
		if strings.EqualFold(d.ID, id) {
			return d, true
		}
	}
	return rbac.Definition{}, false
}

func definitionEntity() entity {
	return entity{set: "roleManagement/directory/roleDefinitions", odata: "#microsoft.graph.unifiedRoleDefinition", schema: map[string]kind{
		"id": text, "displayName": text, "description": text, "isBuiltIn": boolean, "isEnabled": boolean, "templateId": text, "version": other, "resourceScopes": list, "rolePermissions": other,
	}}
}

func definitionObject(d rbac.Definition) object {
	permissions := []object{}
	for _, p := range d.Permissions {
		permissions = append(permissions, object{"allowedResourceActions": listOf(p.Actions), "condition": nil})
	}
	return object{"id": d.ID, "displayName": d.Name, "description": d.Description, "isBuiltIn": d.BuiltIn, "isEnabled": true, "templateId": d.ID, "version": "1", "resourceScopes": []string{"/"}, "rolePermissions": permissions}
}

func assignmentEntity() entity {
	return entity{set: "roleManagement/directory/roleAssignments", odata: "#microsoft.graph.unifiedRoleAssignment", schema: map[string]kind{
		"id": text, "roleDefinitionId": text, "principalId": text, "directoryScopeId": text,
	}}
}

func assignmentObject(a rbac.Assignment) object {
	return object{"id": a.ID, "roleDefinitionId": a.RoleID, "principalId": a.PrincipalID, "directoryScopeId": "/"}
}

func (h *Handler) listRoleAssignments(c *httpd.Call) error {
	if err := h.mayRead(c, ""); err != nil {
		return err
	}
	q, err := parseQuery(c, assignmentEntity())
	if err != nil {
		return err
	}
	p := &page{q: q}
	for _, a := range h.cfg.Roles.Assignments("") { // one scope, so by id
		if !q.count && a.ID <= q.after {
			continue
		}
		if !p.add(a.ID, assignmentObject(a)) {
			break
		}
	}
	return h.answer(c, assignmentEntity().set, p)
}

func (h *Handler) createRoleAssignment(c *httpd.Call) error {
	b, err := readBody(c, "unifiedRoleAssignment")
	if err != nil {
		return err
	}
	role, principal := b.text("roleDefinitionId"), b.text("principalId")
	b.require("roleDefinitionId", role != nil)
	b.require("principalId", principal != nil)
	b.fixed("directoryScopeId", "directory roles are given for the whole directory", `"/"`)
	b.fixed("condition", "an assignment with a condition would be one without it")
	if err := b.finish(); err != nil {
		return err
	}
	a, err := h.cfg.Roles.Assign(c.R.Context(), c.By, value(role), value(principal))
	if err != nil {
		return err
	}
	return h.created(c, assignmentEntity(), assignmentObject(a))
}

func (h *Handler) getRoleAssignment(c *httpd.Call) error {
	if err := h.mayRead(c, ""); err != nil {
		return err
	}
	for _, a := range h.cfg.Roles.Assignments("") {
		if strings.EqualFold(a.ID, c.Var("id")) {
			return h.show(c, assignmentEntity(), assignmentObject(a))
		}
	}
	return directory.NotFound(c.Var("id"))
}

func (h *Handler) deleteRoleAssignment(c *httpd.Call) error {
	if err := h.cfg.Roles.Remove(c.R.Context(), c.By, c.Var("id")); err != nil {
		return err
	}
	return c.NoContent(204)
}
