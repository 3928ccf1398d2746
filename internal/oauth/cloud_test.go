package oauth

import (
	"errors"
	"strings"
	"testing"

	"sallyport/internal/cloud"
	"sallyport/internal/directory"
)

// TestParseScope_OfEachCloud: a deployment answers to the names of its own cloud
// and to its own address, and another cloud's names are nobody's.
func TestParseScope_OfEachCloud(t *testing.T) {
	for _, own := range cloud.All() {
		s := New(Config{URL: "https://h.test", Cloud: own, Directory: tenantOnly{}})
		for _, c := range cloud.All() {
			names := map[string]Resource{c.Scope(): SSH}
			for _, m := range c.Management {
				names[m+"/.default"], names[m+"//.default"] = ARM, ARM
			}
			for _, g := range c.Graph {
				names[g+"/.default"], names[g+"/User.Read"] = Graph, Graph
			}
			for text, want := range names {
				sc, err := s.parseScope(text, directory.AzureCLI)
				if c.Name == own.Name {
					if err != nil || sc.Resource != want {
						t.Errorf("%s: %s: %+v %v", own.Name, text, sc, err)
					}
					continue
				}
				var refused *Error
				if !errors.As(err, &refused) || sc.Resource != NoResource {
					t.Errorf("%s takes %s of %s: %+v", own.Name, text, c.Name, sc)
				} else if want == SSH && (refused.Number != 70011 || !strings.Contains(refused.Text, own.Scope()) || !strings.Contains(refused.Text, own.Name)) {
					t.Errorf("%s: %s", own.Name, refused.Text)
				}
			}
		}
		if sc, err := s.parseScope("User.Read", directory.AzureCLI); err != nil || sc.Audience != own.Graph[0] {
			t.Errorf("%s: User.Read: %+v %v", own.Name, sc, err)
		}
		if sc, err := s.parseScope("https://h.test/arm/.default", directory.AzureCLI); err != nil || sc.Resource != ARM {
			t.Errorf("%s: its own address: %+v %v", own.Name, sc, err)
		}
	}
}
