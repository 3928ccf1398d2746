package server

import (
	"encoding/json"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"sallyport/internal/route"
)

// variable is {name} or {name...} in a pattern.
var variable = regexp.MustCompile(`\{([a-zA-Z]+)(\.\.\.)?\}`)

// filled fills a row's pattern: a subscription and a group that exist, and for
// everything else what name says.
func filled(row route.Row, subscription, name string) string {
	path := variable.ReplaceAllStringFunc(row.Pattern, func(v string) string {
		switch strings.Trim(v, "{.}") {
		case "subscription":
			return subscription
		case "group":
			return "RG"
		case "scope":
			return "subscriptions/" + subscription
		}
		return name
	})
	if row.Surface == route.ARM {
		path += "?api-version=2022-01-01"
	}
	return path
}

// ask sends a request as an administrator and returns the status and the error's
// code, "" where the answer has not the shape of Azure's errors.
func (c *castle) ask(row route.Row, target, kind, body string) (int, string, string) {
	surface := "/arm"
	if row.Surface == route.Graph {
		surface = ""
	}
	r := httptest.NewRequest(row.Method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+c.token("admin", surface))
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	w := httptest.NewRecorder()
	c.doors.ServeHTTP(w, r)
	var answer struct {
		Error struct{ Code, Message string }
	}
	if json.Unmarshal(w.Body.Bytes(), &answer) != nil || answer.Error.Message == "" {
		return w.Code, "", w.Body.String()
	}
	return w.Code, answer.Error.Code, w.Body.String()
}

// holdings is all that requests could make, as lists show it.
func (c *castle) holdings(subscription string) string {
	var all []string
	for _, path := range []string{"/subscriptions/" + subscription + "/resources?api-version=2022-01-01", "/subscriptions/" + subscription + "/resourceGroups?api-version=2022-01-01", "/providers/Microsoft.Management/managementGroups?api-version=2022-01-01",
		"/subscriptions/" + subscription + "/providers/Microsoft.Authorization/roleAssignments?api-version=2022-01-01", "/subscriptions/" + subscription + "/providers/Microsoft.Authorization/roleDefinitions?api-version=2022-01-01",
		"/v1.0/users", "/v1.0/groups", "/v1.0/applications", "/v1.0/servicePrincipals", "/v1.0/oauth2PermissionGrants"} {
		_, out := c.call("admin", "GET", strings.Replace(path, "api-version=2022-01-01", "api-version=2022-01-01", 1), "")
		text, err := json.Marshal(out["value"])
		c.must(err)
		all = append(all, string(text))
	}
	return strings.Join(all, "\n")
}

// TestBadInput_OnEveryRow sends every operation of Resource Manager and Graph what
// no client should: whatever it is about, the answer is an error in Azure's shape
// and nothing has come into being.
func TestBadInput_OnEveryRow(t *testing.T) {
	c := newCastle(t)
	list := c.want(200, "admin", "GET", "/subscriptions?api-version=2022-01-01", "")
	first, _ := list["value"].([]any)[0].(map[string]any)
	subscription := c.text(first, "subscriptionId")
	c.want(201, "admin", "PUT", "/subscriptions/"+subscription+"/resourceGroups/RG?api-version=2022-01-01", `{"location":"southcentralus"}`)
	before, asked := c.holdings(subscription), 0
	const foreign = "11111111-2222-4333-8444-555555555555"
	for _, row := range route.All() {
		if row.Surface != route.ARM && row.Surface != route.Graph || row.Door != route.Caller || strings.Contains(row.ID, "revokeSignIn") || strings.Contains(row.ID, "invalidateAll") || strings.HasPrefix(row.ID, "arm.tagNames") || strings.HasPrefix(row.ID, "arm.tagValues") {
			continue // what takes no body, and would end the administrator's own sign-in; any text is a tag's name
		}
		cases := map[string][3]string{"a foreign subscription": {filled(row, foreign, "thing"), "application/json", "{}"}}
		if row.Method == "PUT" || row.Method == "PATCH" || row.Method == "POST" && !bodyless(row) {
			here := filled(row, subscription, "thing")
			cases["a member twice"] = [3]string{here, "application/json", `{"location":"southcentralus","Location":"southcentralus","properties":{}}`}
			cases["no JSON"] = [3]string{here, "application/json", `{"location":`}
			cases["two values"] = [3]string{here, "application/json", `{} {}`}
			cases["another type"] = [3]string{here, "text/xml", `<location/>`}
			cases["too much"] = [3]string{here, "application/json", `{"location":"` + strings.Repeat("x", 4<<20) + `"}`}
			cases["an unknown member"] = [3]string{here, "application/json", `{"location":"southcentralus","nosuch":{},"properties":{"nosuch":1}}`}
		}
		if strings.Contains(row.Pattern, "{name}") && row.Method == "PUT" {
			for _, name := range []string{"a%E2%80%AEb", "%D0%B0dmin", "e%CC%81", "%EF%BD%81", "a%00b", "a%0Ab", strings.Repeat("n", 300), "a%E2%80%8Bb", "."} {
				cases["the name "+name[:min(len(name), 20)]] = [3]string{filled(row, subscription, name), "application/json", `{"location":"southcentralus","properties":{}}`}
			}
		}
		if row.Surface == route.ARM {
			bare, _, _ := strings.Cut(filled(row, subscription, "thing"), "?")
			cases["an api-version of another shape"] = [3]string{bare + "?api-version=latest", "application/json", "{}"}
		}
		for what, x := range cases {
			if what == "a foreign subscription" && (!strings.Contains(row.Pattern, "{subscription}") || strings.Contains(row.Why, "catalogue")) {
				continue
			}
			status, code, body := c.ask(row, x[0], x[1], x[2])
			asked++
			if row.Method == "HEAD" && status >= 400 && status < 500 {
				continue
			}
			if status < 400 || status >= 500 || code == "" {
				t.Errorf("%s with %s: %d %.300s", row.ID, what, status, body)
			}
		}
	}
	if after := c.holdings(subscription); after != before {
		t.Errorf("something was made:\n%s\nbefore:\n%s", after, before)
	}
	t.Logf("%d requests", asked)
}

// bodyless are operations that take no body.
func bodyless(row route.Row) bool {
	return row.Request == nil && row.Surface == route.ARM
}
