package cli

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"sallyport/internal/cli/client"
)

// named finds the objects of a kind with exactly this display name.
func (k entities) named(ctx context.Context, s *client.Session, name string) ([]map[string]any, error) {
	c := graph(http.MethodGet, k.path)
	c.Query = url.Values{"$filter": {"displayName eq '" + strings.ReplaceAll(name, "'", "''") + "'"}}
	items, err := s.List(ctx, c)
	if err != nil {
		return nil, err
	}
	var found []map[string]any
	for _, item := range items {
		doc, err := object(item)
		if err != nil {
			return nil, err
		}
		if text(doc, "displayName") == name {
			found = append(found, doc)
		}
	}
	return found, nil
}

// register makes an application. As with az, the one that has its name already is
// changed, and of several the right one cannot be known.
func (a *app) register(ctx context.Context, s *client.Session, body map[string]any) (map[string]any, error) {
	name, _ := body["displayName"].(string)
	found, err := appsOf().named(ctx, s, name)
	if err != nil {
		return nil, err
	}
	switch len(found) {
	case 0:
		c := graph(http.MethodPost, "/applications")
		c.Body = body
		var doc map[string]any
		err := do(ctx, s, c, &doc)
		return doc, err
	case 1:
		id := text(found[0], "id")
		a.warn("Found an existing application instance: (id) " + id + ". We will patch it.")
		c := graph(http.MethodPatch, "/applications/"+url.PathEscape(id))
		c.Body = body
		if err := do(ctx, s, c, nil); err != nil {
			return nil, err
		}
		return appsOf().get(ctx, s, id)
	}
	return nil, clientError{"more than one application has the display name '" + name + "'. Remove the others first: sally ad app delete --id ID"}
}
