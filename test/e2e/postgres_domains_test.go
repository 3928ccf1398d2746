//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"testing"

	"sallyport/internal/store/postgrestest"
	"sallyport/internal/store/storetest"
)

// Every suite that uses a store runs again on PostgreSQL: what the domains write
// and read is the same there. Two tests that poll a thousand times stay away.
func TestDomains_OnPostgreSQL(t *testing.T) {
	server := postgrestest.New(t)
	cmd := exec.Command("go", "test", "-count=1", "-skip", "AgentThatNeverComes|AgentFailsOrStaysAway",
		"./credential", "./directory", "./httpd/...", "./machine", "./resource/types")
	cmd.Dir = "../../internal"
	cmd.Env = append(os.Environ(), storetest.Database+"="+server.URL("postgres"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
