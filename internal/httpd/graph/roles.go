package graph

import (
	"strings"
	"time"

	"sallyport/internal/directory"
	"sallyport/internal/httpd"
	"sallyport/internal/rbac"
)

func (h *Handler) listOrganizations(c *httpd.Call) error {
	return c.JSON(200, object{"@odata.context": h.context("organization"), "value": []object{h.organization()}})
}

func (h *Handler) getOrganization(c *httpd.Call) error {
	if !strings.EqualFold(c.Var("id"), h.index().Tenant().ID) {
		return directory.NotFound(c.Var("id"))
	}
	o := h.organization()
	o["@odata.context"] = h.context("organization/$entity")
	return c.JSON(200, o)
}

func (h *Handler) organization() object {
	t := h.index().Tenant()
	domains := []object{}
	for i, d := range t.Domains {
		domains = append(domains, object{"name": d, "isDefault": i == 0, "isInitial": i == 0, "type": "Managed", "capabilities": ""})
	}
	return object{"id": t.ID, "displayName": t.DisplayName, "verifiedDomains": domains, "tenantType": "AAD", "createdDateTime": t.CreatedAt.UTC().Format(time.RFC3339), "deletedDateTime": nil}
}

func (h *Handler) listDirectoryRoles(c *httpd.Call) error {
	if err := h.cfg.Directory.MayRead(c.By, ""); err != nil {
		return err
	}
	roles := []object{}
	for _, d := range h.cfg.Roles.Definitions() {
		roles = append(roles, object{"id": d.ID, "displayName": d.Name, "description": d.Description, "roleTemplateId": d.ID, "deletedDateTime": nil})
	}
	return c.JSON(200, object{"@odata.context": h.context("directoryRoles"), "value": roles})
}

func (h *Handler) directoryRoleMembers(c *httpd.Call) error {
	if err := h.cfg.Directory.MayRead(c.By, ""); err != nil {
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

func (h *Handler) listRoleDefinitions(c *httpd.Call) error {
	if err := h.cfg.Directory.MayRead(c.By, ""); err != nil {
		return err
	}
	q, err := parseQuery(c, definitionEntity())
	if err != nil {
		return err
	}
	p := &page{q: q}
	for _, d := range h.cfg.Roles.Definitions() {
		if o := definitionObject(d); q.matches(o) {
			p.items = append(p.items, q.project(o))
		}
	}
	p.total = len(p.items)
	return h.answer(c, definitionEntity().set, p)
}

func (h *Handler) getRoleDefinition(c *httpd.Call) error {
	if err := h.cfg.Directory.MayRead(c.By, ""); err != nil {
		return err
	}
	d, ok := h.definition(c.Var("id"))
	if !ok {
		return directory.NotFound(c.Var("id"))
	}
	return h.show(c, definitionEntity(), definitionObject(d))
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
	if err := h.cfg.Directory.MayRead(c.By, ""); err != nil {
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
	if err := h.cfg.Directory.MayRead(c.By, ""); err != nil {
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
