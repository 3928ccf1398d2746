//go:build e2e

package az

import (
	"path/filepath"
	"testing"
)

// TestInputsOfTheDirectory: what az sends of an application, its credentials, a service
// principal and a person is shown again, or az says why it is refused.
func TestInputsOfTheDirectory(t *testing.T) {
	t.Parallel()
	a := admin().inOne(t)
	app := a.answer(t, "ad", "app", "create", "--display-name", "inputs", "--web-redirect-uris", "https://inputs.example/cb")
	id := text(app, "appId")
	if text(app, "web", "redirectUris", 0) != "https://inputs.example/cb" {
		t.Errorf("app create: %v", app)
	}
	a.fails(t, 1, []string{"'homePageUrl'", "it is not kept"}, "ad", "app", "create", "--display-name", "homely", "--web-home-page-url", "https://inputs.example/")
	a.fails(t, 1, []string{"'homePageUrl'", "it is not kept"}, "ad", "app", "update", "--id", id, "--web-home-page-url", "https://inputs.example/")
	a.fails(t, 1, []string{"'createdDateTime' is read-only"}, "ad", "app", "update", "--id", id, "--set", "createdDateTime=2020-01-01T00:00:00Z")
	if none := a.answer(t, "ad", "app", "list", "--display-name", "homely"); len(none.([]any)) != 0 {
		t.Errorf("half an application: %v", none)
	}
	// A generic update sends what was set and nothing that was read.
	a.must(t, "ad", "app", "update", "--id", id, "--set", "displayName=renamed")
	a.must(t, "ad", "app", "update", "--id", id, "--public-client-redirect-uris", "http://localhost")
	app = a.answer(t, "ad", "app", "show", "--id", id)
	if text(app, "displayName") != "renamed" || text(app, "publicClient", "redirectUris", 0) != "http://localhost" {
		t.Errorf("app update: %v", app)
	}
	key := filepath.Join(t.TempDir(), "key.pem")
	public := filepath.Join(filepath.Dir(key), "public.pem")
	if err := shell("openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=inputs -keyout " + key + " -out " + public + " 2>/dev/null && chmod 0755 " + filepath.Dir(key) + " && chmod 0644 " + public); err != nil {
		t.Fatal(err)
	}
	// A secret beside a certificate, which az sends back as it was shown.
	a.must(t, "ad", "app", "credential", "reset", "--id", id, "--append", "--cert", "@"+public)
	a.must(t, "ad", "app", "credential", "reset", "--id", id, "--append", "--display-name", "s", "--end-date", "2099-01-02T03:04:05Z")
	if got := a.must(t, "ad", "app", "credential", "list", "--id", id, "--query", "[0].endDateTime", "-o", "tsv"); got != "2099-01-02T03:04:05Z" {
		t.Errorf("the secret ends %s", got)
	}
	if got := a.answer(t, "ad", "app", "credential", "list", "--id", id, "--cert").([]any); len(got) != 1 {
		t.Errorf("certificates: %v", got)
	}
	sp := text(a.answer(t, "ad", "sp", "create", "--id", id), "id")
	a.must(t, "ad", "sp", "update", "--id", sp, "--set", "accountEnabled=false")
	if got := a.must(t, "ad", "sp", "show", "--id", id, "--query", "accountEnabled", "-o", "tsv"); got != "false" {
		t.Errorf("sp update: %s", got)
	}
	a.fails(t, 1, []string{"'appDisplayName' is read-only"}, "ad", "sp", "update", "--id", sp, "--set", "appDisplayName=x")
	ada := "inputs@" + domain
	a.must(t, "ad", "user", "create", "--display-name", "inputs", "--user-principal-name", ada, "--password", userPass, "--force-change-password-next-sign-in", "true")
	a.must(t, "ad", "user", "update", "--id", ada, "--display-name", "Ada", "--mail-nickname", "ada", "--account-enabled", "false")
	if got := a.must(t, "rest", "--url", theWorld.url+"/v1.0/users('"+ada+"')?$select=displayName,mailNickname,accountEnabled", "--resource", theWorld.url, "--query", "[displayName, mailNickname, accountEnabled]", "-o", "tsv"); got != "Ada\nada\nFalse" && got != "Ada\nada\nfalse" {
		t.Errorf("user update: %q", got)
	}
}
