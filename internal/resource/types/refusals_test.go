package types_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

// says checks that something was refused with a code and in these words.
func says(t *testing.T, err error, code, words string) {
	t.Helper()
	if f := fault.As(heard.HearError(err)); err == nil || f.Code != code || !strings.Contains(f.Public(), words) {
		t.Errorf("%v, want %s: %s", err, code, words)
	}
}

func TestRefusals_Machines(t *testing.T) {
	w := newWorld(t).withNetwork()
	k := key(t)
	body := func(old, next string) string {
		b := strings.Replace(vmBody(k), old, next, 1)
		if b == vmBody(k) {
			t.Fatalf("nothing to replace: %s", old)
		}
		return b
	}
	set := func(old, next string) string {
		return strings.Replace(setBody(1, "Manual", k, login, ""), old, next, 1)
	}
	const machines = rg + "/providers/Microsoft.Compute/virtualMachines/"
	for _, c := range []struct{ at, body, code, words string }{
		{machines + strings.Repeat("x", 65), vmBody(k), "InvalidParameter", "cannot be the name of a virtual machine. A name has 1 to 64 characters"},
		{machines + "___", vmBody(k), "InvalidParameter", "cannot be the name of a virtual machine"},
		{vmID, body(`"computerName":"myVM"`, `"computerName":"_"`), "InvalidParameter", "cannot be a host name"},
		{vmID, body(`"imageReference":{"publisher":"Canonical","offer":"UbuntuServer","sku":"18.04-LTS","version":"latest"},`, ``), "InvalidParameter", "a virtual machine needs storageProfile.imageReference. See the images"},
		{strings.TrimSuffix(setID, "myVMSS") + strings.Repeat("x", 65), set("", ""), "InvalidParameter", "cannot be the name of a scale set"},
		{setID, set(`"networkProfile":{"networkInterfaceConfigurations":[`, `"networkProfile":{"networkInterfaceConfigurations":[{"name":"first","properties":{"ipConfigurations":[]}},`), "InvalidParameter", "exactly one network interface with one IP configuration"},
		{setID, set(`"name":"nic"`, `"name":"n/c"`), "InvalidResourceName", "network interfaces and their configurations need names"},
		{setID, set(`"name":"AADSSHLoginForLinux"`, `"name":""`), "InvalidResourceName", "extension 0 needs a name"},
		{setID, set(`"name":"Standard_DS1_v2"`, `"name":"`+strings.Repeat("x", 65)+`"`), "InvalidParameter", "sku.name and sku.tier have at most 64 characters"},
		{nicID + "2", `{"location":"southcentralus","properties":{"ipConfigurations":[{"name":"","properties":{}}]}}`, "InvalidResourceName", "the IP configuration needs a name"},
		{rg + "/providers/Microsoft.Network/virtualNetworks/n", `{"location":"southcentralus","properties":{"subnets":[{"name":"a/b"}]}}`, "InvalidResourceName", "subnet 0 needs a name"},
		{rg + "/providers/Microsoft.Network/networkSecurityGroups/n", `{"location":"southcentralus","properties":{"securityRules":[{"name":"","properties":{"access":"Allow"}}]}}`, "InvalidResourceName", "security rule 0 needs a name"},
		{pipID, `{"location":"southcentralus","identity":{"type":"SystemAssigned"}}`, "InvalidRequestContent", "a public IP address has no identity"},
	} {
		_, err := w.put(as(admin), c.at, c.body)
		says(t, err, c.code, c.words)
	}
	w.mustPut(setID, setBody(1, "Manual", k, "", ""))
	_, err := w.do(setID, "manualupgrade", `{"instanceIds":[`+strings.Repeat(`"0",`, types.MaxCapacity)+`"0"]}`)
	says(t, err, "InvalidParameter", "more than 100 instances are named")
}

