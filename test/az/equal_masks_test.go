//go:build e2e

package az

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// jsonDifferences names members that are not the same, as PATH: what az and sally have.
func jsonDifferences(x, y any, path string) []string {
	var out []string
	switch a := x.(type) {
	case map[string]any:
		b, ok := y.(map[string]any)
		if !ok {
			break
		}
		for key := range a {
			if _, there := b[key]; !there {
				out = append(out, fmt.Sprintf("%s.%s: only az: %v", path, key, a[key]))
			} else {
				out = append(out, jsonDifferences(a[key], b[key], path+"."+key)...)
			}
		}
		for key := range b {
			if _, there := a[key]; !there {
				out = append(out, fmt.Sprintf("%s.%s: only sally: %v", path, key, b[key]))
			}
		}
		slices.Sort(out)
		return out
	case []any:
		b, ok := y.([]any)
		if !ok || len(a) != len(b) {
			break
		}
		for i := range a {
			out = append(out, jsonDifferences(a[i], b[i], fmt.Sprintf("%s[%d]", path, i))...)
		}
		return out
	}
	if fmt.Sprint(x) != fmt.Sprint(y) {
		out = append(out, fmt.Sprintf("%s: az %v, sally %v", path, x, y))
	}
	return out
}

// What is never the same in two new things, at the same width.
var (
	guids = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	fresh = map[*regexp.Regexp]string{
		regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?`): "TIME",
		regexp.MustCompile(`W/\\?"[0-9a-f]+-[0-9a-f]+`):              "ETAG",
		regexp.MustCompile(`sps_[A-Za-z0-9_~-]+`):                    "SECRET",
		regexp.MustCompile(`([0-9A-F]{2}-){5}[0-9A-F]{2}`):           "MAC",
		regexp.MustCompile(`\b(10|127)(\.\d+){3}\b`):                 "ADDRESS",
	}
)

// masked replaces what belongs to one of the two: its token, times and addresses,
// and ids that the other one does not have, by the order in which they come.
func masked(text, other, token string) string {
	text = strings.ReplaceAll(text, token, "0~~")
	for pattern, name := range fresh {
		text = pattern.ReplaceAllString(text, name)
	}
	seen := map[string]string{}
	return guids.ReplaceAllStringFunc(text, func(id string) string {
		if strings.Contains(other, id) {
			return id
		}
		if seen[id] == "" {
			seen[id] = fmt.Sprintf("ID%034d", len(seen)+1)
		}
		return seen[id]
	})
}
