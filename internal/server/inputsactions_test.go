package server

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/rbac"
	"sallyport/internal/route"
)

// action is a write of Microsoft Graph that is no body of a type.
type action struct {
	path string
	body string // {{n}} stands for a person of its own
	read string // where what it did is seen; the answer itself is always looked at
	// other holds, by path, values that are valid where the sample's with a letter
	// more is not.
	other map[string][]any
	fails int // the status of the sample, where that is a refusal; -1 where it is not sent
}

func graphActions(c *castle) map[string]action {
	const here, none = "/v1.0/", "{}"
	ids := peopled(c)
	app, sp, crew, alice := ids["applications"], ids["servicePrincipals"], ids["groups"], ids["users"]
	graph := ids["servicePrincipals appRoleAssignedTo"]
	offers, _ := at(c.want(200, "admin", "GET", here+"servicePrincipals/"+graph, ""), "appRoles")
	role, _ := at(offers, "[2].id")
	next, _ := at(offers, "[3].id")
	person := map[string][]any{"@odata.id": {"https://graph.microsoft.com/v1.0/directoryObjects/" + c.person("other")}}
	member := `{"@odata.id":"https://graph.microsoft.com/v1.0/directoryObjects/{{n}}"}`
	out := map[string]action{
		"graph.groups.members.add":         {path: here + "groups/" + crew + "/members/$ref", read: here + "groups/" + crew + "/members?$top=999", body: member, other: person},
		"graph.groups.owners.add":          {path: here + "groups/" + crew + "/owners/$ref", read: here + "groups/" + crew + "/owners?$top=999", body: member, other: person},
		"graph.directoryRoles.members.add": {path: here + "directoryRoles/" + rbac.GlobalReader + "/members/$ref", read: here + "directoryRoles/" + rbac.GlobalReader + "/members?$top=999", body: member, other: person},
		"graph.directoryRoles.activate":    {path: here + "directoryRoles", body: `{"roleTemplateId":"` + rbac.GlobalReader + `"}`, fails: 409},
		"graph.directoryObjects.getByIds":  {path: here + "directoryObjects/getByIds", body: `{"ids":["` + alice + `"],"types":["user"]}`, other: map[string][]any{"ids[0]": {c.ids["bob"]}}},
		"graph.authorizationPolicy.update": {path: here + "policies/authorizationPolicy", read: here + "policies/authorizationPolicy",
			body: `{"defaultUserRolePermissions":{"permissionGrantPoliciesAssigned":["ManagePermissionGrantsForSelf.microsoft-user-default-legacy"],"allowedToCreateApps":false,"allowedToCreateSecurityGroups":false,"allowedToCreateTenants":false,"allowedToReadOtherUsers":true}}`},
		"graph.me.update": {path: here + "me", read: here + "me?$select=*", body: `{"displayName":"Ada","givenName":"Ada","surname":"L","jobTitle":"J","mobilePhone":"1"}`},
	}
	for i, set := range []string{"appRoleAssignments", "appRoleAssignedTo"} {
		at := []string{sp, graph}[i]
		out["graph.servicePrincipals."+set+".create"] = action{path: here + "servicePrincipals/" + at + "/" + set, read: here + "servicePrincipals/" + at + "/" + set + "?$top=999",
			body: fmt.Sprintf(`{"principalId":%q,"resourceId":%q,"appRoleId":%q,"principalType":"ServicePrincipal"}`, sp, graph, []any{role, next}[i])}
	}
	for set, id := range map[string]string{"applications": app, "servicePrincipals": sp} {
		at := here + set + "/" + id
		out["graph."+set+".owners.add"] = action{path: at + "/owners/$ref", read: at + "/owners?$top=999", body: member, other: person}
		out["graph."+set+".addPassword"] = action{path: at + "/addPassword", read: at,
			body:  `{"passwordCredential":{"displayName":"s","startDateTime":"2026-01-02T03:04:05Z","endDateTime":"2099-01-02T03:04:05Z"}}`,
			other: map[string][]any{"passwordCredential.startDateTime": {"2025-01-02T03:04:05Z"}, "passwordCredential.endDateTime": {"2098-01-02T03:04:05Z"}}}
		made := c.want(200, "admin", "POST", at+"/addPassword", none)
		out["graph."+set+".removePassword"] = action{path: at + "/removePassword", body: `{"keyId":"` + c.text(made, "keyId") + `"}`}
	}
	for set, at := range map[string]string{"users": "users/" + alice, "me": "me", "groups": "groups/" + crew, "servicePrincipals": "servicePrincipals/" + sp, "directoryObjects": "directoryObjects/" + alice} {
		out["graph."+set+".getMemberGroups"] = action{path: here + at + "/getMemberGroups", body: `{"securityEnabledOnly":true}`, other: map[string][]any{"securityEnabledOnly": {false}}}
		out["graph."+set+".checkMemberGroups"] = action{path: here + at + "/checkMemberGroups", body: `{"groupIds":["` + crew + `"]}`}
		out["graph."+set+".getMemberObjects"] = action{path: here + at + "/getMemberObjects", body: `{"securityEnabledOnly":true}`, other: map[string][]any{"securityEnabledOnly": {false}}}
		out["graph."+set+".checkMemberObjects"] = action{path: here + at + "/checkMemberObjects", body: `{"ids":["` + crew + `"]}`}
		if set == "me" || set == "groups" { // they are members of another one
			out["graph."+set+".checkMemberGroups"] = action{path: here + at + "/checkMemberGroups", body: `{"groupIds":["` + c.ids["outer"] + `"]}`}
			out["graph."+set+".checkMemberObjects"] = action{path: here + at + "/checkMemberObjects", body: `{"ids":["` + c.ids["outer"] + `"]}`}
		}
	}
	bob := c.ids["bob"]
	for _, verb := range []string{"revokeSignInSessions", "invalidateAllRefreshTokens"} {
		out["graph.users."+verb] = action{path: here + "users/" + bob + "/" + verb, body: none}
		out["graph.me."+verb] = action{path: here + "me/" + verb, body: none, fails: -1} // who asks is signed out, and asks no more
	}
	return out
}

