package graph

import (
	"sallyport/internal/directory"
	"sallyport/internal/httpd"
)

// groupOwners lists whom a group is said to belong to, which gives them no right.
func (h *Handler) groupOwners(c *httpd.Call) error {
	if err := h.mayRead(c, ""); err != nil {
		return err
	}
	g, ok := h.index().Group(c.Var("id"))
	if !ok {
		return directory.NotFound(c.Var("id"))
	}
	return h.objects(c, h.index().OwnersOf(g.ID))
}

func (h *Handler) addGroupOwner(c *httpd.Call) error {
	id, err := h.reference(c)
	if err != nil {
		return err
	}
	if _, ok := h.index().Group(c.Var("id")); !ok {
		return directory.NotFound(c.Var("id"))
	}
	if err := h.cfg.Directory.AddGroupOwner(c.R.Context(), c.By, c.Var("id"), id); err != nil {
		return err
	}
	return c.NoContent(204)
}

func (h *Handler) removeGroupOwner(c *httpd.Call) error {
	if _, ok := h.index().Group(c.Var("id")); !ok {
		return directory.NotFound(c.Var("id"))
	}
	if err := h.cfg.Directory.RemoveGroupOwner(c.R.Context(), c.By, c.Var("id"), c.Var("owner")); err != nil {
		return err
	}
	return c.NoContent(204)
}

// ownedObjects lists what somebody owns. Of objects of a kind that the caller's
// client may not read it shows kind and id alone, as Microsoft Graph does.
func (h *Handler) ownedObjects(c *httpd.Call) error {
	id, err := h.member(c)
	if err != nil {
		return err
	}
	return h.objectsAs(c, h.index().OwnedBy(id), func(o object) object {
		action := "microsoft.directory/" + shortType(o) + "s/standard/read"
		if h.cfg.Directory.MayRead(c.By, "", action) == nil {
			return o
		}
		return object{"@odata.type": o["@odata.type"], "id": o["id"]}
	})
}
