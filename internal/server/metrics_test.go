package server

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// kinds are the metrics that a server has, with their types, as it writes them.
func kinds(t *testing.T) map[string]string {
	t.Helper()
	d := rig(t, time.Now)
	d.measure()
	var out strings.Builder
	if err := d.meter.registry.Write(&out); err != nil {
		t.Fatal(err)
	}
	kind := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)`).FindAllStringSubmatch(out.String(), -1) {
		kind[m[1]] = m[2]
	}
	return kind
}

// Names follow Prometheus's conventions: a prefix, base units, _total for
// counters alone.
func TestMetrics_AreNamedAfterTheConventions(t *testing.T) {
	for name, kind := range kinds(t) {
		if !regexp.MustCompile(`^(sallyport|go)_[a-z]+(_[a-z]+)*$`).MatchString(name) {
			t.Errorf("%s", name)
		}
		if strings.HasSuffix(name, "_total") != (kind == "counter") {
			t.Errorf("%s is a %s", name, kind)
		}
		if regexp.MustCompile(`_(ms|milliseconds|micros|minutes|hours|days|kb|mb|percent|bucket|count|sum|info)$|_(counter|gauge|histogram)(_|$)`).MatchString(name) {
			t.Errorf("%s: not a base unit, or the type in the name", name)
		}
		if strings.Contains(name, "duration") && !strings.HasSuffix(name, "_seconds") || strings.Contains(name, "timestamp") && !strings.HasSuffix(name, "_timestamp_seconds") {
			t.Errorf("%s: a time without its unit", name)
		}
	}
}

// The packaged alerts and the dashboard ask only for what exists, and each alert
// has its paragraph of what to do.
func TestMetrics_AlertsAndDashboardNameWhatThereIs(t *testing.T) {
	kind := kinds(t)
	read := func(path string) string {
		t.Helper()
		b, err := os.ReadFile("../../" + path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	alerts, dashboard, docs := read("packaging/prometheus/alerts.yml"), read("packaging/grafana/sallyport.json"), read("docs/operations.md")
	for where, text := range map[string]string{"alerts.yml": alerts, "sallyport.json": dashboard} {
		names := regexp.MustCompile(`\b(?:sallyport|go)_[a-z_]+\b`).FindAllString(text, -1)
		if len(names) < 8 {
			t.Errorf("%s names %d metrics", where, len(names))
		}
		for _, name := range names {
			base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
			if kind[name] == "" && kind[base] != "histogram" {
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(dashboard), &board); err != nil || len(board.Panels) == 0 {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		if len(p.Targets) == 0 || p.Targets[0].Expr == "" {
			t.Errorf("panel %q shows nothing", p.Title)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^      - alert: (\S+)$`).FindAllStringSubmatch(alerts, -1) {
		if !strings.Contains(docs, "| `"+m[1]+"` |") {
			t.Errorf("docs/operations.md does not say what to do about %s", m[1])
		}
	}
}
