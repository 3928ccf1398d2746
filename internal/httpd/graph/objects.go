package graph

import (
	"slices"
	"strings"

	"sallyport/internal/directory"
	"sallyport/internal/guid"
	"sallyport/internal/httpd"
)

const maxIDs = 1000 // of getByIds, Graph's limit

// object returns any user, group or service principal with its @odata.type.
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
		"mobilePhone": text, "businessPhones": list, "officeLocation": text, "preferredLanguage": text, "createdDateTime": other,
	}}
}

// objects answers with a page of mixed objects, ids in order.
func (h *Handler) objects(c *httpd.Call, ids []string) error {
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
		if !p.add(id, o) {
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
		return badBody("too many ids: at most %d in one request.", maxIDs).WithTarget("ids")
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

func (h *Handler) memberOf(transitive bool) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		id, err := h.member(c)
		if err != nil {
			return err
		}
		if transitive {
			return h.objects(c, slices.Clone(h.index().GroupsOf(id)))
		}
		return h.objects(c, h.index().GroupsDirectlyOf(id))
	}
}

func (h *Handler) getMemberGroups(c *httpd.Call) error {
	id, err := h.member(c)
	if err != nil {
		return err
	}
	b, err := readBody(c, "directoryObject")
	if err != nil {
		return err
	}
	b.boolean("securityEnabledOnly") // every group is a security group
	if err := b.finish(); err != nil {
		return err
	}
	return c.JSON(200, object{"@odata.context": h.context("Collection(Edm.String)"), "value": listOf(h.index().GroupsOf(id))})
}

func (h *Handler) checkMemberGroups(c *httpd.Call) error {
	id, err := h.member(c)
	if err != nil {
		return err
	}
	b, err := readBody(c, "directoryObject")
	if err != nil {
		return err
	}
	var asked []string
	b.take("groupIds", &asked)
	b.require("groupIds", asked != nil)
	if err := b.finish(); err != nil {
		return err
	}
	if len(asked) > 20 {
		return badBody("too many groupIds: at most 20 in one request.").WithTarget("groupIds")
	}
	for _, g := range asked {
		if _, ok := guid.Parse(g); !ok {
			return badBody("invalid GUID: '%s'.", bounded(g)).WithTarget("groupIds")
		}
	}
	in := []string{}
	for _, g := range h.index().GroupsOf(id) {
		if slices.ContainsFunc(asked, func(a string) bool { return strings.EqualFold(a, g) }) {
			in = append(in, g)
		}
	}
	return c.JSON(200, object{"@odata.context": h.context("Collection(Edm.String)"), "value": in})
}
