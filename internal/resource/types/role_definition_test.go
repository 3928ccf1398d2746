package types_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

const (
	role1  = "00000000-0000-4000-8000-0000000000e1"
	role2  = "00000000-0000-4000-8000-0000000000e2"
	rootMG = "/providers/Microsoft.Management/managementGroups/" + tenantID
)

// roleBody is a custom role; permissions is the content of its one block.
func roleBody(name, permissions string, scopes ...string) string {
	return fmt.Sprintf(`{"properties":{"roleName":%q,"type":"CustomRole","description":"d","permissions":[{%s}],"assignableScopes":["%s"]}}`, name, permissions, strings.Join(scopes, `","`))
}

const (
	loginOnly = `"dataActions":["Microsoft.Compute/virtualMachines/login/action"]`
	readOnly  = `"actions":["*/read"],"notActions":[],"dataActions":[],"notDataActions":[]`
)

func (w *world) define(by audit.By, at, name, body string) error {
	w.t.Helper()
	_, err := w.auth.PutDefinition(w.t.Context(), by, id(at), name, []byte(body))
	return err
}

func (w *world) can(who, action, at string, data bool) bool {
	return w.rights.Check(rbac.Query{Principals: []string{who}, Scope: id(at), Action: action, Data: data}).Allowed
}

