package audit

import (
	"os"
	"strings"
	"testing"
)

// docs/audit-events.md is made from the declarations.
func TestReference_IsTheDocument(t *testing.T) {
	const path = "../../docs/audit-events.md"
	if os.Getenv("WRITE_DOCS") == "1" {
		if err := os.WriteFile(path, []byte(Reference()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil || string(have) != Reference() {
		t.Fatalf("docs/audit-events.md is not what internal/audit declares (%v); write it with: WRITE_DOCS=1 go test -run Reference ./internal/audit", err)
	}
}

func TestKinds_AreWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Kinds() {
		if seen[k.Type] {
			t.Errorf("%s is declared twice", k.Type)
		}
		seen[k.Type] = true
		if len(k.Type) > 32 || strings.Trim(k.Type, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.") != "" || !strings.Contains(k.Type, ".") {
			t.Errorf("%s is not area.verb of at most 32 letters, which is what syslog takes as message id", k.Type)
		}
		if k.When == "" || !strings.HasSuffix(k.When, ".") || k.Surface == "" || len(k.Outcomes) == 0 || k.Target == "" {
			t.Errorf("%s does not say when, where, what or how it ends", k.Type)
		}
		names := map[string]bool{}
		for _, key := range k.Keys {
			if key.Name == "" || key.Meaning == "" || names[key.Name] {
				t.Errorf("%s: the fact %q is empty or there twice", k.Type, key.Name)
			}
			names[key.Name] = true
		}
	}
}

func TestDeclared_RefusesEverythingElse(t *testing.T) {
	good := Event{Type: "group.addMember", Outcome: Denied, Detail: map[string]string{"member": "x"}}
	if err := Declared(good); err != nil {
		t.Fatal(err)
	}
	for want, e := range map[string]Event{
		`"group.explode" is not declared`: {Type: "group.explode", Outcome: Success},
		`with the outcome "failure"`:      {Type: "group.addMember", Outcome: Failure},
		`with the outcome ""`:             {Type: "group.addMember"},
		`with the fact "password"`:        {Type: "group.addMember", Outcome: Success, Detail: map[string]string{"password": "x"}},
	} {
		if err := Declared(e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
