package server

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"sallyport/internal/resource/types"
	"sallyport/internal/route"
)

// TestInputs_Conditions: what shows an ETag honours If-Match and If-None-Match, and
// what has none refuses them, for whoever sends one relies on it.
func TestInputs_Conditions(t *testing.T) {
	c := newCastle(t)
	sub := standing(c)
	for _, k := range armKinds(sub) {
		x := &inputs{castle: c, t: t, kind: k, seen: record{}}
		it := x.next()
		made := x.ask("PUT", it.path, it.body)
		path := it.path + "?" + version
		tag, _ := at(made.body, "etag")
		if !made.fine() || tag == nil {
			t.Fatalf("%s: %d %s", k.name, made.status, made.text)
		}
		old := map[string]string{"If-Match": `W/"1-1"`}
		for what, got := range map[string]reply{
			"PUT":    c.send("PUT", path, it.body, old),
			"create": c.send("PUT", path, it.body, map[string]string{"If-None-Match": "*"}),
			"PATCH":  c.send("PATCH", path, map[string]any{"tags": map[string]any{"x": "y"}}, old),
			"DELETE": c.send("DELETE", path, nil, old),
		} {
			if got.status != http.StatusPreconditionFailed && (what != "PATCH" || k.patch != "") {
				t.Errorf("%s: %s on another ETag: %d %s", k.name, what, got.status, got.text)
			}
		}
		again := c.send("PUT", path, with(it.body, "tags.a", "c"), map[string]string{"If-Match": tag.(string)})
		if next, _ := at(again.body, "etag"); (!again.fine() || next == tag) && (k.name != types.Deployment || again.code != "DeploymentActive") { // what is on its way is not replaced, with its ETag neither
			t.Errorf("%s: PUT on its own ETag %v: %d %s", k.name, tag, again.status, again.text)
		}
		if k.name != types.Deployment && again.etag == "" {
			t.Errorf("%s: an answer without the header ETag", k.name)
		}
	}
	for _, row := range route.All() {
		if (row.Surface != route.ARM && row.Surface != route.Graph) || row.Door != route.Caller || row.Method == "GET" || row.Method == "HEAD" || row.Conditional() {
			continue
		}
		path := filled(row, strings.TrimPrefix(sub, "/subscriptions/"), "thing")
		for header, status := range map[string]int{"If-Match": 412, "If-None-Match": 400} {
			if got := c.send(row.Method, path, map[string]any{}, map[string]string{header: `W/"1-1"`}); got.status != status || !got.proper() {
				t.Errorf("%s with %s: %d %s", row.ID, header, got.status, got.text)
			}
		}
	}
}

