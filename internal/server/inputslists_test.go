package server

import (
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sallyport/internal/rbac"
	"sallyport/internal/route"
)

// peopled fills every list of the directory with at least two, and returns what stands
// for {id} in the rows of each set.
func peopled(c *castle) map[string]string {
	app, sp := c.application("first")
	_, second := c.application("second")
	alice := c.person("alice", rbac.UserAdministrator)
	c.person("bob", rbac.UserAdministrator)
	crew, ring := c.group("crew", false), c.group("ring", false)
	const here = "/v1.0/"
	for _, who := range []string{alice, c.ids["bob"], sp} {
		for _, g := range []string{crew, ring} {
			c.want(204, "admin", "POST", here+"groups/"+g+"/owners/$ref", ref(who))
			c.want(204, "admin", "POST", here+"groups/"+g+"/members/$ref", ref(who))
		}
	}
	outer := c.group("outer", false)
	for _, g := range []string{outer, c.group("other", false)} {
		c.want(204, "admin", "POST", here+"groups/"+g+"/members/$ref", ref(crew))
		c.want(204, "admin", "POST", here+"groups/"+g+"/members/$ref", ref(c.ids["admin"]))
	}
	for _, who := range []string{alice, c.ids["bob"]} {
		c.want(204, "admin", "POST", here+"applications/"+app+"/owners/$ref", ref(who))
	}
	graph, _ := at(c.want(200, "admin", "GET", here+"servicePrincipals?$filter=appId%20eq%20'00000003-0000-0000-c000-000000000000'", ""), "value[0].id")
	offers, _ := at(c.want(200, "admin", "GET", here+"servicePrincipals/"+graph.(string), ""), "appRoles")
	for _, offered := range offers.([]any)[:2] {
		role, _ := at(offered, "id")
		c.want(201, "admin", "POST", here+"servicePrincipals/"+sp+"/appRoleAssignments", `{"principalId":"`+sp+`","resourceId":"`+graph.(string)+`","appRoleId":"`+role.(string)+`"}`)
	}
	for _, of := range [][2]string{{sp, graph.(string)}, {sp, second}} {
		for _, who := range []string{alice, c.ids["bob"]} {
			body := `{"clientId":"` + of[0] + `","consentType":"Principal","principalId":"` + who + `","resourceId":"` + of[1] + `","scope":"User.Read"}`
			if status, _ := c.call("admin", "POST", here+"oauth2PermissionGrants", body); status != 201 && of[1] != second {
				c.t.Fatal("no grant")
			}
		}
	}
	for _, name := range []string{"one", "two"} {
		c.want(201, "admin", "POST", here+"identity/conditionalAccess/policies", `{"displayName":"`+name+`","state":"disabled","conditions":{"users":{"includeUsers":["`+alice+`"]},"applications":{"includeApplications":["All"]}},
			"sessionControls":{"signInFrequency":{"value":1,"type":"hours","isEnabled":true}}}`)
	}
	return map[string]string{"users": alice, "groups": crew, "applications": app, "servicePrincipals": sp, "servicePrincipals appRoleAssignedTo": graph.(string), "groups memberOf": crew, "directoryRoles": rbac.UserAdministrator}
}

// plain asks for a Graph answer that is no JSON.
func (c *castle) plain(path string) string {
	c.t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set("Authorization", "Bearer "+c.token("admin", ""))
	r.Header.Set("ConsistencyLevel", "eventual")
	w := httptest.NewRecorder()
	c.doors.ServeHTTP(w, r)
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/plain" {
		c.t.Errorf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Body.String()
}

// TestInputs_DirectoryLists: each query option of each list of Microsoft Graph answers
// what it asks, or is refused. A new list is among them.
func TestInputs_DirectoryLists(t *testing.T) {
	c := newCastle(t)
	ids := peopled(c)
	lists := 0
	for _, row := range route.All() {
		set, rest, _ := strings.Cut(strings.TrimPrefix(row.Pattern, "/v1.0/"), "/")
		id := ids[set]
		if special := ids[set+" "+strings.TrimPrefix(rest, "{id}/")]; special != "" {
			id = special
		}
		path := strings.Replace(row.Pattern, "{id}", id, 1)
		if row.Surface != route.Graph || row.Method != "GET" || strings.Contains(path, "//") {
			continue
		}
		all := c.send("GET", path+"?$count=true&$top=999", nil, nil)
		found, isList := at(all.body, "value")
		if !isList {
			continue
		}
		lists++
		t.Run(row.ID, func(t *testing.T) { aList(t, c, path, found.([]any), all.body.(map[string]any)["@odata.count"]) })
	}
	if lists < 25 {
		t.Errorf("%d lists", lists)
	}
}