func TestDefinition_Refusals(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	action := func(list, pattern string) string { return roleBody("R", `"`+list+`":["`+pattern+`"]`, sub) }
	for name, tc := range map[string]struct{ at, name, body, code string }{
		"no guid":                  {sub, "x", roleBody("R", readOnly, sub), "InvalidRoleDefinitionId"},
		"built-in":                 {sub, rbac.Reader, roleBody("R", `"actions":["*"]`, sub), "RoleDefinitionIsBuiltIn"},
		"a directory role's":       {sub, rbac.GlobalReader, roleBody("R", `"actions":["*"]`, sub), "RoleDefinitionIsBuiltIn"},
		"no properties":            {sub, role1, `{}`, "BadRequestFormat"},
		"unknown property":         {sub, role1, strings.Replace(roleBody("R", readOnly, sub), `"description"`, `"expires":1,"description"`, 1), "InvalidRequestContent"},
		"unknown in the block":     {sub, role1, roleBody("R", `"deny":["*"]`, sub), "InvalidRequestContent"},
		"condition":                {sub, role1, roleBody("R", readOnly+`,"condition":"@x"`, sub), "InvalidRequestContent"},
		"of another type":          {sub, role1, strings.Replace(roleBody("R", readOnly, sub), "CustomRole", "BuiltInRole", 1), "InvalidRoleDefinitionType"},
		"no name":                  {sub, role1, roleBody("", readOnly, sub), "InvalidRoleDefinitionName"},
		"name with spaces around":  {sub, role1, roleBody("R ", readOnly, sub), "InvalidRoleDefinitionName"},
		"name of control":          {sub, role1, roleBody("R\nS", readOnly, sub), "InvalidRoleDefinitionName"},
		"long name":                {sub, role1, roleBody(strings.Repeat("r", 513), readOnly, sub), "InvalidRoleDefinitionName"},
		"name of a built-in":       {sub, role1, roleBody("OWNER", readOnly, sub), "RoleDefinitionWithSameNameExists"},
		"no permissions":           {sub, role1, strings.Replace(roleBody("R", "", sub), "{}", "", 1), "InvalidRoleDefinitionPermissions"},
		"unknown action":           {sub, role1, action("actions", "Microsoft.Compute/virtualMachines/explode/action"), "InvalidActionOrNotAction"},
		"misspelt not-action":      {sub, role1, action("notActions", "Microsoft.Authorization/roleAssignment/write"), "InvalidActionOrNotAction"},
		"data action as action":    {sub, role1, action("actions", rbac.ActionLogin), "InvalidActionOrNotAction"},
		"action as data action":    {sub, role1, action("dataActions", "Microsoft.Compute/virtualMachines/read"), "InvalidActionOrNotAction"},
		"alphabet":                 {sub, role1, action("actions", "Microsoft.Compute/*/re ad"), "InvalidActionOrNotAction"},
		"question mark":            {sub, role1, action("actions", "Microsoft.Compute/*/?"), "InvalidActionOrNotAction"},
		"two stars":                {sub, role1, action("actions", "**"), "InvalidActionOrNotAction"},
		"no slash":                 {sub, role1, action("actions", "Microsoft*"), "InvalidActionOrNotAction"},
		"empty part":               {sub, role1, action("actions", "Microsoft.Compute//*"), "InvalidActionOrNotAction"},
		"empty":                    {sub, role1, action("actions", ""), "InvalidActionOrNotAction"},
		"no scopes":                {sub, role1, strings.Replace(roleBody("R", readOnly, ""), `[""]`, `[]`, 1), "MissingAssignableScopes"},
		"root":                     {sub, role1, roleBody("R", readOnly, "/"), "InvalidAssignableScope"},
		"a resource":               {sub, role1, roleBody("R", readOnly, vmID), "InvalidAssignableScope"},
		"the directory":            {sub, role1, roleBody("R", readOnly, "/microsoft.directory"), "InvalidAssignableScope"},
		"no id":                    {sub, role1, roleBody("R", readOnly, "x"), "InvalidAssignableScope"},
		"missing group":            {sub, role1, roleBody("R", readOnly, rg+"2"), "ResourceNotFound"},
		"missing subscription":     {rootMG, role1, roleBody("R", readOnly, rootMG, "/subscriptions/"+guid1), "AuthorizationFailed"},
		"login at the root":        {rootMG, role1, roleBody("R", loginOnly, rootMG), "InvalidAssignableScope"},
		"address of another place": {rg, role1, roleBody("R", readOnly, "/subscriptions/"+guid1), "InvalidScope"},
	} {
		if err := w.define(as(admin), tc.at, tc.name, tc.body); code(err) != tc.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(w.rights.Definitions()); n != len(rbac.BuiltIns()) {
		t.Fatalf("%d roles came of refusals", n-len(rbac.BuiltIns()))
	}
}

// What matches nothing that there is grants nothing, and in a "not" list takes nothing
// away: whoever wrote it believes something else.
func TestDefinition_PatternsThatMatchNothing(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	for _, pattern := range []string{"No.Such/things/read", "No.Such/*/read", "No.Such/*", "*/nosuch", "*/rea", "Microsoft.Compute/*/logi", "icrosoft.Compute/*", "*/nosuch/*", "*nosuch*", "Microsoft.Compute/*/nosuch/action", "Microsoft.Compute/nosuch/*", "Microsoft.Compute/virtualMachines/*/nosuch",
		"Microsoft.Compute/virtualMachines/**", "Microsoft.Compute", "Microsoft.Compute/*x*/write/*", "Mıcrosoft.Compute/*", "\u212aicrosoft.Compute/*", "/*", "*/", "Microsoft.Compute/virtualMachines/rea%64"} {
		for _, list := range []string{"actions", "notActions", "dataActions", "notDataActions"} {
			body := roleBody("R", `"`+list+`":["`+pattern+`"]`, sub)
			if err := w.define(as(admin), sub, role1, body); code(err) != "InvalidActionOrNotAction" || fault.As(err).Target != list {
				t.Errorf("%s in %s: %v", pattern, list, err)
			}
		}
	}
	// A pattern of control actions is none of data actions, and the other way about.
	for list, pattern := range map[string]string{"dataActions": "*/write", "notDataActions": "Microsoft.Compute/virtualMachines/*/read", "actions": "*/loginAsAdmin/*", "notActions": "Microsoft.Compute/*/login/action"} {
		if err := w.define(as(admin), sub, role1, roleBody("R", `"`+list+`":["`+pattern+`"]`, sub)); code(err) != "InvalidActionOrNotAction" {
			t.Errorf("%s in %s: %v", pattern, list, err)
		}
	}
	for list, pattern := range map[string]string{"actions": "MICROSOFT.compute/*", "notActions": "*/write", "dataActions": "Microsoft.Compute/virtualMachines/*", "notDataActions": "*/loginAsAdmin/action"} {
		if err := w.define(as(admin), sub, role1, roleBody("R", `"`+list+`":["`+pattern+`"]`, sub)); err != nil {
			t.Errorf("%s in %s: %v", pattern, list, err)
		}
	}
}

func TestDefinition_MadeChangedAndDeleted(t *testing.T) {
	w := newWorld(t).withMachine()
	w.must(w.define(as(admin), sub, role1, roleBody("Operator", loginOnly, sub)))
	if err := w.define(as(admin), sub, role2, roleBody("operator", readOnly, sub)); code(err) != "RoleDefinitionWithSameNameExists" {
		t.Errorf("a second of the name: %v", err)
	}
	w.mustGrant(alice, role1, rg)
	if !w.can(alice, rbac.ActionLogin, vmID, true) || w.can(alice, rbac.ActionLoginAsAdmin, vmID, true) || w.can(alice, "Microsoft.Compute/virtualMachines/read", vmID, false) {
		t.Error("the role grants something else")
	}
	// What is assigned changes with the role.
	w.must(w.define(as(admin), sub, role1, roleBody("Operator II", readOnly, sub, rg)))
	if w.can(alice, rbac.ActionLogin, vmID, true) || !w.can(alice, "Microsoft.Compute/virtualMachines/read", vmID, false) {
		t.Error("the change did not reach the assignment")
	}
	if err := w.define(as(admin), rg, role1, roleBody("Operator II", readOnly, sub+"/resourceGroups/gone", rg)); code(err) != "ResourceNotFound" {
		t.Errorf("a new scope that does not exist: %v", err)
	}
	w.mustPut(rg+"2", `{"location":"southcentralus"}`)
	if err := w.define(as(admin), rg+"2", role1, roleBody("Operator II", readOnly, rg+"2")); code(err) != "RoleDefinitionHasAssignments" {
		t.Errorf("an assignment outside the new scopes: %v", err)
	}
	if _, _, err := w.auth.DeleteDefinition(t.Context(), as(admin), id(sub), role1); code(err) != "RoleDefinitionHasAssignments" {
		t.Errorf("deleted while assigned: %v", err)
	}
	_, _, err := w.auth.DeleteAssignment(t.Context(), as(admin), id(rg), w.rights.Assignments(rbac.Filter{RoleID: role1})[0].ID)
	w.must(err)
	was, gone, err := w.auth.DeleteDefinition(t.Context(), as(admin), id(sub), role1)
	if err != nil || gone || dig(was, "properties", "roleName") != "Operator II" {
		t.Fatal(was, gone, err)
	}
	if _, gone, err := w.auth.DeleteDefinition(t.Context(), as(admin), id(sub), role1); err != nil || !gone {
		t.Errorf("deleted twice: %v %v", gone, err)
	}
	if _, err := w.grant(as(admin), alice, role1, rg); code(err) != "RoleDefinitionDoesNotExist" {
		t.Errorf("assigned after it was deleted: %v", err)
	}
	if _, _, err := w.auth.DeleteDefinition(t.Context(), as(admin), id(sub), rbac.Owner); code(err) != "RoleDefinitionIsBuiltIn" {
		t.Errorf("Owner deleted: %v", err)
	}
	var types []string
	w.must(w.store.Read(t.Context(), func(tx *store.Tx) error {
		records, err := tx.AuditRecords(store.AuditFilter{Limit: 100})
		for _, r := range records {
			if strings.HasPrefix(r.Type, "roleDefinition.") {
				types = append(types, r.Type)
			}
		}
		return err
	}))
	if slices.Reverse(types); strings.Join(types, " ") != "roleDefinition.write roleDefinition.write roleDefinition.delete" {
		t.Errorf("audited: %v", types)
	}
}

func TestDefinition_AssignedOnlyWhereItIsMadeFor(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	w.mustPut(rg+"2", `{"location":"southcentralus"}`)
	w.must(w.define(as(admin), rg, role1, roleBody("R", loginOnly, rg)))
	w.mustGrant(alice, role1, rg)
	for _, at := range []string{sub, rg + "2", rootMG} {
		if _, err := w.grant(as(admin), alice, role1, at); code(err) != "RoleAssignmentScopeNotAssignableToRoleDefinition" {
			t.Errorf("assigned at %s: %v", at, err)
		}
	}
	listed := func(at, filter string) bool {
		list, err := w.auth.Definitions(t.Context(), as(admin), id(at), filter)
		w.must(err)
		return slices.ContainsFunc(list, func(d map[string]any) bool { return d["name"] == role1 })
	}
	for _, tc := range []struct {
		at, filter string
		want       bool
	}{
		{rg, "", true}, {rg, "type eq 'CustomRole'", true}, {rg, "type eq 'BuiltInRole'", false}, {rg, "roleName eq 'r'", true}, {vmID, "", true},
		{sub, "", false}, {sub, "atScopeAndBelow()", true}, {rootMG, "atScopeAndBelow() and type eq 'CustomRole'", true}, {rg + "2", "atScopeAndBelow()", false},
	} {
		if listed(tc.at, tc.filter) != tc.want {
			t.Errorf("listed at %s with %q: %v", tc.at, tc.filter, !tc.want)
		}
	}
	if _, err := w.auth.Definition(t.Context(), as(admin), id(rg+"2"), role1); code(err) != "RoleDefinitionDoesNotExist" {
		t.Errorf("shown where it has nothing to do: %v", err)
	}
}

// Nobody gains rights by writing a role definition.
func TestEscalation_ThroughRoleDefinitions(t *testing.T) {
	everything := `"actions":["*"],"dataActions":["*"]`
	writeRoles := `"actions":["Microsoft.Authorization/roleDefinitions/*","*/read"]`
	setup := func(t *testing.T) *world {
		w := newWorld(t)
		w.mustPut(rg, `{"location":"southcentralus"}`)
		w.mustPut(rg+"2", `{"location":"southcentralus"}`)
		return w
	}
	t.Run("a role assigned above", func(t *testing.T) {
		w := setup(t)
		w.must(w.define(as(admin), sub, role1, roleBody("R", readOnly, sub, rg)))
		w.mustGrant(alice, role1, sub)
		w.mustGrant(alice, rbac.Owner, rg)
		for _, at := range []string{rg, sub} {
			w.wantRefused(w.define(as(alice), at, role1, roleBody("R", everything, sub, rg)), "Microsoft.Authorization/roleDefinitions/write", sub)
			w.wantRefused(w.define(as(alice), at, role1, roleBody("R", everything, rg)), "Microsoft.Authorization/roleDefinitions/write", sub)
		}
		if w.can(alice, "Microsoft.Compute/virtualMachines/write", sub, false) {
			t.Error("escalated")
		}
	})
	t.Run("one's own role, by who writes definitions only", func(t *testing.T) {
		w := setup(t)
		w.must(w.define(as(admin), sub, role1, roleBody("Role editor", writeRoles, sub)))
		w.mustGrant(alice, role1, sub)
		w.must(w.define(as(alice), sub, role2, roleBody("Unused", everything, sub))) // grants nobody anything
		w.wantRefused(w.define(as(alice), sub, role1, roleBody("Role editor", everything, sub)), "Microsoft.Authorization/roleAssignments/write", sub)
		w.must(w.define(as(alice), sub, role1, roleBody("Editor of roles", writeRoles, sub))) // another name is no right
		if _, err := w.grant(as(alice), alice, role2, sub); code(err) != "AuthorizationFailed" {
			t.Errorf("assigned: %v", err)
		}
	})
	t.Run("scopes of others", func(t *testing.T) {
		w := setup(t)
		w.mustGrant(alice, rbac.Owner, rg)
		w.must(w.define(as(alice), rg, role1, roleBody("R", everything, rg)))
		for _, more := range []string{rg + "2", sub, rootMG} {
			w.wantRefused(w.define(as(alice), rg, role1, roleBody("R", readOnly, rg, more)), "Microsoft.Authorization/roleDefinitions/write", more)
		}
		w.must(w.define(as(admin), sub, role1, roleBody("R", readOnly, rg, rg+"2")))
		w.wantRefused(w.define(as(alice), rg, role1, roleBody("R", readOnly, rg)), "Microsoft.Authorization/roleDefinitions/write", rg+"2")
		_, _, err := w.auth.DeleteDefinition(t.Context(), as(alice), id(rg), role1)
		w.wantRefused(err, "Microsoft.Authorization/roleDefinitions/delete", rg+"2")
	})
	t.Run("a contributor", func(t *testing.T) {
		w := setup(t)
		w.mustGrant(alice, rbac.Contributor, sub)
		w.wantRefused(w.define(as(alice), sub, role1, roleBody("R", everything, sub)), "Microsoft.Authorization/roleDefinitions/write", sub)
	})
}

func TestAssignment_LimitOfASubscription(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	held := len(w.rights.Assignments(rbac.Filter{Scope: id(sub), Below: true}))
	const many = 250 // in one write, which a busy computer ends in time, too
	for ; held < 3999; held += many {
		w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
			for i := held; i < min(held+many, 3999); i++ {
				at := id(sub)
				if i%2 == 0 {
					at = id(rg)
				}
				if err := tx.PutRoleAssignment(rbac.Assignment{ID: fmt.Sprintf("00000000-0000-4000-9000-%012d", i), Scope: at, RoleID: rbac.Reader, PrincipalID: fmt.Sprint("p", i)}); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		// A name that only begins the same is another subscription.
		return tx.PutRoleAssignment(rbac.Assignment{ID: guid1, Scope: scope.Subscription(subID + "0"), RoleID: rbac.Reader, PrincipalID: "p"})
	}))
	w.must(w.assign(as(admin), rg, role1, assignment(``))) // the 4,000th
	if err := w.assign(as(admin), sub, role2, assignment(``)); code(err) != "RoleAssignmentLimitExceeded" || !strings.Contains(fault.As(err).Public(), "No more role assignments can be created") {
		t.Errorf("the 4,001st: %v", err)
	}
	w.must(w.assign(as(admin), rg, role1, assignment(`,"description":"the same again"`)))
	w.must(w.assign(as(admin), rootMG, role2, assignment(``))) // above the subscription
	if _, _, err := w.auth.DeleteAssignment(t.Context(), as(admin), id(rg), role1); err != nil {
		t.Fatal(err)
	}
	w.must(w.assign(as(admin), sub, role1, assignment(``)))
}

// An assignment outlives its principal, as Azure's does, and is shown.
func TestAssignment_OfADeletedPrincipalIsShown(t *testing.T) {
	w := newWorld(t)
	const gone = "00000000-0000-4000-8000-00000000dead"
	w.must(w.store.Write(t.Context(), func(tx *store.Tx) error {
		return tx.PutRoleAssignment(rbac.Assignment{ID: guid1, Scope: id(sub), RoleID: rbac.Reader, PrincipalID: gone, PrincipalType: "User"})
	}))
	list, err := w.auth.ListAssignments(t.Context(), as(admin), id(sub), "atScope()")
	w.must(err)
	i := slices.IndexFunc(list, func(m map[string]any) bool { return dig(m, "properties", "principalId") == gone })
	if i < 0 || dig(list[i], "properties", "principalType") != "User" {
		t.Fatalf("not shown: %v", list)
	}
	if _, gone, err := w.auth.DeleteAssignment(t.Context(), as(admin), id(sub), guid1); err != nil || gone {
		t.Errorf("cannot be deleted: %v %v", gone, err)
	}
}
