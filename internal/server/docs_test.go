package server

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// docs/operations.md names every setting, metric and check, and none that does
// not exist.
func TestDocs_NameWhatThereIs(t *testing.T) {
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for key, flag := range settingKeys() {
		if !strings.Contains(text, fmt.Sprintf("| `%s` | `--%s` |", key, flag)) {
			t.Errorf("setting %s is not in the table", key)
		}
	}
	d := rig(t, time.Now)
	d.measure()
	var out strings.Builder
	if err := d.meter.registry.Write(&out); err != nil {
		t.Fatal(err)
	}
	exist := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+)`).FindAllStringSubmatch(out.String(), -1) {
		exist[m[1]] = true
		if !strings.Contains(text, "`"+m[1]+"`") {
			t.Errorf("metric %s is not in the table", m[1])
		}
	}
	for _, name := range regexp.MustCompile(`\b(?:sallyport|go)_[a-z_]+\b`).FindAllString(text, -1) {
		if !exist[name] {
			t.Errorf("metric %s does not exist", name)
		}
	}
	for check := range d.ready(t.Context()) {
		if !strings.Contains(text, "| `"+check+"` |") {
			t.Errorf("check %s is not in the table", check)
		}
	}
}
