package scope

import (
	"slices"
	"strings"
	"testing"
)

func TestParse_CanonicalAndParents(t *testing.T) {
	for _, tc := range []struct{ in, text, typ, parent string }{
		{"/", "/", "", ""},
		{"/subscriptions/S", "/subscriptions/S", "Microsoft.Resources/subscriptions", ""},
		{"/subscriptions/S/resourcegroups/RG", "/subscriptions/S/resourceGroups/RG", "Microsoft.Resources/resourceGroups", "/subscriptions/S"},
		{"/Subscriptions/s/resourceGroups/rg/Providers/Microsoft.Compute/virtualMachines/vm", "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm",
			"Microsoft.Compute/virtualMachines", "/subscriptions/s/resourceGroups/rg"},
		{"/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm/extensions/x", "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm/extensions/x",
			"Microsoft.Compute/virtualMachines/extensions", "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm"},
		{"/providers/Microsoft.Management/managementGroups/mg", "/providers/Microsoft.Management/managementGroups/mg", "Microsoft.Management/managementGroups", ""},
		{"/subscriptions/s/providers/Microsoft.Authorization/roleAssignments/a", "/subscriptions/s/providers/Microsoft.Authorization/roleAssignments/a", "Microsoft.Authorization/roleAssignments", "/subscriptions/s"},
	} {
		id, err := Parse(tc.in)
		if err != nil {
			t.Fatalf("%s: %v", tc.in, err)
		}
		if id.String() != tc.text || id.Type() != tc.typ {
			t.Errorf("%s: text %q type %q", tc.in, id, id.Type())
		}
		up, ok := id.Parent()
		if ok != (tc.parent != "") || up.String() != tc.parent {
			t.Errorf("%s: parent %q %v, want %q", tc.in, up, ok, tc.parent)
		}
	}
}

func TestParse_Refuses(t *testing.T) {
	for _, s := range []string{"x", "/subscriptions", "/subscriptions/s/resourceGroups", "/subscriptions/s/other/x", "/subscriptions/s/providers/A", "/subscriptions/s/providers/A/b",
		"/subscriptions/../x", "/subscriptions/s/resourceGroups/a%2fb", "/subscriptions/s//x", "/subscriptions/s\n", "/" + strings.Repeat("a", 3000)} {
		if id, err := Parse(s); err == nil {
			t.Errorf("%q was accepted as %q", s, id)
		}
	}
}

// A name "providers" would make one id readable as another: the child of a
// machine of that name looked like a resource of another type.
func TestParse_NoNameIsProviders(t *testing.T) {
	const rg = "/subscriptions/s/resourceGroups/rg"
	for _, s := range []string{
		"/subscriptions/providers", "/subscriptions/s/resourceGroups/providers", "/subscriptions/s/resourceGroups/PROVIDERS/providers/A.B/c/d",
		rg + "/providers/A.B/c/providers", rg + "/providers/A.B/c/Providers/d/e", rg + "/providers/A.B/c/d/e/providers", rg + "/providers/providers/c/d",
	} {
		if id, err := Parse(s); err == nil {
			t.Errorf("%q was accepted as %q of type %q", s, id, id.Type())
		}
	}
}

func TestParent_UpToWhereTheTreeBegins(t *testing.T) {
	id, _ := Parse("/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm")
	var got []string
	for ok := true; ok; id, ok = id.Parent() {
		got = append(got, id.Key())
	}
	want := "/subscriptions/s/resourcegroups/rg/providers/microsoft.compute/virtualmachines/vm /subscriptions/s/resourcegroups/rg /subscriptions/s"
	if strings.Join(got, " ") != want {
		t.Fatalf("got %v", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("/subscriptions/s/resourceGroups/rg/providers/A.B/c/d")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(id.String())
		if err != nil || again != id {
			t.Fatalf("%q -> %q -> %q %v", s, id, again, err)
		}
		for up, ok := id.Parent(); ok; up, ok = up.Parent() {
			if len(up.Key()) >= len(id.Key()) {
				t.Fatalf("%q is above %q", up, id)
			}
		}
		_ = id.Type() + id.Name() + id.ResourceGroupName()
	})
}

// Enclosing is Parent said once.
func checkEnclosing(t *testing.T, id ID) {
	t.Helper()
	var want []ID
	for up, ok := id, true; ok; up, ok = up.Parent() {
		want = append(want, up)
	}
	if got := id.Enclosing(nil); !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", id, got, want)
	}
}

func TestEnclosing_IsEveryParent(t *testing.T) {
	vm := "/subscriptions/S/resourceGroups/RG/providers/Microsoft.Compute/virtualMachines/vm"
	for _, text := range []string{
		"/", "/microsoft.directory", "/subscriptions/S", "/subscriptions/S/resourceGroups/RG", vm, vm + "/extensions/x", vm + "/providers/Sallyport.Access/machines/default", vm + "/extensions/x/providers/A/b/c/d/e",
		"/subscriptions/S/providers/A/b/c", "/providers/Microsoft.Management/managementGroups/m", "/providers/Microsoft.Management/managementGroups/m/subscriptions/s",
		"/providers/Microsoft.Management/managementGroups/m/providers/A/b/c", "/providers/A/b/c", "/providers/A/b/c/d/e/providers/F/g/h", "/providers/A" + strings.Repeat("/b/c", 50), "/subscriptions/S/resourceGroups/RG" + strings.Repeat("/providers/A/b/c", 40),
	} {
		id, err := Parse(text)
		if err != nil {
			t.Fatal(text, err)
		}
		checkEnclosing(t, id)
	}
	checkEnclosing(t, ID{})
	checkEnclosing(t, Subscription(""))
	checkEnclosing(t, ManagementGroup(""))
}

func FuzzEnclosing(f *testing.F) {
	f.Add("/subscriptions/S/resourceGroups/RG/providers/A/b/c/d/e/providers/F/g/h")
	f.Add("/providers/Microsoft.Management/managementGroups/m/providers/A/b/c")
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := Parse(text); err == nil {
			checkEnclosing(t, id)
		}
	})
}
