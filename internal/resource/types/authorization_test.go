package types_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/fault"
	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

const guid1 = "00000000-0000-4000-8000-0000000000d1"

func assignment(extra string) string {
	return `{"properties":{"roleDefinitionId":"` + sub + `/providers/Microsoft.Authorization/roleDefinitions/` + rbac.VMUserLogin + `","principalId":"` + alice + `"` + extra + `}}`
}

func (w *world) assign(by audit.By, at, name, body string) error {
	_, err := w.auth.PutAssignment(w.t.Context(), by, id(at), name, []byte(body))
	return err
}

func TestAssignment_Refusals(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	for name, tc := range map[string]struct{ at, name, body, code, text string }{
		"condition":            {rg, guid1, assignment(`,"condition":"@Resource[x]","conditionVersion":"2.0"`), "InvalidRequestContent", "condition"},
		"delegated identity":   {rg, guid1, assignment(`,"delegatedManagedIdentityResourceId":"/x"`), "InvalidRequestContent", "delegatedManagedIdentityResourceId"},
		"unknown property":     {rg, guid1, assignment(`,"expiresOn":"2027-01-01"`), "InvalidRequestContent", `"expiresOn"`},
		"unknown top":          {rg, guid1, `{"condition":"x","properties":{}}`, "InvalidRequestContent", `"condition"`},
		"no properties":        {rg, guid1, `{}`, "BadRequestFormat", "properties"},
		"no json":              {rg, guid1, `{"properties":{`, "InvalidRequestContent", "JSON"},
		"name is no guid":      {rg, "x", assignment(``), "InvalidRoleAssignmentId", "GUID"},
		"scope of another":     {rg, guid1, assignment(`,"scope":"` + sub + `"`), "InvalidScope", "scope"},
		"missing scope":        {vmID, guid1, assignment(``), "ResourceNotFound", "does not exist"},
		"type does not match":  {rg, guid1, assignment(`,"principalType":"Group"`), "UnmatchedPrincipalType", "Group"},
		"unknown principal":    {rg, guid1, strings.Replace(assignment(``), alice, guid1, 1), "PrincipalNotFound", tenantID},
		"unknown role":         {rg, guid1, strings.Replace(assignment(``), rbac.VMUserLogin, guid1, 1), "RoleDefinitionDoesNotExist", guid1},
		"directory role":       {rg, guid1, strings.Replace(assignment(``), rbac.VMUserLogin, rbac.GlobalAdministrator, 1), "RoleDefinitionDoesNotExist", rbac.GlobalAdministrator},
		"role id of elsewhere": {rg, guid1, strings.Replace(assignment(``), "roleDefinitions", "roleAssignments", 1), "RoleDefinitionDoesNotExist", ""},
		"directory scope":      {"/microsoft.directory", guid1, assignment(``), "AuthorizationFailed", "microsoft.directory"},
	} {
		err := w.assign(as(admin), tc.at, tc.name, tc.body)
		if code(err) != tc.code || !strings.Contains(fault.As(err).Public(), tc.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(w.rights.Assignments(rbac.Filter{Principals: []string{alice}})); n != 0 {
		t.Fatalf("%d assignments came of refusals", n)
	}
	w.must(w.assign(as(admin), rg, guid1, assignment(`,"principalType":"User","condition":null,"description":"d"`)))
	if err := w.assign(as(admin), rg, "00000000-0000-4000-8000-0000000000d2", assignment(``)); code(err) != "RoleAssignmentExists" || !strings.Contains(err.Error(), "role assignment already exists") {
		t.Errorf("a second one: %v", err)
	}
	w.must(w.assign(as(admin), rg, guid1, assignment(`,"description":"changed"`))) // the same again
	if err := w.assign(as(admin), sub, guid1, assignment(``)); code(err) != "RoleAssignmentUpdateNotPermitted" {
		t.Errorf("moved: %v", err)
	}
}

func TestAssignment_WhoMayWriteThem(t *testing.T) {
	for _, tc := range []struct {
		role, at, target string
		want             bool
	}{
		{rbac.Contributor, sub, rg, false},
		{rbac.Reader, sub, rg, false},
		{rbac.VMAdministratorLogin, sub, rg, false},
		{rbac.UserAccessAdministrator, sub, rg, true},
		{rbac.UserAccessAdministrator, rg, rg, true},
		{rbac.UserAccessAdministrator, rg, sub, false},
		{rbac.UserAccessAdministrator, rg, rg + "2", false},
		{rbac.Owner, rg, rg, true},
		{rbac.Owner, rg, "/", false},
		{rbac.Owner, sub, "/providers/Microsoft.Management/managementGroups/" + tenantID, false},
	} {
		w := newWorld(t)
		w.mustPut(rg, `{"location":"southcentralus"}`)
		w.mustPut(rg+"2", `{"location":"southcentralus"}`)
		w.mustGrant(alice, tc.role, tc.at)
		_, err := w.grant(as(alice), crew, rbac.Owner, tc.target)
		if (err == nil) != tc.want {
			t.Errorf("%s at %s writes at %s: %v", tc.role, tc.at, tc.target, err)
		}
		if !tc.want {
			w.wantRefused(err, "Microsoft.Authorization/roleAssignments/write", tc.target)
		}
	}
}

// wantRefused checks the sentence and that the refusal was audited.
func (w *world) wantRefused(err error, action, at string) {
	w.t.Helper()
	text := fault.As(heard.HearError(err)).Public()
	for _, part := range []string{"someone@example.test", alice, action, at, "sally role assignment create"} {
		if !strings.Contains(text, part) {
			w.t.Errorf("the refusal does not say %q: %s", part, text)
		}
	}
	w.must(w.store.Read(w.t.Context(), func(tx *store.Tx) error {
		records, err := tx.AuditRecords(store.AuditFilter{Limit: 1})
		if err == nil && (len(records) != 1 || records[0].Outcome != audit.Denied || records[0].Principal != alice || records[0].Detail["action"] != action) {
			w.t.Errorf("the refusal is not audited: %+v", records)
		}
		return err
	}))
}

func TestEscalation_ThroughParentsChildrenAndLinks(t *testing.T) {
	w := newWorld(t).withMachine()
	// A right on the machine alone: the extension inside it, and nothing above.
	w.mustGrant(alice, rbac.Contributor, vmID)
	if _, err := w.put(as(alice), extID, extBody); err != nil {
		t.Errorf("a child through its parent: %v", err)
	}
	if _, err := w.put(as(alice), rg, `{"location":"southcentralus"}`); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a parent through its child: %v", err)
	}
	if err := w.assign(as(alice), vmID, guid1, assignment(``)); !fault.Is(err, fault.Forbidden) {
		t.Errorf("contributor made an assignment on his machine: %v", err)
	}
	if _, err := w.engine.Act(t.Context(), as(alice), id(vmID), "restart"); err != nil {
		t.Errorf("his own machine: %v", err)
	}
	// A machine of his own must not take an interface that is not his.
	w.mustPut(rg+"2", `{"location":"southcentralus"}`)
	w.mustGrant(alice, rbac.Contributor, rg+"2")
	_, err := w.put(as(alice), rg+"2/providers/Microsoft.Compute/virtualMachines/mine", vmBody(key(t)))
	if code(err) != "AuthorizationFailed" {
		t.Fatalf("linked: %v", err)
	}
	w.wantRefused(err, "Microsoft.Network/networkInterfaces/join/action", nicID)
	if _, err := w.engine.Act(t.Context(), as(alice), id(vmID), "format"); code(err) != "InvalidAction" {
		t.Errorf("unknown action: %v", err)
	}
}

func TestRights_OfNobody(t *testing.T) {
	w := newWorld(t).withMachine()
	ctx, by := t.Context(), as(alice)
	for name, try := range map[string]func() error{
		"get": func() error { _, err := w.engine.Get(ctx, by, id(vmID), false); return err },
		"list": func() error {
			_, err := w.engine.List(ctx, by, resource.Query{Under: id(rg), Type: types.VirtualMachine})
			return err
		},
		"put":       func() error { _, err := w.put(by, vmID, vmBody(key(t))); return err },
		"put group": func() error { _, err := w.put(by, rg, `{"location":"southcentralus"}`); return err },
		"patch": func() error {
			_, err := w.engine.Patch(ctx, by, resource.Request{ID: id(vmID), Body: []byte(`{}`)})
			return err
		},
		"delete":      func() error { _, err := w.engine.Delete(ctx, by, resource.Request{ID: id(rg)}); return err },
		"stop":        func() error { _, err := w.engine.Act(ctx, by, id(vmID), "powerOff"); return err },
		"assign":      func() error { return w.assign(by, rg, guid1, assignment(``)) },
		"unassign":    func() error { _, _, err := w.auth.DeleteAssignment(ctx, by, id(rg), guid1); return err },
		"assignments": func() error { _, err := w.auth.ListAssignments(ctx, by, id(rg), ""); return err },
		"definitions": func() error { _, err := w.auth.Definitions(ctx, by, id(rg), ""); return err },
	} {
		if err := try(); code(err) != "AuthorizationFailed" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := w.accounts.Subscriptions(ctx, by); err != nil || len(list) != 0 {
		t.Errorf("subscriptions: %v %v", list, err)
	}
	if page, err := w.engine.List(ctx, by, resource.Query{Under: id(sub), Type: resource.TypeGroup}); err != nil || len(page.Value) != 0 {
		t.Errorf("groups: %v %v", page, err)
	}
	anonymous := audit.By{}
	if _, err := w.engine.Get(ctx, anonymous, id(vmID), false); !fault.Is(err, fault.Forbidden) {
		t.Errorf("anonymous: %v", err)
	}
}

// A person with one login role on one machine finds his way to it, as az ssh
// does, and sees nothing else.
func TestRights_OfWhoMayOnlyLogIn(t *testing.T) {
	w := newWorld(t).withMachine()
	w.mustGrant(crew, rbac.VMUserLogin, vmID)
	ctx, by := t.Context(), as(alice, crew)
	if list, err := w.accounts.Subscriptions(ctx, by); err != nil || len(list) != 1 || list[0]["subscriptionId"] != subID {
		t.Errorf("subscriptions: %v %v", list, err)
	}
	page, err := w.engine.List(ctx, by, resource.Query{Under: id(rg), Name: "MYVM"})
	if err != nil || len(page.Value) != 1 || page.Value[0]["id"] != vmID {
		t.Errorf("resources: %v %v", page, err)
	}
	if page, err = w.engine.List(ctx, by, resource.Query{Under: id(rg)}); err != nil || len(page.Value) != 1 {
		t.Errorf("all resources: %v %v", page, err)
	}
	if _, err := w.engine.Get(ctx, by, id(vmID), true); err != nil {
		t.Errorf("machine: %v", err)
	}
	if _, err := w.engine.Get(ctx, by, id(rg), false); err != nil {
		t.Errorf("its group: %v", err)
	}
	if _, err := w.engine.Get(ctx, by, id(nicID), false); !fault.Is(err, fault.Forbidden) {
		t.Errorf("interface without a role there: %v", err)
	}
	if _, err := w.engine.Act(ctx, by, id(vmID), "restart"); !fault.Is(err, fault.Forbidden) {
		t.Errorf("restart: %v", err)
	}
}

func TestOperation_IsShownToItsOwnerAndReaders(t *testing.T) {
	w := newWorld(t).withNetwork()
	r := w.mustPut(vmID, vmBody(key(t)))
	if _, err := w.engine.Operation(t.Context(), as(alice), r.Operation.ID); code(err) != "OperationNotFound" {
		t.Errorf("a stranger: %v", err)
	}
	w.mustGrant(alice, rbac.Reader, rg)
	if _, err := w.engine.Operation(t.Context(), as(alice), r.Operation.ID); err != nil {
		t.Errorf("a reader: %v", err)
	}
	w.settle(time.Minute)
	again := w.status(r.Operation)
	if again.Status != resource.Succeeded || again.End.IsZero() {
		t.Errorf("%+v", again)
	}
}

func TestAssignments_ListGetAndDelete(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	direct := w.mustGrant(alice, rbac.VMUserLogin, rg)
	team := w.mustGrant(crew, rbac.Reader, sub)
	list := func(at, filter string) string {
		t.Helper()
		l, err := w.auth.ListAssignments(t.Context(), as(admin), id(at), filter)
		if err != nil {
			return code(err)
		}
		var names []string
		for _, x := range l {
			switch x["name"] {
			case direct:
				names = append(names, "direct")
			case team:
				names = append(names, "team")
			default:
				names = append(names, "owner")
			}
		}
		return strings.Join(names, " ")
	}
	for _, tc := range []struct{ at, filter, want string }{
		{rg, "atScope()", "owner team direct"}, {sub, "atScope()", "owner team"}, {sub, "", "owner team direct"},
		{sub, "principalId eq '" + alice + "'", "direct"}, {sub, "assignedTo('" + alice + "')", "team direct"}, {sub, "atScope() and assignedTo('" + strings.ToUpper(alice) + "')", "team"},
		{sub, "principalId eq 'x' or 1 eq 1", "InvalidFilter"}, {sub, "roleName eq 'x'", "InvalidFilter"}, {sub, "assignedTo()", "InvalidFilter"},
	} {
		if got := list(tc.at, tc.filter); got != tc.want {
			t.Errorf("%s %s: %s", tc.at, tc.filter, got)
		}
	}
	if _, err := w.auth.Assignment(t.Context(), as(admin), id(sub), direct); code(err) != "RoleAssignmentNotFound" {
		t.Errorf("at another scope: %v", err)
	}
	if x, err := w.auth.Assignment(t.Context(), as(admin), id(rg), direct); err != nil || x["id"] != rg+"/providers/Microsoft.Authorization/roleAssignments/"+direct {
		t.Errorf("%v %v", x, err)
	}
	if _, gone, err := w.auth.DeleteAssignment(t.Context(), as(admin), id(sub), direct); err != nil || !gone {
		t.Errorf("deleted through another scope: %v", err)
	}
	if _, gone, err := w.auth.DeleteAssignment(t.Context(), as(admin), id(rg), direct); err != nil || gone {
		t.Errorf("%v %v", gone, err)
	}
	if got := list(sub, ""); got != "owner team" {
		t.Errorf("left: %s", got)
	}
}

func TestDefinitions_FilterAsAzDoes(t *testing.T) {
	w := newWorld(t)
	l, err := w.auth.Definitions(t.Context(), as(admin), id(sub), "roleName eq 'Virtual Machine Administrator Login'")
	if err != nil || len(l) != 1 || l[0]["id"] != sub+"/providers/Microsoft.Authorization/roleDefinitions/"+rbac.VMAdministratorLogin {
		t.Errorf("%v %v", l, err)
	}
	if l, err = w.auth.Definitions(t.Context(), as(admin), id(sub), ""); err != nil || len(l) != 6 {
		t.Errorf("%d roles, directory roles among them? %v", len(l), err)
	}
	if _, err = w.auth.Definition(t.Context(), as(admin), id(sub), rbac.GlobalAdministrator); code(err) != "RoleDefinitionDoesNotExist" {
		t.Errorf("%v", err)
	}
	if _, err = w.auth.Definitions(t.Context(), as(admin), id(sub), "contains(roleName,'x')"); code(err) != "InvalidFilter" {
		t.Errorf("%v", err)
	}
}

func TestManagementGroups_InheritanceFollowsMoves(t *testing.T) {
	w := newWorld(t)
	ctx, root := t.Context(), "/providers/Microsoft.Management/managementGroups/"
	put := func(by audit.By, name, parent string) error {
		_, err := w.accounts.PutManagementGroup(ctx, by, id(root+name), []byte(`{"properties":{"displayName":"`+name+`","details":{"parent":{"id":"`+root+parent+`"}}}}`))
		return err
	}
	w.must(put(as(admin), "corp", tenantID))
	w.must(put(as(admin), "team", "corp"))
	w.mustPut(rg, `{"location":"southcentralus"}`)
	w.mustGrant(alice, rbac.Reader, root+"team")
	reads := func() bool { _, err := w.engine.Get(ctx, as(alice), id(rg), false); return err == nil }
	if reads() {
		t.Fatal("a role reached a subscription outside its management group")
	}
	if err := w.accounts.MoveSubscription(ctx, as(alice), id(root+"team"), id(sub)); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a reader moved it: %v", err)
	}
	w.must(w.accounts.MoveSubscription(ctx, as(admin), id(root+"team"), id(sub)))
	if !reads() {
		t.Error("the role does not reach the subscription")
	}
	if err := put(as(admin), "corp", "team"); code(err) != "InvalidManagementGroup" {
		t.Errorf("a circle: %v", err)
	}
	if err := put(as(admin), "x", "none"); code(err) != "AuthorizationFailed" {
		t.Errorf("a parent that does not exist: %v", err)
	}
	if err := put(as(alice), "mine", "team"); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a reader made one: %v", err)
	}
	if err := w.accounts.DeleteManagementGroup(ctx, as(admin), id(root+"team")); code(err) != "ManagementGroupNotEmpty" {
		t.Errorf("not empty: %v", err)
	}
	// Contributor there may write groups, and still not bring his roles anywhere.
	w.mustGrant(crew, rbac.Contributor, root+tenantID)
	by := as(crew)
	if err := put(by, "team", tenantID); !fault.Is(err, fault.Forbidden) || !strings.Contains(err.Error(), "roleAssignments/write") {
		t.Errorf("a contributor moved one: %v", err)
	}
	if err := w.accounts.MoveSubscription(ctx, by, id(root+"corp"), id(sub)); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a contributor moved the subscription: %v", err)
	}
	w.must(w.accounts.MoveSubscription(ctx, as(admin), id(root+tenantID), id(sub)))
	w.must(w.accounts.DeleteManagementGroup(ctx, as(admin), id(root+"team")))
	if reads() || len(w.rights.Assignments(rbac.Filter{Principals: []string{alice}})) != 0 {
		t.Error("a role outlived its management group")
	}
	if err := w.accounts.DeleteManagementGroup(ctx, as(admin), id(root+tenantID)); code(err) != "InvalidManagementGroup" {
		t.Errorf("the root: %v", err)
	}
}

