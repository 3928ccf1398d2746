package arm_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"sallyport/internal/rbac"
	"sallyport/internal/resource/types"
	"sallyport/internal/route"
)

const pip = group + "/providers/Microsoft.Network/publicIPAddresses/a"

// TestTags is what az tag and az resource tag send, at each kind of scope.
func TestTags(t *testing.T) {
	s := newServer(t)
	s.call(admin, http.MethodPut, group, `{"location":"southcentralus"}`)
	s.call(admin, http.MethodPut, pip, `{"location":"southcentralus"}`)
	s.work()
	for _, at := range []string{"/subscriptions/" + subID, group, pip} {
		path := at + "/providers/Microsoft.Resources/tags/default?api-version=2024-11-01"
		for _, step := range []struct{ method, body, want string }{
			{"PUT", `{"properties":{"tags":{"Dept":"Finance","Status":"Normal"}}}`, `{"Dept":"Finance","Status":"Normal"}`},
			{"PATCH", `{"operation":"Merge","properties":{"tags":{"dept":"IT"}}}`, `{"Status":"Normal","dept":"IT"}`},
			{"PATCH", `{"operation":"Delete","properties":{"tags":{"STATUS":"Normal","dept":"other"}}}`, `{"dept":"IT"}`},
			{"GET", "", `{"dept":"IT"}`},
			{"PATCH", `{"operation":"Replace","properties":{"tags":{"a":"b"}}}`, `{"a":"b"}`},
			{"DELETE", "", `{}`},
			{"GET", "", `{}`},
		} {
			answer, v := s.call(admin, step.method, path, step.body)
			got, _ := json.Marshal(dig(v, "properties", "tags"))
			if answer.StatusCode != http.StatusOK || string(got) != step.want || dig(v, "id") != strings.TrimSuffix(path, "?api-version=2024-11-01") {
				t.Errorf("%s %s %s: %d %v", step.method, at, step.body, answer.StatusCode, v)
			}
			s.work()
		}
		for body, code := range map[string]string{`{"operation":"Add","properties":{"tags":{}}}`: "InvalidRequestContent", `{"operation":"Merge","properties":{"tags":{"a<b":"c"}}}`: "InvalidTagNameCharacters", `[]`: "InvalidRequestContent"} {
			if answer, v := s.call(admin, http.MethodPatch, path, body); answer.StatusCode != http.StatusBadRequest || dig(v, "error", "code") != code {
				t.Errorf("%s: %d %v", body, answer.StatusCode, v)
			}
		}
	}
	// A Reader reads them and changes none; what has none says so.
	s.give(nobody, rbac.Reader, "/subscriptions/"+subID, "00000000-0000-4000-8000-0000000000b1")
	path := pip + "/providers/Microsoft.Resources/tags/default"
	for method, want := range map[string]int{"GET": 200, "PUT": 403, "PATCH": 403, "DELETE": 403} {
		body := `{"properties":{"tags":{"x":"y"}}}`
		if method == "DELETE" {
			body = ""
		}
		if answer, v := s.call(nobody, method, path, body); answer.StatusCode != want {
			t.Errorf("a Reader's %s: %d %v", method, answer.StatusCode, v)
		}
	}
	if _, v := s.call(admin, http.MethodPut, "/providers/Microsoft.Management/managementGroups/"+tenantID+"/providers/Microsoft.Resources/tags/default", `{"properties":{"tags":{"x":"y"}}}`); dig(v, "error", "code") != "InvalidParameter" {
		t.Errorf("tags of a management group: %v", v)
	}
}

