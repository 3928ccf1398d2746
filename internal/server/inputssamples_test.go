package server

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sallyport/internal/rbac"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
	"sallyport/internal/store"
)

type typeOf = resource.Type

// armWriters are samples of all that writes in Resource Manager and is no resource
// type, and of the actions that read a body.
func armWriters(c *castle) []writer {
	sub := standing(c)
	out := append(accountWriters(c, sub), roleWriters(c, sub)...)
	out = append(append(out, actionWriters(c, sub)...), setWriters(c, sub)...)
	return append(out, ownWriters(c)...)
}

// put makes something that a sample stands on.
func (c *castle) put(path, body string) string {
	c.t.Helper()
	if r := c.send("PUT", versioned(path), parsed(body), nil); !r.fine() {
		c.t.Fatalf("PUT %s: %d %s", path, r.status, r.text)
	}
	return path
}

// leaf reads one value of a GET.
func (c *castle) leaf(path, where string) any {
	v, _ := at(c.send("GET", versioned(path), nil, nil).body, where)
	return v
}

const managementGroups = "/providers/Microsoft.Management/managementGroups"

// accountWriters: management groups, tags and their names.
func accountWriters(c *castle, sub string) []writer {
	for _, name := range []string{"up", "over"} {
		c.put(managementGroups+"/"+name, `{}`)
	}
	parents := []any{managementGroups + "/over", managementGroups + "/nosuch", sub}
	group := func(n string) string { return managementGroups + "/" + n }
	tagged := func(n string) string {
		at := c.put(sub+"/resourceGroups/RG/providers/Microsoft.Network/networkSecurityGroups/"+n, `{"location":"westeurope","tags":{"had":"1","a":"z"}}`)
		return at + "/providers/Microsoft.Resources/tags/default"
	}
	resourceOf := func(target string) string { return strings.Split(target, "/providers/Microsoft.Resources/tags")[0] }
	tagViews := []view{{at: itself}, {}, {at: resourceOf, from: "properties.tags", to: "tags", only: "properties.tags"}}
	same := map[string]string{"type": "each is tested by itself", "properties.tenantId": "a deployment has one tenant"}
	patched := merged2(same, map[string]string{"properties.details.version": "each is changed once"})
	return []writer{
		{rows: "arm.managementGroups.put", target: group, body: `{"properties":{"displayName":"d","details":{"parent":{"id":"` + managementGroups + `/up"}}}}`,
			views: []view{{at: itself}, {}, {at: func(string) string { return managementGroups }, list: true}},
			other: map[string][]any{"properties.details.parent.id": parents, "properties.displayName": {"İstanbul", strings.Repeat("n", 257), "a\u0000b"}}, same: same},
		{rows: "arm.managementGroups.patch", target: func(n string) string { return c.put(group(n), `{}`) }, body: `{"displayName":"d","parentGroupId":"` + managementGroups + `/up"}`,
			views: []view{{at: itself, from: "displayName", to: "properties.displayName", only: "displayName"}, {at: itself, from: "parentGroupId", to: "properties.details.parent.id", only: "parentGroupId"}},
			other: map[string][]any{"parentGroupId": parents}, same: patched},
		{rows: "arm.managementGroups.checkName", target: func(string) string { return "/providers/Microsoft.Management/checkNameAvailability" }, body: `{"name":"fresh","type":"Microsoft.Management/managementGroups"}`,
			other: map[string][]any{"name": {"up", "a b", ""}}, effect: map[string]func(asked) bool{
				"name": func(it asked) bool {
					free, _ := at(it.reply.body, "nameAvailable")
					return free == strings.HasPrefix(it.value.(string), "fresh")
				},
				"type": func(it asked) bool { return it.value == "Microsoft.Management/managementGroups" }}},
		{rows: "arm.tags.put", target: tagged, body: `{"properties":{"tags":{"a":"b"}}}`, views: tagViews, open: []string{"properties.tags"},
			other: map[string][]any{"properties.tags.a": {strings.Repeat("v", 257), "İ ı ß"}}, same: map[string]string{"location": "not of the tags", "properties*": "as location"}},
		{rows: "arm.tags.patch", target: tagged, body: `{"operation":"Merge","properties":{"tags":{"a":"b"}}}`, views: tagViews, open: []string{"properties.tags"}, same: map[string]string{"location": "not of the tags", "properties*": "as location", "tags.had": "what is merged leaves it"},
			other: map[string][]any{"operation": {"Replace", "Delete", "delete", ""}}, effect: map[string]func(asked) bool{"operation": func(it asked) bool {
				want := map[string]string{"merge": `{"a":"b","had":"1"}`, "replace": `{"a":"b"}`, "delete": `{"a":"z","had":"1"}`}[strings.ToLower(fmt.Sprint(it.value))]
				return written(c.leaf(it.target, "properties.tags")) == want
			}}},
	}
}

