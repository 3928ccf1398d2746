package graph

import (
	"net/url"
	"strings"
	"time"

	"sallyport/internal/directory"
	"sallyport/internal/guid"
	"sallyport/internal/httpd"
)

func groupEntity() entity {
	return entity{set: "groups", odata: "#microsoft.graph.group", schema: map[string]kind{
		"id": text, "displayName": text, "description": text, "mailNickname": text, "mail": text, "mailEnabled": boolean, "securityEnabled": boolean, "groupTypes": list, "visibility": text,
		"proxyAddresses": list, "securityIdentifier": text, "isAssignableToRole": boolean, "createdDateTime": other, "renewedDateTime": other, "deletedDateTime": other,
	}}
}

func groupObject(g directory.Group) object {
	created := g.CreatedAt.UTC().Format(time.RFC3339)
	var assignable any // Graph says true, or null
	if g.RoleAssignable {
		assignable = true
	}
	return object{
		"id": g.ID, "displayName": g.DisplayName, "description": nullable(g.Description), "mailNickname": nullable(g.MailNickname), "mail": nil, "mailEnabled": false, "securityEnabled": true,
		"groupTypes": []string{}, "visibility": nil, "proxyAddresses": []string{}, "securityIdentifier": nil, "isAssignableToRole": assignable,
		"createdDateTime": created, "renewedDateTime": created, "deletedDateTime": nil,
	}
}

func (h *Handler) listGroups(c *httpd.Call) error {
	if err := h.mayRead(c, ""); err != nil {
		return err
	}
	q, err := parseQuery(c, groupEntity())
	if err != nil {
		return err
	}
	p := &page{q: q}
	h.index().GroupsAfter(q.start(), func(g directory.Group) bool { return p.add(g.ID, groupObject(g)) })
	return h.answer(c, "groups", p)
}

func (h *Handler) getGroup(c *httpd.Call) error {
	if err := h.mayRead(c, ""); err != nil {
		return err
	}
	g, ok := h.index().Group(c.Var("id"))
	if !ok {
		return directory.NotFound(c.Var("id"))
	}
	return h.show(c, groupEntity(), groupObject(g))
}

// groupChange takes the properties that can be set on a group: all groups are
// security groups without mail.
func (b *body) groupChange() directory.GroupChange {
	ch := directory.GroupChange{DisplayName: b.text("displayName"), Description: b.text("description"), MailNickname: b.text("mailNickname")}
	b.fixed("mailEnabled", "groups have no mail", "false")
	b.fixed("securityEnabled", "every group is a security group", "true")
	b.fixed("visibility", "everybody in the tenant sees groups", `"Public"`, "null")
	for _, p := range []string{"groupTypes", "membershipRule", "membershipRuleProcessingState"} {
		b.fixed(p, "members are added one by one")
	}
	return ch
}

func (h *Handler) createGroup(c *httpd.Call) error {
	b, err := readBody(c, "Group")
	if err != nil {
		return err
	}
	ch := b.groupChange()
	assignable := b.optional("isAssignableToRole")
	b.require("displayName", ch.DisplayName != nil)
	if err := b.finish(); err != nil {
		return err
	}
	g, err := h.cfg.Directory.CreateGroup(c.R.Context(), c.By, directory.NewGroup{DisplayName: value(ch.DisplayName), Description: value(ch.Description), MailNickname: value(ch.MailNickname),
		RoleAssignable: assignable != nil && *assignable})
	if err != nil {
		return err
	}
	return h.created(c, groupEntity(), groupObject(g))
}

func (h *Handler) updateGroup(c *httpd.Call) error {
	b, err := readBody(c, "Group")
	if err != nil {
		return err
	}
	was, ok := h.index().Group(c.Var("id"))
	ch := b.groupChange()
	if !ok { // for who may change groups; who may not is told that
		if err := h.cfg.Directory.UpdateGroup(c.R.Context(), c.By, c.Var("id"), directory.GroupChange{}); err != nil {
			return err
		}
		return directory.NotFound(c.Var("id"))
	}
	b.unchanging("isAssignableToRole", "it is decided when the group is made", was.RoleAssignable)
	b.key(was.ID)
	if err := b.finish("mail", "proxyAddresses", "securityIdentifier", "createdDateTime", "renewedDateTime", "deletedDateTime"); err != nil {
		return err
	}
	if err := h.cfg.Directory.UpdateGroup(c.R.Context(), c.By, c.Var("id"), ch); err != nil {
		return err
	}
	return c.NoContent(204)
}

func (h *Handler) deleteGroup(c *httpd.Call) error {
	if err := h.cfg.Directory.DeleteGroup(c.R.Context(), c.By, c.Var("id")); err != nil {
		return err
	}
	return c.NoContent(204)
}

func (h *Handler) members(transitive bool) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		if err := h.mayRead(c, ""); err != nil {
			return err
		}
		id := c.Var("id")
		if _, ok := h.index().Group(id); !ok {
			return directory.NotFound(id)
		}
		var ids []string
		for _, m := range h.index().MembersOf(id, transitive) {
			ids = append(ids, m.ID)
		}
		return h.objects(c, ids)
	}
}

func (h *Handler) addMember(c *httpd.Call) error {
	id, err := h.reference(c)
	if err != nil {
		return err
	}
	if _, ok := h.index().Group(c.Var("id")); !ok {
		return directory.NotFound(c.Var("id"))
	}
	if err := h.cfg.Directory.AddGroupMember(c.R.Context(), c.By, c.Var("id"), id); err != nil {
		return err
	}
	return c.NoContent(204)
}

// reference reads the body of a $ref request: the object to add.
func (h *Handler) reference(c *httpd.Call) (string, error) {
	b, err := readBody(c, "directoryObject")
	if err != nil {
		return "", err
	}
	ref := value(b.text("@odata.id"))
	if err := b.finish(); err != nil {
		return "", err
	}
	id, ok := referenced(ref)
	if !ok {
		return "", badBody("the reference '%s' names no directory object.", bounded(ref)).WithTarget("@odata.id").
			WithRemedy("Send {\"@odata.id\": \"%s/v1.0/directoryObjects/OBJECT-ID\"}.", h.cfg.URL)
	}
	return id, nil
}

// referenced reads the object id at the end of an @odata.id. The host is not
// looked at: clients write graph.microsoft.com or their cloud's name into it,
// and the id alone says which object of this tenant is meant.
func referenced(ref string) (string, bool) {
	u, err := url.Parse(ref)
	if err != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", false
	}
	path := strings.ReplaceAll(strings.ReplaceAll(u.Path, "('", "/"), "')", "")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if n := len(parts); n >= 2 {
		switch parts[n-2] {
		case "directoryObjects", "users", "groups", "servicePrincipals":
			return guid.Parse(parts[n-1])
		}
	}
	return "", false
}

func (h *Handler) removeMember(c *httpd.Call) error {
	if _, ok := h.index().Group(c.Var("id")); !ok {
		return directory.NotFound(c.Var("id"))
	}
	if err := h.cfg.Directory.RemoveGroupMember(c.R.Context(), c.By, c.Var("id"), c.Var("member")); err != nil {
		return err
	}
	return c.NoContent(204)
}