func TestTagNames(t *testing.T) {
	s := newServer(t)
	s.call(admin, http.MethodPut, group, `{"location":"southcentralus","tags":{"ENV":"prod"}}`)
	names := "/subscriptions/" + subID + "/tagNames"
	for _, step := range []struct {
		method, path string
		want         int
	}{{"PUT", "/color/tagValues/red", 404}, {"PUT", "/env", 201}, {"PUT", "/ENV", 200}, {"PUT", "/env/tagValues/prod", 201}, {"PUT", "/env/tagValues/prod", 200}, {"PUT", "/env/tagValues/test", 201}, {"PUT", "/a<b", 400},
		{"DELETE", "/env/tagValues/test", 204}, {"DELETE", "/env/tagValues/test", 204}, {"DELETE", "/other", 204}} {
		if answer, v := s.call(admin, step.method, names+escape(step.path), ""); answer.StatusCode != step.want {
			t.Errorf("%s %s: %d %v", step.method, step.path, answer.StatusCode, v)
		}
	}
	_, v := s.call(admin, http.MethodGet, names, "")
	if dig(v, "value", 0, "tagName") != "env" || dig(v, "value", 0, "values", 0, "count", "value") != 1.0 || dig(v, "value", 0, "values", 1) != nil || dig(v, "value", 1) != nil {
		t.Errorf("names: %v", v)
	}
	for path, want := range map[string]string{"/env": "PredefinedTagNameHasValues", "/ENV/tagValues/prod": "PredefinedTagInUse"} {
		if answer, v := s.call(admin, http.MethodDelete, names+path, ""); answer.StatusCode != http.StatusConflict || dig(v, "error", "code") != want {
			t.Errorf("DELETE %s: %d %v", path, answer.StatusCode, v)
		}
	}
	if _, v := s.call(admin, http.MethodPut, names+"/env", ""); dig(v, "count", "value") != 1.0 || dig(v, "values", 0, "count", "value") != 1.0 {
		t.Errorf("the answer of a PUT counts: %v", v)
	}
	s.call(admin, http.MethodPut, names+"/cost", "")
	s.call(admin, http.MethodPut, group, `{"location":"southcentralus","tags":{"Cost":"x"}}`)
	if answer, v := s.call(admin, http.MethodDelete, names+"/cost", ""); dig(v, "error", "code") != "PredefinedTagInUse" {
		t.Errorf("a name in use: %d %v", answer.StatusCode, v)
	}
	for _, path := range []string{"/env/tagValues/prod", "/env"} {
		if answer, v := s.call(admin, http.MethodDelete, names+path, ""); answer.StatusCode != http.StatusNoContent {
			t.Errorf("DELETE %s, which nothing uses: %d %v", path, answer.StatusCode, v)
		}
	}
	if answer, _ := s.call(nobody, http.MethodPut, names+"/mine", ""); answer.StatusCode != http.StatusForbidden {
		t.Errorf("anybody offers tags: %d", answer.StatusCode)
	}
}

func escape(path string) string { return (&url.URL{Path: path}).EscapedPath() }

// TestResources_AreFiltered as az resource list and az group list ask.
func TestResources_AreFiltered(t *testing.T) {
	s := newServer(t)
	other := strings.Replace(group, "AzureADLinuxVM", "Other", 1)
	s.call(admin, http.MethodPut, group, `{"location":"southcentralus","tags":{"a":"b"}}`)
	s.call(admin, http.MethodPut, other, `{"location":"westeurope"}`)
	s.call(admin, http.MethodPut, pip, `{"location":"southcentralus","tags":{"a":"b"}}`)
	s.call(admin, http.MethodPut, other+"/providers/Microsoft.Network/publicIPAddresses/b", `{"location":"westeurope","tags":{"A":"c"}}`)
	for list, cases := range map[string]map[string]string{
		"/resources": {"": "a b", "resourceGroup eq 'azureadlinuxvm'": "a", "location eq 'West Europe'": "b", "tagName eq 'a'": "a b", "tagname eq 'a' and tagvalue eq 'c'": "b",
			"resourceGroup eq 'Other' and resourceType eq 'Microsoft.Network/publicIPAddresses' and name eq 'a'": ""},
		"/resourceGroups": {"tagName eq 'a' and tagValue eq 'b'": "AzureADLinuxVM", "name eq 'other'": "Other"},
	} {
		for filter, want := range cases {
			_, v := s.call(admin, http.MethodGet, "/subscriptions/"+subID+list+"?$expand=createdTime,changedTime,provisioningState&$filter="+url.QueryEscape(filter), "")
			items, _ := dig(v, "value").([]any)
			var names []string
			for _, x := range items {
				names = append(names, dig(x, "name").(string))
				if dig(x, "createdTime") == nil {
					t.Errorf("%s shows no createdTime", list)
				}
			}
			if got := strings.Join(names, " "); got != want {
				t.Errorf("%s %q: %q, wanted %q (%v)", list, filter, got, want, v)
			}
		}
	}
	if answer, v := s.call(admin, http.MethodGet, "/subscriptions/"+subID+"/resources?$filter="+url.QueryEscape("resourceGroup eq 'none'"), ""); answer.StatusCode != http.StatusNotFound {
		t.Errorf("a group that is not there: %d %v", answer.StatusCode, v)
	}
}