func value(r reply) []any {
	list, _ := at(r.body, "value")
	items, _ := list.([]any)
	return items
}

func aList(t *testing.T, c *castle, path string, all []any, count any) {
	if count != float64(len(all)) || len(all) < 2 && !strings.Contains(path, "organization") {
		t.Fatalf("%v counted of %d", count, len(all))
	}
	first, _ := at(all[0], "id")
	name := ""
	if shown, _ := at(all[0], "displayName"); shown != nil {
		name = shown.(string)
	}
	filter := url.QueryEscape("id eq '" + strings.ToUpper(first.(string)) + "'")
	for _, dollar := range []string{"$", ""} { // OData's names go without it, too
		if got := value(c.send("GET", path+"?"+dollar+"filter="+filter, nil, nil)); len(got) != 1 {
			t.Errorf("%sfilter by id finds %d", dollar, len(got))
		}
		if got := value(c.send("GET", path+"?"+dollar+"top=1", nil, nil)); len(got) != 1 {
			t.Errorf("%stop=1 shows %d", dollar, len(got))
		}
		if got := c.send("GET", path+"?"+dollar+"top=1&$top=2", nil, nil); !got.proper() {
			t.Errorf("top twice: %d", got.status)
		}
		for _, o := range value(c.send("GET", path+"?"+dollar+"select=id", nil, nil)) {
			for key := range o.(map[string]any) {
				if key != "id" && !strings.HasPrefix(key, "@odata.") {
					t.Errorf("%sselect=id shows %s", dollar, key)
				}
			}
		}
		for _, option := range []string{"expand=nosuch", "skip=1", "orderby=nosuch", "apply=x", "search=x", "skiptoken=x", "select=nosuch", "filter=nosuch%20eq%20'x'", "count=maybe", "format=xml"} {
			if got := c.send("GET", path+"?"+dollar+option, nil, nil); !got.proper() {
				t.Errorf("%s%s: %d %.100s", dollar, option, got.status, got.text)
			}
		}
	}
	if got := value(c.send("GET", path+"?$filter="+url.QueryEscape("id ne '"+first.(string)+"'"), nil, nil)); len(got) != len(all)-1 {
		t.Errorf("all but one are %d of %d", len(got), len(all))
	}
	if name != "" {
		for _, o := range value(c.send("GET", path+`?$search=`+url.QueryEscape(`"displayName:`+name+`"`), nil, map[string]string{"ConsistencyLevel": "eventual"})) {
			if shown, _ := at(o, "displayName"); !strings.Contains(strings.ToLower(shown.(string)), strings.ToLower(name)) {
				t.Errorf("a search of %s finds %v", name, shown)
			}
		}
	}
	if got := c.plain(path + "/$count"); got != strconv.Itoa(len(all)) {
		t.Errorf("/$count is %s of %d", got, len(all))
	}
	if got := c.plain(path + "/$count?$filter=" + filter); got != "1" {
		t.Errorf("/$count of one is %s", got)
	}
	for _, option := range []string{"$top=1", "$select=id", "$count=true"} {
		if got := c.send("GET", path+"/$count?"+option, nil, nil); !got.proper() {
			t.Errorf("/$count?%s: %d", option, got.status)
		}
	}
	onPages(t, c, path, all)
}

// onPages follows the links of pages of one: they hold everything once, in order, and
// say of each page what the first was asked.
func onPages(t *testing.T, c *castle, path string, all []any) {
	var seen []string
	for next := path + "?top=1&$select=id&$count=true"; next != "" && len(seen) <= len(all); {
		r := c.send("GET", next, nil, nil)
		page := value(r)
		if len(page) != 1 || len(page[0].(map[string]any)) > 2 || r.body.(map[string]any)["@odata.count"] != float64(len(all)) {
			t.Fatalf("%s: %d %s", next, r.status, r.text)
		}
		id, _ := at(page[0], "id")
		seen = append(seen, id.(string))
		link, _ := r.body.(map[string]any)["@odata.nextLink"].(string)
		next = strings.TrimPrefix(link, "https://login.corp.example")
	}
	var want []string
	for _, o := range all {
		id, _ := at(o, "id")
		want = append(want, id.(string))
	}
	if !slices.Equal(seen, want) {
		t.Errorf("on pages: %v, want %v", seen, want)
	}
}
