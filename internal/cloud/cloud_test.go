package cloud

import (
	"slices"
	"strings"
	"testing"
)

func TestNamed(t *testing.T) {
	for name, want := range map[string]string{"": "AzureCloud", "azurecloud": "AzureCloud", "AZUREUSGOVERNMENT": "AzureUSGovernment", "AzureChinaCloud": "AzureChinaCloud"} {
		if c, ok := Named(name); !ok || c.Name != want || Of(name).Name != want {
			t.Errorf("%q: %v %v", name, c.Name, ok)
		}
	}
	for _, name := range []string{"AzureGermanCloud", "azure", " AzureCloud", "AzureCloud/"} {
		if _, ok := Named(name); ok {
			t.Errorf("%q is known", name)
		}
	}
}

// TestAll_NothingIsShared: a name of one cloud is never another's, or its tokens
// and certificates would be.
func TestAll_NothingIsShared(t *testing.T) {
	var seen []string
	for _, c := range All() {
		for _, name := range append(append([]string{c.Name, c.Environment + "!", c.Instance, c.SSH}, c.Management...), c.Graph...) {
			if name == "" || strings.HasSuffix(name, "/") || slices.Contains(seen, strings.ToLower(name)) {
				t.Errorf("%s: %q", c.Name, name)
			}
			seen = append(seen, strings.ToLower(name))
		}
	}
	// What the ssh extension of az asks each cloud for.
	for name, scope := range map[string]string{"AzureCloud": "https://pas.windows.net/CheckMyAccess/Linux/.default", "AzureUSGovernment": "https://pasff.usgovcloudapi.net/CheckMyAccess/Linux/.default", "AzureChinaCloud": "https://pas.chinacloudapi.cn/CheckMyAccess/Linux/.default"} {
		if got := Of(name).Scope(); got != scope {
			t.Errorf("%s: %s", name, got)
		}
	}
}