// TestProviders_ComeFromTheRows: each type that is served is in the catalogue with
// a version, and none that is not.
func TestProviders_ComeFromTheRows(t *testing.T) {
	s := newServer(t)
	_, v := s.call(nobody, http.MethodGet, "/subscriptions/"+subID+"/providers", "")
	list, _ := dig(v, "value").([]any)
	shown := map[string]bool{}
	for _, p := range list {
		kinds, _ := dig(p, "resourceTypes").([]any)
		for _, k := range kinds {
			if dig(k, "apiVersions", 0) == nil {
				t.Errorf("%v has no version", k)
			}
			shown[strings.ToLower(dig(p, "namespace").(string)+"/"+dig(k, "resourceType").(string))] = true
		}
	}
	for _, row := range route.All() {
		kind, ok := strings.CutSuffix(row.Action, "/write")
		if ok && row.Surface == route.ARM && row.Method == http.MethodPut && strings.Contains(row.Pattern, "{name}") && !strings.Contains(row.Pattern, "/extensions/") && !strings.Contains(strings.ToLower(kind), "auditretention") && !shown[strings.ToLower(kind)] {
			t.Errorf("%s writes %s, which no catalogue shows", row.ID, kind)
		}
	}
	if shown["microsoft.compute/locations/publishers/artifacttypes"] || shown["microsoft.compute/disks"] || !shown["microsoft.compute/virtualmachines/extensions"] || !shown["microsoft.resources/resourcegroups"] {
		t.Errorf("catalogue: %v", shown)
	}
	answer, v := s.call(nobody, http.MethodGet, "/subscriptions/"+subID+"/providers/microsoft.management", "")
	if answer.StatusCode != http.StatusOK || dig(v, "namespace") != "Microsoft.Management" || dig(v, "resourceTypes", 0, "apiVersions", 0) != types.Versions("Microsoft.Management/x")[0] {
		t.Errorf("%d %v", answer.StatusCode, v)
	}
	if answer, _ := s.call(nobody, http.MethodPost, "/subscriptions/"+subID+"/providers/Microsoft.Nothing/register", ""); answer.StatusCode != http.StatusNotFound {
		t.Errorf("a namespace that is not here: %d", answer.StatusCode)
	}
}

