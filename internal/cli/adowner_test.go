package cli

import (
	"strings"
	"testing"
)

func TestOwners(t *testing.T) {
	f, p := signedIn(t)
	at := "/v1.0/groups/" + appID + "/owners"
	f.routes["GET /v1.0/groups"] = `{"value":[{"id":"` + appID + `","displayName":"G"}]}`
	f.routes["GET "+at] = `{"value":[{"id":"` + aliceID + `","displayName":"Alice"}]}`
	f.routes["POST "+at+"/$ref"] = "204 "
	f.routes["DELETE "+at+"/"+aliceID+"/$ref"] = "204 "
	if out := p.must("ad", "group", "owner", "list", "-g", "G", "--query", "[].displayName", "-o", "tsv"); out != "Alice\n" {
		t.Errorf("owner list: %q", out)
	}
	p.must("ad", "group", "owner", "add", "-g", "G", "--owner-object-id", strings.ToUpper(aliceID))
	if last := strings.TrimSpace(f.log[len(f.log)-1]); last != "GET "+at {
		t.Errorf("who is an owner was added again: %s", last)
	}
	p.must("ad", "group", "owner", "add", "-g", "G", "--owner-object-id", appID)
	if last := f.log[len(f.log)-1]; !strings.HasSuffix(last, `/owners/$ref {"@odata.id":"`+f.web.URL+`/v1.0/directoryObjects/`+appID+`"}`) {
		t.Errorf("sent %s", last)
	}
	p.must("ad", "group", "owner", "remove", "-g", "G", "--owner-object-id", aliceID)
	if last := f.log[len(f.log)-1]; !strings.HasPrefix(last, "DELETE "+at+"/"+aliceID) {
		t.Errorf("sent %s", last)
	}
	p.fails(1, []string{"--owner-object-id"}, "ad", "group", "owner", "add", "-g", "G", "--owner-object-id", "bob")
	if out := p.must("ad", "group", "owner", "add", "--help"); !strings.Contains(out, "has no right by it") {
		t.Errorf("the help does not say what an owner may: %s", out)
	}
}

func TestMemberGroups(t *testing.T) {
	f, p := signedIn(t)
	f.routes["GET /v1.0/groups"] = `{"value":[{"id":"` + appID + `","displayName":"G"}]}`
	f.routes["POST /v1.0/users/al@c/getMemberGroups"] = `{"value":["` + appID + `","` + aliceID + `"]}`
	f.routes["POST /v1.0/directoryObjects/getByIds"] = `{"value":[{"id":"` + appID + `","displayName":"G"}]}`
	f.routes["POST /v1.0/groups/"+appID+"/getMemberGroups"] = `{"value":[]}`
	f.routes["GET /v1.0/me/ownedObjects"] = `{"value":[{"@odata.type":"#microsoft.graph.group","id":"1"},{"@odata.type":"#microsoft.graph.application","id":"2"}]}`
	if out := p.must("ad", "user", "get-member-groups", "--id", "al@c", "--query", "[].[id,displayName]", "-o", "tsv"); out != appID+"\tG\n"+aliceID+"\tNone\n" {
		t.Errorf("groups of a user: %q", out)
	}
	if out := p.must("ad", "group", "get-member-groups", "-g", "G", "--security-enabled-only"); strings.TrimSpace(out) != "[]" {
		t.Errorf("groups of a group: %q", out)
	}
	if last := f.log[len(f.log)-1]; !strings.HasSuffix(last, `{"securityEnabledOnly":true}`) {
		t.Errorf("sent %s", last)
	}
	for kind, want := range map[string]string{"group": "1\n", "#microsoft.graph.application": "2\n", "nosuch": ""} {
		if out := p.must("ad", "signed-in-user", "list-owned-objects", "-t", kind, "--query", "[].id", "-o", "tsv"); out != want {
			t.Errorf("owned of type %s: %q", kind, out)
		}
	}
}
