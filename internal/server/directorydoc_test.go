package server

import (
	"os"
	"strings"
	"testing"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/rbac"
	"sallyport/internal/route"
	"sallyport/internal/scope"
)

// everyRole gives each directory role to a principal of the role's own id.
type everyRole struct{}

func (everyRole) EachRoleDefinition(func(rbac.Definition) error) error { return nil }
func (everyRole) RoleDefinitionByID(string) (rbac.Definition, bool, error) {
	return rbac.Definition{}, false, nil
}
func (everyRole) RoleAssignmentByID(string) (rbac.Assignment, bool, error) {
	return rbac.Assignment{}, false, nil
}
func (everyRole) EachRoleAssignment(f func(rbac.Assignment) error) error {
	for _, d := range rbac.BuiltIns() {
		if d.Directory {
			if err := f(rbac.Assignment{ID: d.ID, Scope: scope.Directory(), RoleID: d.ID, PrincipalID: d.ID}); err != nil {
				return err
			}
		}
	}
	return nil
}

// directoryTables are the tables of docs/directory.md, made from the rows, roles
// and permissions themselves.
func directoryTables(t *testing.T) string {
	t.Helper()
	x := rbac.NewIndex(nil)
	if err := x.Load(everyRole{}); err != nil {
		t.Fatal(err)
	}
	may := rbac.NewDirectoryAuthority(x, directory.NewIndex())
	var b strings.Builder
	b.WriteString("### Roles\n\n| role | template id |\n|---|---|\n")
	var roles []rbac.Definition
	for _, d := range rbac.BuiltIns() {
		if d.Directory {
			roles = append(roles, d)
			b.WriteString("| " + d.Name + " | `" + d.ID + "` |\n")
		}
	}
	b.WriteString("\n### Requests\n\n| request | people who may | permissions that cover it |\n|---|---|---|\n")
	for _, row := range route.All() {
		if row.Surface != route.Graph {
			continue
		}
		who := []string{"every member"}
		if row.Action != "" {
			who = nil
			for _, d := range roles {
				if may.May(audit.By{Principal: d.ID, Type: audit.User, Permissions: []string{directory.AccessAsUser}}, row.Action) {
					who = append(who, d.Name)
				}
			}
		}
		var permissions []string
		for _, p := range directory.Permissions(directory.GraphAppID) {
			if p.Value != directory.AccessAsUser && may.Client(audit.By{Principal: "x", Type: audit.User, Permissions: []string{p.Value}}, row.Scope) {
				permissions = append(permissions, p.Value)
			}
		}
		if len(permissions) == 0 {
			permissions = []string{directory.AccessAsUser}
		}
		b.WriteString("| `" + row.Method + " " + strings.TrimPrefix(row.Pattern, "/v1.0") + "` | " + strings.Join(who, ", ") + " | " + strings.Join(permissions, ", ") + " |\n")
	}
	b.WriteString("\n### Permissions\n\n| permission | delegated id | application id | people may consent |\n|---|---|---|---|\n")
	for _, p := range directory.Permissions(directory.GraphAppID) {
		self := "where the tenant lets them"
		if p.AdminOnly {
			self = "no"
		}
		b.WriteString("| " + p.Value + " | " + code(p.DelegatedID) + " | " + code(p.ApplicationID) + " | " + self + " |\n")
	}
	return b.String()
}

func code(id string) string {
	if id == "" {
		return "-"
	}
	return "`" + id + "`"
}

// docs/directory.md says who may do what, and it is what the code does.
func TestDirectoryReference_IsWhatTheCodeDoes(t *testing.T) {
	const path, begin, end = "../../docs/directory.md", "<!-- begin of what is made from the code -->\n", "<!-- end of it -->\n"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	was, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the marks are missing")
	}
	now := "\n" + directoryTables(t) + "\n"
	if os.Getenv("WRITE_DOCS") == "1" {
		if err := os.WriteFile(path, []byte(before+begin+now+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if was != now {
		t.Fatal("docs/directory.md is not what the code does; write it with: WRITE_DOCS=1 go test -run DirectoryReference ./internal/server")
	}
}