// TestManagementGroups is what az account management-group sends.
func TestManagementGroups(t *testing.T) {
	s := newServer(t)
	const all = "/providers/Microsoft.Management/managementGroups/"
	subscription := "/subscriptions/" + subID
	steps := []struct {
		who, method, path, body string
		want                    int
	}{
		{admin, "PUT", all + "top", `{"name":"top","properties":{"displayName":"Top","details":{"parent":{"id":null}}}}`, 200}, // no --parent
		{admin, "PUT", all + "low", `{"properties":{"details":{"parent":{"id":"` + all + `top"}}}}`, 200},
		{admin, "PATCH", all + "low", `{"displayName":"Low"}`, 200},
		{admin, "PATCH", all + "none", `{"displayName":"x"}`, 403},
		{nobody, "PATCH", all + "low", `{"displayName":"Mine"}`, 403},
		{admin, "PUT", all + "low" + subscription, "", 200},
		{admin, "GET", all + "low" + subscription, "", 200},
		{admin, "GET", all + "top" + subscription, "", 404},
		{admin, "DELETE", all + "top" + subscription, "", 404},
		{nobody, "DELETE", all + "low" + subscription, "", 403},
		{nobody, "GET", all + "low/subscriptions", "", 403},
		{admin, "GET", all + "low?$expand=everything", "", 400},
	}
	for _, x := range steps {
		if answer, v := s.call(x.who, x.method, x.path, x.body); answer.StatusCode != x.want {
			t.Errorf("%s %s: %d %v", x.method, x.path, answer.StatusCode, v)
		}
	}
	_, v := s.call(admin, "GET", all+tenantID+"?$expand=children&$recurse=true", "")
	if dig(v, "properties", "children", 0, "children", 0, "displayName") != "Low" || dig(v, "properties", "children", 0, "children", 0, "children", 0, "name") != subID {
		t.Errorf("tree: %v", v)
	}
	if _, v := s.call(admin, "GET", all+tenantID+"?$expand=children", ""); dig(v, "properties", "children", 0, "name") != "top" || dig(v, "properties", "children", 0, "children") != nil {
		t.Errorf("children: %v", v)
	}
	if _, v := s.call(admin, "POST", "/providers/Microsoft.Management/getEntities", ""); dig(v, "count") != 4.0 || dig(v, "value", 0, "properties", "numberOfDescendants") == nil {
		t.Errorf("entities: %v", v)
	}
	if _, v := s.call(nobody, "POST", "/providers/Microsoft.Management/getEntities", ""); dig(v, "count") != 0.0 {
		t.Errorf("somebody without a role sees %v", v)
	}
	for name, want := range map[string]any{"top": false, "new": true, "a/b": false} {
		if _, v := s.call(nobody, "POST", "/providers/Microsoft.Management/checkNameAvailability", `{"name":"`+name+`","type":"Microsoft.Management/managementGroups"}`); dig(v, "nameAvailable") != want {
			t.Errorf("%s: %v", name, v)
		}
	}
	if answer, _ := s.call(admin, "DELETE", all+"low"+subscription, ""); answer.StatusCode != http.StatusNoContent {
		t.Errorf("taken out: %d", answer.StatusCode)
	}
	if _, v := s.call(admin, "GET", all+tenantID+"/subscriptions", ""); dig(v, "value", 0, "name") != subID {
		t.Errorf("it is in the root group: %v", v)
	}
	if answer, _ := s.call(admin, "DELETE", all+tenantID+subscription, ""); answer.StatusCode != http.StatusBadRequest {
		t.Errorf("out of the root group: %d", answer.StatusCode)
	}
}

// A tree that is deeper than roles are inherited would put its bottom out of the
// reach of the roles at its top: also what is moved with what stands under it.
func TestManagementGroups_NoDeeperThanRolesReach(t *testing.T) {
	s := newServer(t)
	const all = "/providers/Microsoft.Management/managementGroups/"
	put := func(want int, name, parent string) {
		t.Helper()
		if answer, v := s.call(admin, "PUT", all+name, `{"properties":{"details":{"parent":{"id":"`+all+parent+`"}}}}`); answer.StatusCode != want {
			t.Errorf("%s under %s: %d %v", name, parent, answer.StatusCode, v)
		}
	}
	up := tenantID
	for _, name := range []string{"l1", "l2", "l3", "l4", "l5", "l6"} {
		put(200, name, up)
		up = name
	}
	put(400, "l7", "l6")
	put(200, "top", tenantID)
	put(200, "bottom", "top")
	put(400, "top", "l5")
	put(200, "top", "l4")
	put(200, "l6", "l5") // where it stands
	if answer, v := s.call(admin, "PATCH", all+"bottom", `{"parentGroupId":"`+all+`l6"}`); answer.StatusCode != 400 {
		t.Errorf("%d %v", answer.StatusCode, v)
	}
}

// TestRemoveSubscription_NeedsTheRightToAssignRoles: who takes a subscription out of
// a management group ends the roles that it inherits there.
func TestRemoveSubscription_NeedsTheRightToAssignRoles(t *testing.T) {
	s := newServer(t)
	const low = "/providers/Microsoft.Management/managementGroups/low"
	s.call(admin, "PUT", low, `{"properties":{"displayName":"Low"}}`)
	s.call(admin, "PUT", low+"/subscriptions/"+subID, "")
	s.give(nobody, rbac.Contributor, low, "00000000-0000-4000-8000-0000000000c1")
	if answer, v := s.call(nobody, "DELETE", low+"/subscriptions/"+subID, ""); answer.StatusCode != http.StatusForbidden || !strings.Contains(dig(v, "error", "message").(string), "roleAssignments/write") {
		t.Errorf("%d %v", answer.StatusCode, v)
	}
	s.give(nobody, rbac.Owner, low, "00000000-0000-4000-8000-0000000000c2")
	if answer, v := s.call(nobody, "DELETE", low+"/subscriptions/"+subID, ""); answer.StatusCode != http.StatusNoContent {
		t.Errorf("an Owner: %d %v", answer.StatusCode, v)
	}
}
