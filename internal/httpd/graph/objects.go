package graph

import (
	"slices"
	"strings"

	"sallyport/internal/directory"
	"sallyport/internal/guid"
	"sallyport/internal/httpd"
)

const maxIDs = 1000 // of getByIds, Graph's limit

// object returns any user, group, service principal, application or directory role
// with its @odata.type.
func (h *Handler) object(id string) (object, bool) {
	x := h.index()
	if u, ok := x.User(id); ok {
		q := query{fields: userEntity().defaults}
		return typed(q.project(userObject(u)), userEntity()), true
	}
	if g, ok := x.Group(id); ok {
		return typed(groupObject(g), groupEntity()), true
	}
	if p, ok := x.ServicePrincipal(id); ok {
		return typed(h.principalObject(p), principalEntity()), true
	}
	if a, ok := x.ApplicationByID(id); ok {
		return typed(h.applicationObject(a), applicationEntity()), true
	}
	if d, ok := h.definition(id); ok {
		return typed(roleObject(d), roleEntity()), true
	}
	return nil, false
}

func typed(o object, e entity) object {
	o["@odata.type"] = e.odata
	return o
}

func objectEntity() entity {
	return entity{set: "directoryObjects", odata: "#microsoft.graph.directoryObject", schema: map[string]kind{
		"id": text, "displayName": text, "description": text, "userPrincipalName": text, "mail": text, "appId": text, "securityEnabled": boolean, "mailEnabled": boolean,
		"servicePrincipalType": text, "servicePrincipalNames": list, "accountEnabled": boolean, "givenName": text, "surname": text, "jobTitle": text, "groupTypes": list,
		"mobilePhone": text, "businessPhones": list, "officeLocation": text, "preferredLanguage": text, "createdDateTime": other, "roleTemplateId": text,
	}}
}

// objects answers with a page of mixed objects, ids in order.
func (h *Handler) objects(c *httpd.Call, ids []string) error {
	return h.objectsAs(c, ids, func(o object) object { return o })
}

// objectsAs does so with what shown leaves of each.
func (h *Handler) objectsAs(c *httpd.Call, ids []string, shown func(object) object) error {
	q, err := parseQuery(c, objectEntity())
	if err != nil {
		return err
	}
	p := &page{q: q, cast: c.Cast()}
	slices.Sort(ids)
	for _, id := range ids {
		if !q.count && id <= q.after {
			continue
		}
		o, ok := h.object(id)
		if kind := shortType(o); !ok || p.cast != "" && !strings.EqualFold(p.cast, kind) {
			continue
		}
		if !p.add(id, shown(o)) {
			break
		}
	}
	return h.answer(c, "directoryObjects", p)
}

func (h *Handler) getByIDs(c *httpd.Call) error {
	if err := h.mayRead(c, ""); err != nil {
		return err
	}
	b, err := readBody(c, "directoryObject")
	if err != nil {
		return err
	}
	var ids, types []string
	b.take("ids", &ids)
	b.take("types", &types)
	b.require("ids", ids != nil)
	if err := b.finish(); err != nil {
		return err
	}
	q, err := parseQuery(c, objectEntity())
	if err != nil {
		return err
	}
	for key := range q.values {
		if strings.HasPrefix(key, "$") && key != "$select" {
			return unsupported("the query option '%s' is not supported here.", bounded(key))
		}
	}
	for _, t := range types {
		if !slices.Contains(objectTypes(), t) {
			return badBody("invalid value specified for property 'types': '%s'.", bounded(t)).WithTarget("types")
		}
	}
	if len(ids) > maxIDs {
		return tooMany("ids", maxIDs)
	}
	found := []object{}
	seen := map[string]bool{}
	for _, given := range ids {
		id, ok := guid.Parse(given)
		if !ok {
			return badBody("invalid GUID: '%s'.", bounded(given)).WithTarget("ids")
		}
		o, ok := h.object(id)
		if !ok || seen[id] {
			continue
		}
		seen[id] = true
		short := shortType(o)
		if len(types) > 0 && !slices.Contains(types, short) && !slices.Contains(types, "directoryObject") {
			continue
		}
		found = append(found, q.project(o))
	}
	return c.JSON(200, object{"@odata.context": h.context("directoryObjects"), "value": found})
}

// objectTypes are the types that getByIds looks for. Some are of objects that are not
// here: clients name all that they would understand.
func objectTypes() []string {
	return []string{"user", "group", "servicePrincipal", "application", "device", "orgContact", "contact", "directoryRole", "directoryRoleTemplate", "administrativeUnit", "directoryObject", "directoryObjectPartnerReference", "tenant"}
}

// shortType is the type of an object without its namespace.
func shortType(o object) string {
	t, _ := o["@odata.type"].(string)
	return strings.TrimPrefix(t, "#microsoft.graph.")
}

