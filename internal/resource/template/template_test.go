package template

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/scope"
)

const groupID = "/subscriptions/22222222-2222-4222-8222-222222222222/resourceGroups/RG"

func env(t testing.TB) Env {
	t.Helper()
	id, err := scope.Parse(groupID)
	if err != nil {
		t.Fatal(err)
	}
	return Env{Group: id, Location: "southcentralus", Tenant: "t-1", Name: "d1", Versions: func(kind string) []string {
		if kind == "Microsoft.Compute/virtualMachines" {
			return []string{"2026-04-01", "2020-06-01"}
		}
		return nil
	}}
}

func parse(t testing.TB, text string) Template {
	t.Helper()
	var out Template
	if err := Read([]byte(text), &out); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return out
}

// What Azure's template functions give for these arguments, after the examples of
// the Azure Resource Manager reference of template functions.
func TestExpression_Functions(t *testing.T) {
	steps := 0
	e := env(t)
	s := scopeOf{env: &e, steps: &steps, loops: map[string]int{"l": 2}, loop: "l",
		parameters: map[string]any{"name": "myVM", "list": []any{"a", "b"}}, variables: map[string]any{"v": "[concat(parameters('name'), '-x')]"}}
	for text, want := range map[string]string{
		"plain": `"plain"`, "[[x]": `"[x]"`, "[concat('a', 'b', 1)]": `"ab1"`, "[concat(parameters('list'), parameters('list'))]": `["a","b","a","b"]`,
		"[variables('V')]": `"myVM-x"`, "[parameters('LIST')[1]]": `"b"`, "[length(parameters('list'))]": `2`, "[toLower('AbC')]": `"abc"`,
		"[format('{0}/{1}', 'a', 3)]": `"a/3"`, "[if(equals(1, 1), 'y', parameters('none'))]": `"y"`, "[resourceGroup().location]": `"southcentralus"`,
		"[resourceId('Microsoft.Network/virtualNetworks/subnets', 'n', 's')]": `"` + groupID + `/providers/Microsoft.Network/virtualNetworks/n/subnets/s"`,
		"[resourceId('Other', 'Microsoft.Network/virtualNetworks', 'n')]":     `"` + strings.Replace(groupID, "/RG", "/Other", 1) + `/providers/Microsoft.Network/virtualNetworks/n"`,
		"[copyIndex()]": `2`, "[copyIndex(5)]": `7`, "[copyIndex('l', 1)]": `3`, "[add(3, 4)]": `7`, "[mul(3, -4)]": `-12`, "[substring('hello', 1, 3)]": `"ell"`,
		"[contains('one', 'n')]": `true`, "[empty('')]": `true`, "[and(true(), false())]": `false`, "[or(true(), false())]": `true`, "[not(bool('False'))]": `true`,
		"[split('a,b', ',')]": `["a","b"]`, "[join(createArray('a', 'b'), '-')]": `"a-b"`, "[json('{\"a\":1}').a]": `1`, "[string(parameters('list'))]": `"[\"a\",\"b\"]"`,
		"[coalesce(null(), 'x')]": `"x"`, "[first('abc')]": `"a"`, "[base64('one, two')]": `"b25lLCB0d28="`, "[union(createObject('a', 1), createObject('b', 2))]": `{"a":1,"b":2}`,
		"['it''s']": `"it's"`, "[range(3, 2)]": `[3,4]`, "[subscription().subscriptionId]": `"22222222-2222-4222-8222-222222222222"`, "[deployment().name]": `"d1"`,
		"[providers('Microsoft.Compute', 'virtualMachines').apiVersions[0]]": `"2026-04-01"`,
	} {
		v, err := s.value(text)
		got, _ := json.Marshal(v)
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
	for text, words := range map[string]string{
		"[nosuch('a')]": "nosuch", "[providers('Microsoft.Compute', 'disks')]": "disks", "[providers('Microsoft.Compute')]": "providers", "[concat('a']": "parse", "[parameters('x')]": "'x' is not found", "[variables('x')]": "'x' is not found", "[concat('a').b]": "can't be read",
		"[substring('abc', 2, 9)]": "substring", "[add('a', 1)]": "add", "[resourceGroup().nosuch]": "nosuch", "[copyIndex('other')]": "copyIndex", "[1 2]": "parse", "[]": "parse",
		"[div(1, 0)]": "div", "[range(0, 100000)]": "range", "[" + strings.Repeat("concat(", 100) + "'x'" + strings.Repeat(")", 100) + "]": "parse",
		"[replace('" + strings.Repeat("a", 2000) + "', 'a', '" + strings.Repeat("b", 2000) + "')]": "replace",
	} {
		if v, err := s.value(text); err == nil || !strings.Contains(fault.As(err).Text, words) {
			t.Errorf("%s gave %v, %v; want an error with %q", text, v, err, words)
		}
	}
}

// A variable that is its own, and one that doubles fifty times, end with an error.
func TestExpression_WorkIsBounded(t *testing.T) {
	for _, variables := range []string{`{"a": "[variables('a')]"}`, `{"a": "[concat(variables('b'), variables('b'))]", "b": "[concat(variables('c'), variables('c'))]", "c": "[variables('b')]"}`} {
		tpl := parse(t, `{"variables": `+variables+`, "resources": [{"type": "A.B/c", "name": "[variables('a')]"}]}`)
		if _, err := New(tpl, nil, env(t)); err == nil || fault.As(err).Code != "InvalidTemplate" {
			t.Errorf("%s: %v", variables, err)
		}
	}
}

// What is small until it is written out, and what looks at everything for each
// item: little time and memory passes until it is refused.
func TestTemplate_BombsAreRefused(t *testing.T) {
	big, many := strings.Repeat("x", 1<<20), "["+strings.TrimSuffix(strings.Repeat("0,", 300_000), ",")+"]"
	texts := `"parameters": {"big": {"type": "string"}, "many": {"type": "array"}}`
	output := func(value string) string {
		return `{` + texts + `, "outputs": {"o": {"type": "array", "value": "` + value + `"}}}`
	}
	doubles := `"p10": {"type": "array", "defaultValue": ["` + big[:100] + `"]}`
	for i := 11; i < 70; i++ {
		doubles += fmt.Sprintf(`, "p%d": {"type": "array", "defaultValue": "[createArray(parameters('p%d'), parameters('p%d'))]"}`, i, i-1, i-1)
	}
	lazy := `"[if(false(), concat(` + strings.TrimSuffix(strings.Repeat("1,", 10_000), ",") + `), variables('n'))]"`
	for name, text := range map[string]string{
		"format":     output("[format('" + strings.Repeat("{0}", 7_000) + "', parameters('big'))]"),
		"values":     output("[format('x'" + strings.Repeat(", 1", 5_000) + ")]"),
		"join":       output("[join(parameters('many'), parameters('big'))]"),
		"split":      output("[split(parameters('big'), '')]"),
		"concat":     output("[length(concat(" + strings.TrimSuffix(strings.Repeat("parameters('big'),", 1_000), ",") + "))]"),
		"string":     output("[length(string(createArray(" + strings.TrimSuffix(strings.Repeat("parameters('big'),", 1_000), ",") + ")))]"),
		"equals":     output("[createArray(" + strings.TrimSuffix(strings.Repeat("equals(parameters('many'), parameters('many')),", 500), ",") + ")]"),
		"doubles":    `{"parameters": {` + doubles + `}}`,
		"branches":   `{"variables": {"n": 1, "v": ` + lazy + `}, "outputs": {"o": {"type": "array", "value": "[createArray(` + strings.TrimSuffix(strings.Repeat("variables('v'),", 1_500), ",") + `)]"}}}`,
		"references": `{` + texts + `, "outputs": {"o": {"type": "array", "value": ["` + strings.Repeat(`[reference('/subscriptions/s').x]", "`, 10_000) + `"]}}}`,
		"long":       output("[" + strings.Repeat(" ", 30_000) + "1]"),
		"body":       `{` + texts + `, "resources": [{"type": "A.B/c", "name": "x", "properties": {"a": "[parameters('big')]", "b": "[parameters('big')]"}}]}`,
	} {
		given := map[string]json.RawMessage{}
		if strings.Contains(text, texts) {
			given["big"], given["many"] = json.RawMessage(`{"value":"`+big+`"}`), json.RawMessage(`{"value":`+many+`}`)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p, err := New(parse(t, text), given, env(t))
		read := func(scope.ID, bool) (any, error) { return map[string]any{"x": 1}, nil }
		if err == nil && len(p.Resources) > 0 {
			_, err = p.Resources[0].Body(p, read)
		} else if err == nil {
			_, err = p.Outputs(read)
		}
		runtime.ReadMemStats(&after)
		if err == nil || fault.As(err).Code != "InvalidTemplate" {
			t.Errorf("%s: %v", name, err)
		}
		if made := (after.TotalAlloc - before.TotalAlloc) >> 20; made > 1024 {
			t.Errorf("%s: %d MB were made", name, made)
		}
	}
	// Looking once at everything is no bomb, and neither is taking items out of it.
	for text, want := range map[string]string{"[length(union(parameters('many'), createArray('0', 0, 1)))]": "3", "[add(parameters('many')[7], length(range(0, 9)))]": "9"} {
		p, err := New(parse(t, output(text)), map[string]json.RawMessage{"big": json.RawMessage(`{"value":""}`), "many": json.RawMessage(`{"value":` + many + `}`)}, env(t))
		if err != nil {
			t.Fatal(err)
		}
		if out, err := p.Outputs(nil); err != nil || fmt.Sprint(out["o"].(map[string]any)["value"]) != want {
			t.Errorf("%s: %v, %v", text, out, err)
		}
	}
}

const machines = `{
  "parameters": {"name": {"type": "string"}, "key": {"type": "secureString", "defaultValue": "s3cret"}, "size": {"type": "int", "defaultValue": 2, "allowedValues": [1, 2]}},
  "resources": [
    {"type": "Microsoft.Authorization/roleAssignments", "name": "[guid(parameters('name'))]", "properties": {"principalId": "[reference(resourceId('Microsoft.Compute/virtualMachines', parameters('name')), '2024-01-01', 'Full').identity.principalId]"}},
    {"type": "Microsoft.Compute/virtualMachines", "name": "[parameters('name')]", "apiVersion": "2022-01-01", "dependsOn": ["Microsoft.Network/networkINTERFACES/nic0", "nics"], "properties": {"secret": "[parameters('key')]", "nothing": null},
     "resources": [{"type": "extensions", "name": "login", "properties": {}}]},
    {"type": "Microsoft.Network/networkInterfaces", "name": "[concat('nic', copyIndex())]", "copy": {"name": "nics", "count": "[parameters('size')]"}, "properties": {"n": "[copyIndex()]"}},
    {"type": "Microsoft.Network/publicIPAddresses", "name": "off", "condition": "[equals(parameters('size'), 9)]"},
    {"type": "Microsoft.Compute/virtualMachines/providers/roleAssignments", "name": "[concat(parameters('name'), '/Microsoft.Authorization/', guid('b'))]", "dependsOn": ["[parameters('name')]"], "properties": {}}
  ],
  "outputs": {"who": {"type": "string", "value": "[reference(parameters('name')).x]"}, "hidden": {"type": "securestring", "value": "[parameters('key')]"}}
}`

func TestPlan_OrderAndBodies(t *testing.T) {
	p, err := New(parse(t, machines), map[string]json.RawMessage{"NAME": json.RawMessage(`{"value": "web"}`)}, env(t))
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	vm := -1
	for i, r := range p.Resources {
		order = append(order, strings.TrimPrefix(strings.TrimPrefix(r.ID.String(), groupID), "/providers/"))
		if r.ID.Type() == "Microsoft.Compute/virtualMachines" {
			vm = i
		}
	}
	text := strings.Join(order, " ")
	at := func(s string) int { return strings.Index(text, s) }
	if len(order) != 6 || at("networkInterfaces/nic1") > at("virtualMachines/web") || at("virtualMachines/web") > at("virtualMachines/web/extensions/login") || strings.Index(text, " Microsoft.Authorization/roleAssignments") < at("virtualMachines/web ") {
		t.Fatalf("the order is %s", text)
	}
	if at("Microsoft.Compute/virtualMachines/web/providers/Microsoft.Authorization/roleAssignments/") < 0 {
		t.Errorf("the older form of an assignment at a machine: %s", text)
	}
	read := func(id scope.ID, full bool) (any, error) {
		if full {
			return map[string]any{"identity": map[string]any{"principalId": "p-1"}}, nil
		}
		return map[string]any{"x": id.Name()}, nil
	}
	if b, err := p.Resources[vm].Body(p, read); err != nil || string(b) != `{"properties":{"secret":"s3cret"}}` {
		t.Errorf("body of the machine: %s, %v", b, err)
	}
	out, err := p.Outputs(read)
	shown, _ := json.Marshal(map[string]any{"o": out, "p": p.Parameters})
	if err != nil || strings.Contains(string(shown), "s3cret") || !strings.Contains(string(shown), `"who":{"type":"string","value":"web"}`) {
		t.Errorf("outputs and parameters: %s, %v", shown, err)
	}
}

func TestPlan_Refuses(t *testing.T) {
	one := func(more string) string {
		return `{"resources": [{"type": "A.B/c", "name": "x"` + more + `}]}`
	}
	for text, words := range map[string]string{
		one(`, "dependsOn": ["y"]`): "'y' is not defined", one(`, "dependsOn": ["x"]`): "Circular", one(`, "dependsOn": "y"`): "list of names", one(`, "resources": {}`): "list of resources", one(`, "resources": ["x"]`): "list of resources",
		one(`, "apiVersion": "latest"`): "is a date", one(`, "apiVersion": 20220101`): "is a date", one(`, "resourceGroup": "other"`): "one resource group",
		one(`}, {"type": "a.b/C", "name": "X"`): "multiple times", one(`, "condition": "yes"`): "condition", one(`, "copy": {"name": "l", "count": 9000}`): "count",
		one(`, "properties": {"copy": []}`): "'copy' inside", `{"resources": [{"type": "A.B/c"}]}`: "'name'", `{"resources": [{"type": "A.B/c/d", "name": "x"}]}`: "names",
		`{"parameters": {"p": {"type": "string"}}}`: "'p' is not provided", `{"parameters": {"p": {"type": "int", "defaultValue": "x"}}}`: "type 'int'",
		`{"functions": [{}]}`: "Functions", `{"resources": [{"type": "A.B/c", "name": ".."}]}`: "cannot be the id", `{"resources": [{"type": "A.B/c", "name": "[reference('y')]"}]}`: "'name'",
	} {
		if _, err := New(parse(t, text), nil, env(t)); err == nil || !strings.Contains(fault.As(err).Text, words) {
			t.Errorf("%s: %v; want %q", text, err, words)
		}
	}
	if _, err := New(parse(t, `{}`), map[string]json.RawMessage{"p": json.RawMessage(`{"value":1}`)}, env(t)); err == nil || !strings.Contains(err.Error(), "'p' is not found") {
		t.Errorf("a parameter too many: %v", err)
	}
}

// The body of az deployment group create (azure-wire-protocol.md, 9.12): the key
// "template" has no quotes, and the file's comments are in it.
func TestRead_WhatAzSends(t *testing.T) {
	var in struct {
		Properties struct {
			Mode     string
			Template Template
		}
	}
	body := "{\"properties\": {\"parameters\": {}, \"mode\": \"Incremental\", template:{ // a comment: \"x\"\n \"resources\": [{\"type\": \"A.B/c\", \"name\": \"not // a comment\" /* but: this */}]}\n}}"
	if err := Read([]byte(body), &in); err != nil || len(in.Properties.Template.Resources) != 1 || in.Properties.Template.Resources[0]["name"] != "not // a comment" {
		t.Fatalf("%+v: %v", in, err)
	}
	for _, bad := range []string{`{"a": 1} {"b": 2}`, `{`, `{a b: 1}`, `{"a": /* `, strings.Repeat("[", 100) + strings.Repeat("]", 100), ``, `{"a": 'x'}`} {
		var v any
		if err := Read([]byte(bad), &v); err == nil || fault.As(err).Kind != fault.Invalid {
			t.Errorf("%q: %v, %v", bad, v, err)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add(machines)
	f.Add(`{"resources": [{"type": "A.B/c", "name": "[concat('a', copyIndex())]", "copy": {"name": "l", "count": 3}}]}`)
	f.Add(`{template: {}, /* x */ "outputs": {"a": {"type": "string", "value": "[reference('x').y[0]]"}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var tpl Template
		if err := Read([]byte(text), &tpl); err != nil {
			if fault.As(err).Kind != fault.Invalid {
				t.Fatalf("not the client's fault: %v", err)
			}
			return
		}
		p, err := New(tpl, map[string]json.RawMessage{"name": json.RawMessage(`{"value":"x"}`)}, env(t))
		if err != nil {
			if fault.As(err).Kind != fault.Invalid {
				t.Fatalf("not the client's fault: %v", err)
			}
			return
		}
		read := func(scope.ID, bool) (any, error) { return nil, errors.New("nothing is here") }
		for _, r := range p.Resources {
			if !strings.HasPrefix(r.ID.Key(), "/") {
				t.Fatalf("an id %q", r.ID)
			}
			_, _ = r.Body(p, read)
		}
		_, _ = p.Outputs(read)
	})
}

// A sentence has a secret in it when its beginning stands there, in any case, cut or
// quoted; it has none where it only uses words that begin alike.
func TestPlan_Reveals(t *testing.T) {
	p, err := New(parse(t, `{"parameters": {"s": {"type": "secureString"}, "o": {"type": "secureObject"}}, "resources": []}`),
		map[string]json.RawMessage{"s": json.RawMessage(`{"value": "My \\ Pass\"word-Of-83-Lamps"}`), "o": json.RawMessage(`{"value": {"pin": 47110815, "deep": ["Meadow-Quartz"]}}`)}, env(t))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		`location 'my\pass"word-of-83-lamps' is none`: true, fmt.Sprintf("%q is none", `My \ Pass"word-Of-83-Lamps`): true, "'/subscriptions/x/My \\ Pa...' cannot be": true,
		"no JSON number 47110815": true, "'MEADOW-QUARTZ'": true, "'Mead'": true, "'Mea'": false, "my passport and the meadows": false, "": false,
	} {
		if p.Reveals(text) != want {
			t.Errorf("%s: %t", text, !want)
		}
	}
}

func TestOutputs_Named(t *testing.T) {
	for name, want := range map[string]string{"VMSS": "vmss", "IDCard": "idCard", "Name": "name", "storageId": "storageId", "A": "a", "aB": "aB", "X1": "x1", "_Y": "_Y"} {
		if got := camel(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