// roleWriters: role definitions and role assignments, at a scope and at the top.
func roleWriters(c *castle, sub string) []writer {
	alice, bob := c.person("alice"), c.person("bob")
	id := func(kind, n string) string {
		var tail uint32
		for _, r := range n {
			tail = tail*31 + uint32(r)
		}
		return fmt.Sprintf("/providers/Microsoft.Authorization/%s/00000000-0000-4000-8000-0000%08x", kind, tail)
	}
	same := map[string]string{"type": "each is tested by itself", "properties.createdBy": "the administrator asks for all", "properties.updatedBy": "as createdBy"}
	// Nobody holds a role at the top unless the server is told so there.
	c.must(c.d.follow.Write(c.t.Context(), func(tx *store.Tx) error {
		return tx.PutRoleAssignment(rbac.Assignment{ID: c.assignmentID(), Scope: scope.Root(), RoleID: rbac.Owner, PrincipalID: c.ids["admin"], PrincipalType: "User", CreatedAt: tx.Now(), UpdatedAt: tx.Now()})
	}))
	// One principal has one role once at a scope.
	cleared := func(scope string) func(string) string {
		return func(n string) string {
			list, _ := at(c.send("GET", versioned(scope+"/providers/Microsoft.Authorization/roleAssignments?$filter=atScope()"), nil, nil).body, "value")
			for _, a := range list.([]any) {
				who, _ := at(a, "properties.principalId")
				if id, _ := at(a, "id"); who == alice || who == bob {
					c.send("DELETE", versioned(fmt.Sprint(id)), nil, nil)
				}
			}
			return scope + id("roleAssignments", n)
		}
	}
	narrowed := map[string]string{}
	for _, name := range []string{"condition", "conditionVersion", "delegatedManagedIdentityResourceId"} {
		narrowed["properties."+name] = "what would narrow a role is refused"
	}
	var out []writer
	for suffix, scope := range map[string]string{"": sub, "AtRoot": ""} {
		views := []view{{at: itself}, {}, {at: func(target string) string { return target[:strings.LastIndexByte(target, '/')] }, list: true}}
		below := []view{{at: itself}, {}, {at: func(target string) string {
			return target[:strings.LastIndexByte(target, '/')] + "?$filter=atScopeAndBelow()"
		}, list: true}}
		of := map[string]string{"": sub, "AtRoot": managementGroups + "/up"}[suffix]
		definition := writer{rows: "arm.roleDefinitions.put" + suffix, target: func(n string) string { return scope + id("roleDefinitions", n) }, views: below, same: same,
			body: `{"properties":{"roleName":"role {{n}}` + suffix + `","type":"CustomRole","description":"d","permissions":[{"actions":["Microsoft.Network/*/read"],"notActions":["Microsoft.Network/networkInterfaces/read"],"dataActions":["Microsoft.Compute/virtualMachines/login/action"],"notDataActions":["Microsoft.Compute/virtualMachines/loginAsAdmin/action"]}],"assignableScopes":["` + of + `"]}}`,
			other: map[string][]any{"properties.permissions[].actions[]": append(strange(), "*", "Microsoft.Compute/virtualMachines/start/action"), "properties.permissions[].notActions[]": append(strange(), "*/write"),
				"properties.permissions[].dataActions[]": append(strange(), "Microsoft.HybridCompute/machines/login/action"), "properties.permissions[].notDataActions[]": strange(),
				"properties.assignableScopes[]": {sub + "/resourceGroups/RG", managementGroups + "/over", "/", sub + "/resourceGroups/nosuch", "/subscriptions/11111111-2222-4333-8444-555555555555"},
				"properties.roleName":           {"Owner", " spaced", "", "owner\u0000"}, "properties.type": {"BuiltInRole"}}}
		assignment := writer{rows: "arm.roleAssignments.put" + suffix, target: cleared(scope), views: views, same: same,
			body: `{"properties":{"roleDefinitionId":"` + scope + `/providers/Microsoft.Authorization/roleDefinitions/` + rbac.Reader + `","principalId":"` + alice + `","principalType":"User","description":"d"}}`,
			other: map[string][]any{"properties.principalId": {bob, strings.ToUpper(bob), "00000000-0000-4000-8000-000000000000", ""}, "properties.principalType": {"Group", "user"},
				"properties.roleDefinitionId": {scope + "/providers/Microsoft.Authorization/roleDefinitions/" + rbac.Contributor, "/providers/Microsoft.Authorization/roleDefinitions/" + rbac.GlobalAdministrator, sub + "/resourceGroups/RG"}}}
		if suffix == "AtRoot" {
			assignment.same = merged2(merged2(same, narrowed), map[string]string{"properties.scope": "it is the top"})
		} else {
			assignment.same = merged2(merged2(same, narrowed), map[string]string{"properties.scope": "it is the subscription"})
		}
		out = append(out, definition, assignment)
	}
	return out
}

