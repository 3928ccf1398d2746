package cli

import (
	"strings"
	"testing"

	"sallyport/internal/cloud"
)

func TestPrintAzSetup_OneAddressSetsAz(t *testing.T) {
	const url = "https://login.corp.example"
	for name, c := range map[string]struct {
		cloud    string
		root     []byte
		debian   bool
		has, not []string
	}{
		"own root":     {root: []byte("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"), has: []string{"\nAA==\n", "export REQUESTS_CA_BUNDLE=", "ca-certificates.crt", "core.instance_discovery=false", "--endpoint-resource-manager '" + url + "'"}, not: []string{"/adfs"}},
		"public chain": {has: []string{"core.instance_discovery=false", "'" + url + "'"}, not: []string{"REQUESTS_CA_BUNDLE", "/adfs"}},
		"Debian":       {debian: true, has: []string{`"activeDirectory":"` + url + `/adfs"`, `"profile":"2020-09-01-hybrid"`}, not: []string{"instance_discovery", "az cloud set"}},
		"Government":   {cloud: "AzureUSGovernment", has: []string{"az cloud update --name AzureUSGovernment --only-show-errors --endpoint-resource-manager '" + url + "'\naz cloud set --name AzureUSGovernment"}, not: []string{"--name AzureCloud"}},
		"China":        {cloud: "AzureChinaCloud", debian: true, has: []string{"az cloud update --name AzureChinaCloud --only-show-errors --cloud-config", "az cloud set --name AzureChinaCloud"}, not: []string{"--name AzureCloud"}},
	} {
		text, err := azScript(url, cloud.Of(c.cloud).Name, c.root, c.debian)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range c.has {
			if !strings.Contains(text, word) {
				t.Errorf("%s lacks %q: %s", name, word, text)
			}
		}
		for _, word := range c.not {
			if strings.Contains(text, word) {
				t.Errorf("%s has %q: %s", name, word, text)
			}
		}
	}
}

// A server says its own URL; the shell that evaluates the script must not obey it.
func TestPrintAzSetup_NoURLEndsTheQuotes(t *testing.T) {
	for url, safe := range map[string]bool{
		"https://login.corp.example": true, "https://127.0.0.1:8443": true, "https://[::1]:8443": true,
		"https://x'; touch /x; '": false, "https://x$(id)": false, "https://x\ny": false, "http://x": false,
	} {
		if shellSafe.MatchString(url) != safe {
			t.Errorf("%q: safe is not %v", url, safe)
		}
	}
}
