//go:build e2e

package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"

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
	cmd := exec.Command("go", append([]string{"test", "-count=1", "-timeout=20m", "-skip", ofSQLite}, packages...)...)
	cmd.Dir = "../../internal"
	cmd.Env = append(os.Environ(), storetest.Database+"="+server.URL("postgres"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// Each store was a schema of this database.
	written := server.SQL(t, server.URL("postgres"), "SELECT relname || ' ' || sum(n_tup_ins) FROM pg_stat_user_tables GROUP BY relname")
	tables := 0
	for lines := bufio.NewScanner(strings.NewReader(written)); lines.Scan(); tables++ {
		name, rows, _ := strings.Cut(lines.Text(), " ")
		if rows == "0" && elsewhere()[name] == "" {
			t.Errorf("no test writes the table %s on PostgreSQL", name)
		}
	}
	if t.Logf("%d tables, %q", tables, packages); tables < 40 {
		t.Errorf("%d tables", tables)
	}
}