// TestInputs_QueryOptions: no read takes a query option that it does not understand.
func TestInputs_QueryOptions(t *testing.T) {
	c := newCastle(t)
	sub := standing(c)
	app, principal := c.application("app")
	ids := map[string]string{"users": c.ids["admin"], "groups": c.group("crew", false), "applications": app, "servicePrincipals": principal, "directoryObjects": c.ids["admin"],
		"organization": c.d.directory.Tenant().ID}
	for _, set := range []string{"directoryRoles", "directoryRoleTemplates", "roleManagement/directory/roleDefinitions", "roleManagement/directory/roleAssignments"} {
		first, _ := at(c.want(200, "admin", "GET", "/v1.0/"+set, ""), "value[0].id")
		ids[set], _ = first.(string)
	}
	asked := 0
	for _, row := range route.All() {
		if (row.Surface != route.ARM && row.Surface != route.Graph) || row.Door != route.Caller || row.Method != "GET" {
			continue
		}
		set, _, _ := strings.Cut(strings.TrimPrefix(row.Pattern, "/v1.0/"), "/{")
		path := filled(row, strings.TrimPrefix(sub, "/subscriptions/"), "base")
		if id := ids[set]; id != "" {
			path = strings.Replace(row.Pattern, "{id}", id, 1)
		}
		joint := "?"
		if strings.Contains(path, "?") {
			joint = "&"
		}
		for _, option := range []string{"$top", "$skip", "$skipToken", "$filter", "$select", "$expand", "$orderby", "$count", "$search", "$nosuch"} {
			if option == "$search" && row.Surface == route.Graph && strings.Contains(row.ID, "getBy") {
				continue
			}
			asked++
			if got := c.send("GET", path+joint+option+"=nosuch", nil, nil); !got.proper() {
				t.Errorf("%s with %s=nosuch: %d %.200s", row.ID, option, got.status, got.text)
			}
		}
	}
	t.Logf("%d requests", asked)
	// Those that are understood have an effect.
	for path, n := range map[string]int{
		sub + "/resourceGroups/RG/providers/Microsoft.Network/networkSecurityGroups?$top=1&" + version: 1, sub + "/resourceGroups?$top=1&" + version: 1,
		"/v1.0/directoryRoles?$top=2": 2, "/v1.0/roleManagement/directory/roleDefinitions?$top=1": 1, "/v1.0/organization?$top=1": 1, "/v1.0/servicePrincipals?$top=2": 2,
	} {
		list, _ := at(c.send("GET", path, nil, nil).body, "value")
		if items, _ := list.([]any); len(items) != n {
			t.Errorf("%s shows %d", path, len(items))
		}
	}
	// Pages hold everything once.
	seen := map[string]bool{}
	for path := "/v1.0/directoryRoles?$top=2"; path != ""; {
		body := c.send("GET", path, nil, nil).body
		list, _ := at(body, "value")
		for _, item := range list.([]any) {
			id, _ := at(item, "id")
			if seen[id.(string)] {
				t.Fatalf("%s twice", id)
			}
			seen[id.(string)] = true
		}
		answer, _ := body.(map[string]any)
		text, _ := answer["@odata.nextLink"].(string)
		path = strings.TrimPrefix(text, "https://login.corp.example")
	}
	if all, _ := at(c.send("GET", "/v1.0/directoryRoles", nil, nil).body, "value"); len(all.([]any)) != len(seen) {
		t.Errorf("%d of %d roles on pages", len(seen), len(all.([]any)))
	}
	for path, body := range map[string]string{"/v1.0/organization?$select=id": "displayName", "/v1.0/policies/authorizationPolicy?$select=id": "blockMsolPowerShell", "/v1.0/directoryObjects/" + c.ids["admin"] + "?$select=id": "displayName"} {
		got := c.send("GET", path, nil, nil)
		if !got.fine() || strings.Contains(got.text, body) {
			t.Errorf("%s: %d %s", path, got.status, got.text)
		}
	}
}

// TestInputs_DirectoryOptions: each list and each object of the directory takes the
// query options that the OpenAPI description says it does.
func TestInputs_DirectoryOptions(t *testing.T) {
	c := newCastle(t)
	sub := standing(c)
	ids := peopled(c)
	valid := map[string]string{"$filter": "id eq '99999999-9999-4999-8999-999999999999'", "$search": `"displayName:x"`, "$select": "id", "$top": "5", "$count": "true",
		"$skiptoken": base64.RawURLEncoding.EncodeToString([]byte("00000000-0000-4000-8000-000000000000"))}
	asked := 0
	for _, row := range route.All() {
		set, _, _ := strings.Cut(strings.TrimPrefix(row.Pattern, "/v1.0/"), "/{")
		path := filled(row, strings.TrimPrefix(sub, "/subscriptions/"), ids[set])
		for _, name := range row.DirectoryOptions() {
			asked++
			if got := c.send("GET", path+"?"+url.QueryEscape(name)+"="+url.QueryEscape(valid[name]), nil, nil); got.status == 400 {
				t.Errorf("%s with %s=%s: %d %s", row.ID, name, valid[name], got.status, got.text)
			}
		}
	}
	if asked < 100 {
		t.Errorf("%d options were tried", asked)
	}
}