func TestBootstrap_OnceOnly(t *testing.T) {
	w := newWorld(t)
	err := w.store.Write(t.Context(), func(tx *store.Tx) error { return types.Bootstrap(tx, audit.By{}, types.Setup{TenantID: tenantID}) })
	if code(err) != "DeploymentExists" {
		t.Fatalf("%v", err)
	}
	if !w.rights.Check(rbac.Query{Principals: []string{admin}, Scope: scope.Directory(), Action: "microsoft.directory/users/create"}).Allowed {
		t.Error("the first administrator is not Global Administrator")
	}
	if w.rights.Check(rbac.Query{Principals: []string{admin}, Scope: id(sub), Action: rbac.ActionLogin, Data: true}).Allowed {
		t.Error("the owner logs in")
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{"", "atScope()", "name eq 'a''b'", "assignedTo('x') and atScope()", "name eq 'x' or 1", "eq eq 'eq'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		terms, err := types.ParseFilter(s)
		if err != nil {
			if code(err) != "InvalidFilter" {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		// What was understood means the same when it is written out again.
		var parts []string
		for _, x := range terms {
			q := "'" + strings.ReplaceAll(x.Value, "'", "''") + "'"
			if x.Call {
				parts = append(parts, fmt.Sprintf("%s(%s)", x.Name, q))
			} else {
				parts = append(parts, x.Name+" eq "+q)
			}
		}
		again, err := types.ParseFilter(strings.Join(parts, " and "))
		if err != nil || len(again) != len(terms) {
			t.Fatalf("%q -> %q: %v", s, parts, err)
		}
	})
}

func FuzzPut(f *testing.F) {
	f.Add(`{"location":"southcentralus","properties":{}}`)
	f.Add(extBody)
	f.Add(vmBody("ssh-ed25519 AAAA"))
	all := types.All(types.Config{})
	f.Fuzz(func(t *testing.T, body string) {
		for _, x := range all {
			if x.Check == nil {
				continue
			}
			d := resource.Draft{ID: id(vmID), Location: "southcentralus", Properties: []byte(body)}
			if x.Check(&d) != nil {
				continue
			}
			// What was accepted is stored, read back and accepted again.
			e := resource.Draft{ID: d.ID, Location: d.Location, Properties: d.Properties}
			if err := x.Check(&e); err != nil || string(e.Properties) != string(d.Properties) {
				t.Fatalf("%s: %s -> %s: %v", x.Name, d.Properties, e.Properties, err)
			}
			if x.Show != nil && x.Name != types.VirtualMachine && x.Name != types.HybridMachine { // those two ask for agents
				if _, err := x.Show(context.Background(), resource.View{Resource: resource.Resource{ID: d.ID, Properties: d.Properties}}); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