func (h *Handler) getObject(c *httpd.Call) error {
	if err := h.mayRead(c, strings.ToLower(c.Var("id"))); err != nil {
		return err
	}
	o, ok := h.object(c.Var("id"))
	if !ok {
		return directory.NotFound(c.Var("id"))
	}
	return h.show(c, objectEntity(), o)
}

// member resolves the subject of a membership question and checks the reader.
func (h *Handler) member(c *httpd.Call) (string, error) {
	id := h.subject(c)
	if err := h.mayRead(c, id); err != nil {
		return "", err
	}
	if _, ok := h.index().TypeOf(id); !ok {
		return "", directory.NotFound(c.Var("id"))
	}
	return id, nil
}

// memberOf lists groups, and directory roles where the caller may read who has
// them. For others these are left out: a role's id alone says which one it is.
func (h *Handler) memberOf(transitive bool) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		id, err := h.member(c)
		if err != nil {
			return err
		}
		ids := slices.Clone(h.index().GroupsDirectlyOf(id))
		if transitive {
			ids = slices.Clone(h.index().GroupsOf(id))
		}
		if h.mayReadRoles(c, id) == nil {
			ids = append(ids, h.rolesOf(id, transitive)...)
		}
		return h.objects(c, ids)
	}
}

// mayReadRoles asks whether the caller may read which directory roles somebody has.
func (h *Handler) mayReadRoles(c *httpd.Call, id string) error {
	return h.cfg.Directory.MayRead(c.By, id, "microsoft.directory/directoryRoles/members/read")
}

// rolesOf returns the ids of the directory roles that somebody has: of its own, and
// with transitive those of its groups, too.
func (h *Handler) rolesOf(id string, transitive bool) []string {
	holders := []string{id}
	if transitive {
		holders = append(holders, h.index().GroupsOf(id)...)
	}
	var ids []string
	for _, holder := range holders {
		for _, a := range h.cfg.Roles.Assignments(holder) {
			ids = append(ids, strings.ToLower(a.RoleID))
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// groups and groupsAndRoles return what somebody is in, through groups too.
func (h *Handler) groups(_ *httpd.Call, id string) ([]string, error) {
	return h.index().GroupsOf(id), nil
}

// A caller that may not read roles is refused: an answer without them would be wrong.
func (h *Handler) groupsAndRoles(c *httpd.Call, id string) ([]string, error) {
	if err := h.mayReadRoles(c, id); err != nil {
		return nil, err
	}
	return slices.Concat(h.index().GroupsOf(id), h.rolesOf(id, true)), nil
}

// getMemberGroups lists groups alone, whatever securityEnabledOnly says: every group
// is a security group.
func (h *Handler) getMemberGroups(c *httpd.Call) error {
	return h.getMemberships(c, func(bool) memberships { return h.groups })
}

// getMemberObjects lists directory roles as well, unless only what is security
// enabled is asked for.
func (h *Handler) getMemberObjects(c *httpd.Call) error {
	return h.getMemberships(c, func(only bool) memberships {
		if only {
			return h.groups
		}
		return h.groupsAndRoles
	})
}

// memberships are the ids of what somebody is in.
type memberships func(c *httpd.Call, id string) ([]string, error)

func (h *Handler) getMemberships(c *httpd.Call, of func(securityEnabledOnly bool) memberships) error {
	id, err := h.member(c)
	if err != nil {
		return err
	}
	b, err := readBody(c, "directoryObject")
	if err != nil {
		return err
	}
	only := b.boolean("securityEnabledOnly")
	if err := b.finish(); err != nil {
		return err
	}
	ids, err := of(only != nil && *only)(c, id)
	if err != nil {
		return err
	}
	return c.JSON(200, object{"@odata.context": h.context("Collection(Edm.String)"), "value": listOf(ids)})
}

// maxAsked is how many memberships one request checks, as in Microsoft Graph.
const maxAsked = 20

func tooMany(property string, most int) error {
	return badBody("too many %s: at most %d in one request.", property, most).WithTarget(property)
}

// checkMemberships says which of the given ids somebody is in.
func (h *Handler) checkMemberships(property string, of memberships) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		id, err := h.member(c)
		if err != nil {
			return err
		}
		b, err := readBody(c, "directoryObject")
		if err != nil {
			return err
		}
		var asked []string
		b.take(property, &asked)
		b.require(property, asked != nil)
		if err := b.finish(); err != nil {
			return err
		}
		if len(asked) > maxAsked {
			return tooMany(property, maxAsked)
		}
		for _, g := range asked {
			if _, ok := guid.Parse(g); !ok {
				return badBody("invalid GUID: '%s'.", bounded(g)).WithTarget(property)
			}
		}
		held, err := of(c, id)
		if err != nil {
			return err
		}
		in := []string{}
		for _, g := range held {
			if slices.ContainsFunc(asked, func(a string) bool { return strings.EqualFold(a, g) }) {
				in = append(in, g)
			}
		}
		return c.JSON(200, object{"@odata.context": h.context("Collection(Edm.String)"), "value": in})
	}
}
