package cli

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
)

// permissionGrant grants an application permissions to act for people, for
// everybody or for one. What it was granted before stays: az replaces it, and so
// takes away what nobody named.
func (a *app) permissionGrant() *cobra.Command {
	cmd := leafFor("grant", "Let an application act for people.", []flag{
		flagID("Application id, service principal name or object id of the client"), {name: "api", required: true, usage: "Application id of the resource, such as 00000003-0000-0000-c000-000000000000 for Microsoft Graph"},
		{name: "scope", kind: 'l', required: true, usage: "Space-separated permissions"},
		{name: "consent-type", def: "AllPrincipals", usage: "AllPrincipals: for everybody; Principal: for --principal-id"}, {name: "principal-id", usage: "Object id of the one person"},
	}, a.grantPermission)
	cmd.Example = "  sally ad app permission grant --id 14d82eec-204b-4c2f-b7e8-296a70dab67e --api 00000003-0000-0000-c000-000000000000 --scope \"Application.ReadWrite.All ServicePrincipalEndpoint.ReadWrite.All\""
	return cmd
}

func (a *app) grantPermission(ctx context.Context, in values) error {
	kind, person := in.text("consent-type"), in.text("principal-id")
	if kind != "AllPrincipals" && kind != "Principal" || (kind == "Principal") != (person != "") {
		return usageError{"usage error: --consent-type AllPrincipals, or --consent-type Principal --principal-id ID"}
	}
	s, err := a.session(ctx)
	if err != nil {
		return err
	}
	sp, err := principalsOf().find(ctx, s, in.text("id"))
	if err != nil {
		return err
	}
	resource, err := principalsOf().find(ctx, s, in.text("api"))
	if err != nil {
		return err
	}
	var scopes []string
	for _, given := range in.list("scope") {
		scopes = append(scopes, strings.Fields(given)...)
	}
	there, err := a.grantsOf(ctx, s, text(sp, "id"))
	if err != nil {
		return err
	}
	for _, g := range there {
		if text(g, "resourceId") != text(resource, "id") || text(g, "consentType") != kind || !strings.EqualFold(text(g, "principalId"), person) {
			continue
		}
		all := slices.Concat(strings.Fields(text(g, "scope")), scopes)
		slices.Sort(all)
		g["scope"] = strings.Join(slices.Compact(all), " ")
		c := graph(http.MethodPatch, "/oauth2PermissionGrants/"+url.PathEscape(text(g, "id")))
		c.Body = map[string]any{"scope": g["scope"]}
		if err := do(ctx, s, c, nil); err != nil {
			return err
		}
		g["@odata.context"] = s.Server().URL() + "/v1.0/$metadata#oauth2PermissionGrants/$entity" // as the grant's own address has it
		return a.print(g)
	}
	c := graph(http.MethodPost, "/oauth2PermissionGrants")
	body := map[string]any{"clientId": text(sp, "id"), "consentType": kind, "resourceId": text(resource, "id"), "scope": strings.Join(scopes, " "), "principalId": nil}
	if person != "" {
		body["principalId"] = person
	}
	c.Body = body
	var doc map[string]any
	if err := do(ctx, s, c, &doc); err != nil {
		return err
	}
	return a.print(doc)
}

// grantsOf lists what a client was granted, with its service principal's id.
func (a *app) grantsOf(ctx context.Context, s *client.Session, sp string) ([]map[string]any, error) {
	items, err := s.List(ctx, graph(http.MethodGet, "/servicePrincipals/"+url.PathEscape(sp)+"/oauth2PermissionGrants"))
	if err != nil {
		return nil, err
	}
	out := make([]map[string]any, 0, len(items))
	for _, item := range items {
		doc, err := object(item)
		if err != nil {
			return nil, err
		}
		out = append(out, doc)
	}
	return out, nil
}

func (a *app) permissionGrants() *cobra.Command {
	return leafFor("list-grants", "List what an application was granted.", []flag{flagID("Application id, service principal name or object id of the client")}, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		sp, err := principalsOf().find(ctx, s, in.text("id"))
		if err != nil {
			return err
		}
		list, err := a.grantsOf(ctx, s, text(sp, "id"))
		if err != nil {
			return err
		}
		return a.print(list)
	})
}