func merged2(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range []map[string]string{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// strange are actions that nothing here has, and patterns that match none.
func strange() []any {
	return []any{"No.Such/things/read", "No.Such/*/read", "No.Such/*", "*/nosuch", "*/nosuch/*", "Microsoft.Compute/*/nosuch/action", "Microsoft.Compute/nosuch/*", "Microsoft.Compute/virtualMachines/**", "Microsoft.Compute", "",
		"Microsoft.Compute//read", "Mıcrosoft.Compute/virtualMachines/read", "Microsoft.Compute/virtualMachines/read ", "/*", "*/", "Microsoft.Compute/virtualMachines/?ead"}
}

// actionWriters: moves, and the validation of a deployment.
func actionWriters(c *castle, sub string) []writer {
	for _, g := range []string{"First", "Second", "Third"} {
		c.put(sub+"/resourceGroups/"+g, `{"location":"westeurope"}`)
	}
	const kind = "/providers/Microsoft.Network/networkSecurityGroups/"
	made, in := "", func(group string) string { return sub + "/resourceGroups/" + group + kind }
	mover := func(verb string, moves bool) writer {
		// Each move has one group of its own in which there is nothing else.
		stands := func(path string) bool { return c.send("GET", versioned(path), nil, nil).fine() }
		went := func(it asked) bool {
			to, _ := at(it.body, "targetResourceGroup")
			name := made[strings.LastIndexByte(made, '/')+1:]
			after := fmt.Sprint(to) + kind + name
			return stands(after) == moves && stands(made) == !moves
		}
		return writer{rows: "arm.resources." + verb, target: func(n string) string {
			for _, g := range []string{"First", "Second", "Third"} { // one name in each sample
				c.send("DELETE", versioned(in(g)+"mover"), nil, nil)
			}
			made = c.put(in("First")+"mover", `{"location":"westeurope"}`)
			return sub + "/resourceGroups/First/" + verb + "Resources"
		}, body: `{"resources":["` + in("First") + `mover"],"targetResourceGroup":"` + sub + `/resourceGroups/Second"}`, views: nil,
			effect: map[string]func(asked) bool{"resources[]": went, "targetResourceGroup": went},
			other: map[string][]any{"targetResourceGroup": {sub + "/resourceGroups/Third", sub + "/resourceGroups/First", sub, "/subscriptions/11111111-2222-4333-8444-555555555555/resourceGroups/Second"},
				"resources[]": {in("Second") + "mover", sub + "/resourceGroups/First", in("First") + "mover/securityRules/x", "/subscriptions/11111111-2222-4333-8444-555555555555/resourceGroups/First" + kind + "mover"}}}
	}
	template := `{"$schema":"https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#","contentVersion":"1.0.0.0","parameters":{"p":{"type":"string"}},"resources":[{"type":"Microsoft.Network/networkSecurityGroups","apiVersion":"2022-01-01","name":"planned","location":"westeurope","properties":{}}]}`
	planned := func(it asked) bool {
		made, _ := at(it.reply.body, "properties.validatedResources[0].id")
		name, _ := at(it.body, "properties.template.resources[0].name")
		return strings.HasSuffix(fmt.Sprint(made), "/"+fmt.Sprint(name)) && !c.send("GET", versioned(fmt.Sprint(made)), nil, nil).fine()
	}
	const text = "a template's parts are changed by the deployment itself (TestInputs_OfResources); a validation shows what would be made"
	return []writer{mover("move", true), mover("validateMove", false),
		{rows: "arm.deployments.validate", target: func(n string) string {
			return sub + "/resourceGroups/RG/providers/Microsoft.Resources/deployments/" + n + "/validate"
		},
			body: `{"properties":{"mode":"Incremental","parameters":{"p":{"value":"v"}},"template":` + template + `}}`, views: []view{{}}, open: []string{"properties.parameters", "properties.template.parameters"},
			effect: map[string]func(asked) bool{"properties.template.resources[].name": planned, "properties.template.resources[].type": planned},
			silent: map[string]string{"properties.template.$schema": text, "properties.template.contentVersion": text, "properties.template.parameters*": text, "properties.template.resources[].apiVersion": text,
				"properties.template.resources[].location": text, "properties.template.resources[].properties*": text},
			other: map[string][]any{"properties.mode": {"Complete", "incremental"}, "properties.template.resources[].type": {"Microsoft.Network/publicIPAddresses", "Microsoft.Resources/deployments", "No.Such/things"}},
			same:  map[string]string{"type": "what it is", "properties.provisioningState": "what is not possible is refused", "properties.parameters.p.type": "the template says it"}},
	}
}

// setWriters: what is done to instances of a scale set, and its model's extensions.
func setWriters(c *castle, sub string) []writer {
	const kind = "/providers/Microsoft.Compute/virtualMachineScaleSets/"
	var model string
	for _, k := range armKinds(sub) {
		if strings.HasSuffix(k.name, "/virtualMachineScaleSets") {
			model = strings.Replace(k.body, `"capacity":1`, `"capacity":2`, 1)
		}
	}
	set := func(n string) string { return c.put(sub+"/resourceGroups/RG"+kind+n, model) }
	was := map[string]any{}
	etag := func(set, i string) any { return c.leaf(set+"/virtualMachines/"+i, "etag") }
	var out []writer
	for _, verb := range []string{"start", "powerOff", "deallocate", "restart", "manualupgrade", "delete"} {
		row := "arm.scaleSets." + verb
		if verb == "manualupgrade" || verb == "delete" {
			row += "Instances"
		}
		out = append(out, writer{rows: row, target: func(n string) string {
			at := set(n)
			if verb == "manualupgrade" { // the model has news
				c.put(at, strings.Replace(model, `"autoUpgradeMinorVersion":true`, `"autoUpgradeMinorVersion":false`, 1))
			}
			was["0"], was["1"] = etag(at, "0"), etag(at, "1")
			return at + "/" + verb
		}, body: `{"instanceIds":["0"]}`, other: map[string][]any{"instanceIds[]": {"1", "*", "7", "", "00", "٠"}}, effect: map[string]func(asked) bool{"instanceIds[]": func(it asked) bool {
			at := strings.TrimSuffix(it.target, "/"+verb)
			for _, i := range []string{"0", "1"} {
				if changed := etag(at, i) != was[i]; changed != (it.value == i || it.value == "*") {
					return false
				}
			}
			return true
		}}})
	}
	return append(out, writer{rows: "arm.scaleSetExtensions.put", target: func(n string) string { return set(n) + "/extensions/AADSSHLoginForLinux" },
		body:  `{"properties":{"publisher":"Microsoft.Azure.ActiveDirectory","type":"AADSSHLoginForLinux","typeHandlerVersion":"1.0","autoUpgradeMinorVersion":true}}`,
		views: []view{{at: itself}, {}}, other: map[string][]any{"properties.typeHandlerVersion": {"2.0"}},
		same: map[string]string{"type": "what it is", "name": "it has the name that it is known by"}})
}

// ownWriters: what Azure has not.
func ownWriters(c *castle) []writer {
	const own = "/providers/Sallyport.Access/"
	fixed := func(path string) func(string) string { return func(string) string { return own + path } }
	c.packages("1.0", "2.0")
	const signed = "what it holds is signed: TestManifest_KeyOnAnotherComputer changes it"
	upgrade := func(n string) string {
		list, _ := at(c.send("GET", versioned(own+"agentUpgrades"), nil, nil).body, "value")
		for _, u := range list.([]any) { // one may be open at a time
			id, _ := at(u, "id")
			c.send("POST", versioned(fmt.Sprint(id)+"/cancel"), nil, nil)
		}
		return own + "agentUpgrades/" + n
	}
	settings := writer{rows: "arm.tenantSettings.patch", target: fixed("tenantSettings/default"), views: []view{{at: itself}, {}}, same: map[string]string{"id": "there is one", "name": "as id", "type": "as id"},
		body:  `{"properties":{"allowPasswordGrant":true,"allowDeviceCode":false,"allowPreviewLogin":true,"longestSessionMinutes":60,"offlineUserSeconds":7200,"offlineAdministratorSeconds":3600}}`,
		other: map[string][]any{"properties.longestSessionMinutes": {float64(0), float64(-1), 1e12, 1.5}, "properties.offlineUserSeconds": {float64(0), 1e12}, "properties.offlineAdministratorSeconds": {7201.0}}}
	return []writer{settings,
		{rows: "arm.auditRetention.put", target: fixed("auditRetention"), body: `{"days":60}`, views: []view{{at: itself}, {}}, same: map[string]string{"forEver": "tried with 0 below"},
			other: map[string][]any{"days": {float64(29), float64(36501), float64(-1), 1.5, 1e20}}},
		{rows: "arm.agentUpgrades.put", once: "an upgrade that has begun is another one", target: upgrade, body: `{"properties":{"version":"1.0","rings":["ring=1","25%","all"],"soakSeconds":60,"waitSeconds":300,"timeoutSeconds":600,"maximumFailures":1}}`,
			views: []view{{at: itself}, {}, {at: func(string) string { return own + "agentUpgrades" }, list: true}},
			other: map[string][]any{"properties.version": {"2.0", "3.0", "../1.0"}, "properties.rings[]": {"10%", "0%", "101%", "ring=2", "=", "+5%", "ring=a\u0000"}, "properties.soakSeconds": {0.0, -1.0, 1e12, 1.5}, "properties.waitSeconds": {-1.0, 1e12},
				"properties.timeoutSeconds": {0.0, 1e12}, "properties.maximumFailures": {-1.0, 1e12}},
			same: map[string]string{"type": "each is tested by itself", "properties.state": "no machine joins here", "properties.reason": "as state", "properties.ringNumber": "as state", "properties.throughSince": "as state", "properties.counts*": "as state", "properties.machines": "as state", "properties.createdBy": "the administrator asks for all"}},
		{rows: "arm.keys.rotate", target: fixed("rotateKey"), body: `{"purpose":"snapshot","compromised":false,"force":true,"afterSeconds":5}`, refused: "a rotation changes what every other request is proven with: TestRotate does it"},
		{rows: "arm.keys.applyManifest", target: fixed("applyManifest"), body: `{"manifestKey":"AAAA","envelope":{"payload":"AAAA"}}`, refused: signed},
		{rows: "arm.restore.confirm", target: fixed("confirmRestore"), body: `{"restoreId":"x"}`, refused: "nothing was restored here: TestRestore_EndsWhatWasIssued confirms"},
	}
}

// packages gives the deployment a folder of packages of some versions.
func (c *castle) packages(versions ...string) {
	c.t.Helper()
	folder := filepath.Join(c.t.TempDir(), "packages")
	c.must(os.Mkdir(folder, 0o755))
	for _, v := range versions {
		for _, name := range []string{"sallyport", "sallyport-agent"} {
			c.must(os.WriteFile(filepath.Join(folder, name+"_"+v+"-1_amd64.deb"), debOf(c, name, v), 0o644))
		}
	}
	if c.d.store.Shared() {
		c.must(c.d.keys.AddRepository())
	}
	c.d.cfg.Packages = folder
	c.must(c.d.openPackages())
	c.must(c.d.enlistRepository(c.t.Context()))
}

// debOf is a package with nothing in it but its name.
func debOf(c *castle, name, v string) []byte {
	control := "Package: " + name + "\nVersion: " + v + "-1\nArchitecture: amd64\nMaintainer: M <m@corp.example>\nDescription: words\n"
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	files := tar.NewWriter(z)
	c.must(files.WriteHeader(&tar.Header{Name: "./control", Mode: 0o644, Size: int64(len(control)), Typeflag: tar.TypeReg}))
	_, err := files.Write([]byte(control))
	c.must(err)
	c.must(files.Close())
	c.must(z.Close())
	out := []byte("!<arch>\n")
	for _, m := range []struct {
		name string
		body []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", packed.Bytes()}, {"data.tar.gz", []byte("data")}} {
		out = fmt.Appendf(out, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.name, 0, 0, 0, 0o644, len(m.body))
		out = append(out, m.body...)
		if len(m.body)%2 == 1 {
			out = append(out, '\n')
		}
	}
	return out
}