func TestRefusals_Writes(t *testing.T) {
	w := newWorld(t).withNetwork()
	_, err := w.engine.Put(t.Context(), as(admin), resource.Request{ID: id(pipID), Body: []byte(`{"location":"southcentralus"}`), IfNoneMatch: `"an-etag"`})
	says(t, err, "InvalidParameter", "If-None-Match takes only *")
	tags := make([]string, 51)
	for i := range tags {
		tags[i] = fmt.Sprintf(`"t%d":""`, i)
	}
	_, err = w.put(as(admin), pipID, `{"location":"southcentralus","tags":{`+strings.Join(tags, ",")+`}}`)
	says(t, err, "InvalidTagCount", "51 tags are more than the 50")
	says(t, w.moveBy(as(admin), false, otherRG, rg+"/providers/Microsoft.Management/managementGroups/x"), "ResourceMoveNotSupported", "a management group does not move")
	_, err = w.deploy(as(admin), `{"location":"southcentralus","properties":{"mode":"Incremental","template":{"resources":[]}}}`)
	says(t, err, "InvalidDeployment", "The 'location' property is not allowed for 'd1' at resource group scope. Leave it out")

	var assigned []string
	for i := range 21 {
		at := fmt.Sprintf("%s%d", uaiID, i)
		w.mustPut(at, `{"location":"southcentralus"}`)
		assigned = append(assigned, `"`+at+`":{}`)
	}
	_, err = w.put(as(admin), vmID, strings.Replace(vmBody(key(t)), `{"type":"SystemAssigned"}`, `{"type":"UserAssigned","userAssignedIdentities":{`+strings.Join(assigned, ",")+`}}`, 1))
	says(t, err, "InvalidParameter", "at most 20 identities can be assigned to one resource")
}

func TestRefusals_Roles(t *testing.T) {
	w := newWorld(t)
	w.mustPut(rg, `{"location":"southcentralus"}`)
	put := func(at scope.ID, description string) error {
		_, err := w.auth.PutAssignment(t.Context(), as(admin), at, role1, []byte(`{"properties":{"roleDefinitionId":"`+reader+`","principalId":"`+alice+`","description":"`+description+`"}}`))
		return err
	}
	says(t, put(id(rg), strings.Repeat("d", 1025)), "InvalidRequestContent", "a description has at most 1024 characters")
	w.refused(put(scope.Directory(), ""), "arm.AuthorizationFailed.directory")
	_, err := w.auth.ListAssignments(t.Context(), as(admin), scope.Directory(), "")
	w.refused(err, "arm.AuthorizationFailed.directory")
	says(t, w.define(as(admin), rg, role1, strings.Replace(roleBody("R", readOnly, rg), `"description":"d"`, `"description":"`+strings.Repeat("d", 2049)+`"`, 1)), "InvalidRequestContent", "a description has at most 2048 characters")
	says(t, w.define(as(admin), rg, role1, roleBody("R", `"actions":[`+strings.Repeat(`"*/read",`, 1000)+`"*/read"]`, rg)), "InvalidRoleDefinitionPermissions", "actions holds more than 1000 entries")
}

func TestRefusals_Accounts(t *testing.T) {
	w := newWorld(t)
	const groups = "/providers/Microsoft.Management/managementGroups/"
	ctx := t.Context()
	raced := w.accounts // somebody else is faster, between the look and the write
	raced.Write = func(ctx context.Context, f func(types.AccountsTx) error) error {
		_, err := w.accounts.PutManagementGroup(ctx, as(admin), id(groups+"team"), []byte(`{}`))
		w.must(err)
		return w.accounts.Write(ctx, f)
	}
	_, err := raced.PutManagementGroup(ctx, as(admin), id(groups+"team"), []byte(`{"properties":{"displayName":"mine"}}`))
	says(t, err, "Conflict", "management group 'team' changed meanwhile. Repeat the request.")

	raced.Write = func(ctx context.Context, f func(types.AccountsTx) error) error {
		w.must(w.accounts.DeleteManagementGroup(ctx, as(admin), id(groups+"team")))
		return w.accounts.Write(ctx, f)
	}
	says(t, raced.MoveSubscription(ctx, as(admin), id(groups+"team"), id(sub)), "NotFound", "'"+groups+"team' does not exist")

	names := map[string][]string{}
	for i := range 500 {
		names[fmt.Sprint("n", i)] = nil
	}
	w.must(w.store.Write(ctx, func(tx *store.Tx) error {
		return resource.Modify(tx, id(sub), func(r *resource.Resource) error { return r.WritePrivate(map[string]any{"tagNames": names}) })
	}))
	_, _, err = w.accounts.OfferTag(ctx, as(admin), id(sub), "another", nil)
	says(t, err, "InvalidTagCount", "a subscription offers at most 500 tag names")
}