// TestInputs_DirectoryActions: what an action is told is seen, has an effect, or is
// refused; what it is told beside that is refused.
func TestInputs_DirectoryActions(t *testing.T) {
	c := newCastle(t)
	kinds, actions := graphKinds(c), graphActions(c)
	for _, row := range route.All() {
		if row.Surface != route.Graph || row.Method == "GET" || row.Method == "DELETE" {
			continue
		}
		a, known := actions[row.ID]
		if !known {
			if !slices.ContainsFunc(kinds, func(k kind) bool { return row.ID == k.name+".create" || row.ID == k.name+".update" }) {
				t.Errorf("there is no sample for %s", row.ID)
			}
			continue
		}
		t.Run(row.ID, func(t *testing.T) {
			(&acting{castle: c, t: t, action: a, method: row.Method}).vary()
		})
	}
}

// acting is one action under test.
type acting struct {
	*castle
	t *testing.T
	action
	method string
	n      int
}

// next is the sample, about somebody new.
func (a *acting) next() any {
	if !strings.Contains(a.body, "{{n}}") {
		return parsed(a.body)
	}
	a.n++
	return parsed(strings.ReplaceAll(a.body, "{{n}}", a.person(strings.ToLower(strings.NewReplacer("/", "", ".", "").Replace(fmt.Sprintf("a%d%s%s", a.n, a.path[6:12], path.Base(path.Dir(a.path))))))))
}

// seen asks, and returns everything in which the effect would be seen.
func (a *acting) seen(body any) (reply, string) {
	r := a.send(a.method, a.path, body, nil)
	if a.read == "" {
		return r, r.text
	}
	return r, r.text + a.send("GET", a.read, nil, nil).text
}

func (a *acting) vary() {
	sample := a.next()
	for _, path := range slices.Sorted(maps.Keys(leaves("", sample, map[string]any{}))) {
		v, _ := at(sample, path)
		for _, other := range append(slices.Clone(a.other[path]), another(v), nil, foreign(v)) {
			a.one(path, other)
		}
	}
	for _, path := range objects("", sample) {
		a.one(strings.TrimPrefix(path+".nosuch", "."), "probe")
		if path != "" {
			a.one(path, "text")
		}
	}
	if a.fails < 0 {
		return
	}
	body := a.next()
	r, text := a.seen(body)
	switch {
	case a.fails > 0 && r.status != a.fails, a.fails <= 0 && !r.fine():
		a.t.Errorf("the sample: %d %s", r.status, r.text)
	case a.fails == 0 && (a.read != "" || len(r.text) > 0):
		for path, v := range leaves("", body, map[string]any{}) {
			if !tells(text, v) {
				a.t.Errorf("%s of the sample is not seen: %s", path, text)
			}
		}
	}
}

// tells reports whether a text has a value in it; of a reference, what it names.
func tells(text string, v any) bool {
	if s, ok := v.(string); ok {
		return strings.Contains(strings.ToLower(text), strings.ToLower(s[strings.LastIndexByte(s, '/')+1:]))
	}
	return v == nil || v == false || v == true || strings.Contains(text, written(v))
}

// one asks with another value at a path: it is seen, or it is refused.
func (a *acting) one(path string, v any) {
	r, text := a.seen(with(a.next(), path, v))
	switch {
	case !r.fine():
		if !r.proper() {
			a.t.Errorf("%s = %v: %d %s", path, v, r.status, r.text)
		}
	case strings.HasSuffix(path, "nosuch"):
		a.t.Errorf("%s = %v was taken: %s", path, v, r.text)
	case !tells(text, v):
		a.t.Errorf("%s = %v was taken and is not seen: %s", path, v, text)
	}
}
