//go:build e2e

package postgres

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sallyport/internal/store"
	"sallyport/internal/store/postgrestest"
	"sallyport/internal/store/storetest"
)

// ofSQLite are tests that stay away from PostgreSQL: of the file itself, of its
// SQL, of moving it, with databases of their own, or long ones about polling.
const ofSQLite = "AgentThatNeverComes|AgentFailsOrStaysAway" +
	"|Postgres|Kill|Released|Fixture|Fsync|Schema|WalkAudit_NamesTheFirstBadRecord|AuditQuery_UsesAnIndex|RefusesALooseFile" +
	"|TruncatedAndSignedAnew|WaitsForTheDatabase|EachCheckFailsAlone|Recover_MakesAnAdministrator|TestReplicas|Migrate_|DeletesBehindACheckpointOnly|TellsWhatAnOperatorAsksFirst|IntoADatabase|RestoreDatabase"

// elsewhere are tables that other tests write on PostgreSQL.
func elsewhere() map[string]string {
	return map[string]string{"machine_presence": "TestReplicas of internal/server: only several servers write it"}
}

// TestDomains_OnPostgreSQL: every suite that uses a store runs again on
// PostgreSQL: what the domains write and read is the same there. Every table of
// the schema is written by one of them.
func TestDomains_OnPostgreSQL(t *testing.T) {
	server := postgrestest.New(t)
	list := exec.Command("go", "list", "-f", `{{range .TestImports}}{{if eq . "sallyport/internal/store/storetest"}}{{$.ImportPath}}{{end}}{{end}}{{range .XTestImports}}{{if eq . "sallyport/internal/store/storetest"}}{{$.ImportPath}}{{end}}{{end}}`, "./...")
	list.Dir = "../../internal"
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if len(packages) < 8 {
		t.Fatalf("only %q use a store", packages)
	}
	cmd := exec.Command("go", append([]string{"test", "-count=1", "-timeout=60m", "-vet=off", "-ldflags=-s -w", "-skip", ofSQLite}, packages...)...)
	cmd.Dir = "../../internal"
	cmd.Env = append(os.Environ(), storetest.Database+"="+server.URL("postgres"))
	out, err = cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	written := map[string]bool{}
	for _, name := range strings.Fields(server.SQL(t, server.URL("postgres"), "SELECT name FROM "+storetest.Written)) {
		written[name] = true
	}
	tables := everyTable(t, server)
	if len(tables) < 40 {
		t.Errorf("%d tables", len(tables))
	}
	for _, name := range tables {
		if !written[name] && elsewhere()[name] == "" {
			t.Errorf("no test writes the table %s on PostgreSQL", name)
		}
	}
}

// everyTable lists the tables of a store on PostgreSQL.
func everyTable(t *testing.T, server *postgrestest.Server) []string {
	url := server.Database(t)
	s, err := store.Create(t.Context(), store.Config{URL: url, Now: time.Now, Writer: "w"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return strings.Fields(server.SQL(t, url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
}
