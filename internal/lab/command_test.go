package lab

import (
	"fmt"
	"testing"

	"sallyport/internal/fault"
)

func TestParseRootFS(t *testing.T) {
	for name, tc := range map[string]struct {
		values []string
		want   string
	}{
		"one without a name": {[]string{"/a:/b"}, "map[debian12:[/a /b]]"},
		"equals in a path":   {[]string{"/a=b"}, "map[debian12:[/a=b]]"},
		"three":              {[]string{"debian11=/a", "debian12=/b:/c", "debian13=/d"}, "map[debian11:[/a] debian12:[/b /c] debian13:[/d]]"},
	} {
		if got, err := parseRootFS(tc.values); err != nil || fmt.Sprint(got) != tc.want {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	for _, values := range [][]string{{"debian10=/a"}, {"=/a"}, {"debian12=/a", "/b"}} {
		if _, err := parseRootFS(values); !fault.Is(err, fault.Invalid) {
			t.Errorf("%v: %v", values, err)
		}
	}
}
