package arm_test

import (
	"net/http"
	"strings"
	"testing"
)

// What a request says that this server would not act on.
func TestRefusals(t *testing.T) {
	s := newServer(t)
	s.helpdesk = true
	s.call(admin, http.MethodPut, group, `{"location":"southcentralus"}`)
	const (
		access   = "/providers/Sallyport.Access/"
		versions = "/subscriptions/" + subID + "/providers/Microsoft.Compute/locations/eastus/publishers/Microsoft.Azure.ActiveDirectory/artifacttypes/vmextension/types/AADSSHLoginForLinux/versions"
	)
	for _, c := range []struct {
		who, method, path, body string
		status                  int
		code, words             string
	}{
		{nobody, "GET", access + "certificates/1", "", 404, "CertificateNotFound", "there is no certificate of this serial or key id that you may see. List yours"},
		{admin, "PUT", access + "auditRetention", `{"days":90,"forEver":true}`, 400, "InvalidRetention", "forEver says something other than days"},
		{admin, "GET", "/providers/Microsoft.Management/managementGroups/" + tenantID + "?$recurse=true", "", 400, "InvalidParameter", "$recurse is true or false, and goes with $expand=children"},
		{admin, "GET", versions + "?$orderby=age", "", 400, "InvalidParameter", "$orderby=age is not supported here. Versions are ordered by name."},
		{admin, "POST", machine + "/powerOff?skipShutdown=true", "", 400, "InvalidParameter", "skipShutdown=true is not supported here"},
		{admin, "GET", access + "auditRecords?$skipToken=5", "", 400, "InvalidParameter", "$skipToken: it is not one that this server gave. Give back"},
	} {
		answer, v := s.call(c.who, c.method, c.path, c.body)
		if said, _ := dig(v, "error", "message").(string); answer.StatusCode != c.status || dig(v, "error", "code") != c.code || !strings.Contains(said, c.words) {
			t.Errorf("%s %s: %d %v, want %d %s: %s", c.method, c.path, answer.StatusCode, v, c.status, c.code, c.words)
		}
	}
}
