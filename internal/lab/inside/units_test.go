package inside

import (
	"os"
	"strings"
	"testing"
)

func TestParseUnits_ReadsTheShippedList(t *testing.T) {
	text, err := os.ReadFile("../../../packaging/rootfs/sallyport-init.conf")
	if err != nil {
		t.Fatal(err)
	}
	units, err := parseUnits(text)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, u := range units {
		names = append(names, u.name)
	}
	if got := strings.Join(names, " "); got != "sshd agent-join agent-root agent-run" {
		t.Errorf("got %s", got)
	}
	if join := units[1]; !join.oneshot || join.condition != "/var/lib/sallyport/join-token" || join.argv[0] != binaryPath {
		t.Errorf("got %v", join)
	}
}

func TestParseUnits_RefusesBadLines(t *testing.T) {
	for name, text := range map[string]string{
		"kind":               "timer a root - /bin/true",
		"few words":          "service a root -",
		"name with slash":    "service ../a root - /bin/true",
		"relative program":   "service a root - true",
		"relative condition": "service a root x /bin/true",
		"twice":              "service a root - /bin/true\noneshot a root - /bin/true",
		"too many":           manyUnits(),
		"long line":          "service a root - /bin/" + strings.Repeat("x", 70000),
	} {
		if got, err := parseUnits([]byte(text)); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got, err := parseUnits([]byte("# nothing\n\n  \n")); err != nil || len(got) != 0 {
		t.Errorf("comments: %v %v", got, err)
	}
}

func manyUnits() string {
	var b strings.Builder
	for i := range maxUnits + 1 {
		b.WriteString("service a" + strings.Repeat("b", i) + " root - /bin/true\n")
	}
	return b.String()
}

func FuzzParseUnits(f *testing.F) {
	f.Add([]byte("service sshd root - /usr/sbin/sshd -D\noneshot a root /x /bin/true\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		units, err := parseUnits(text)
		if err != nil {
			return
		}
		for _, u := range units {
			if strings.ContainsAny(u.name, "/.") || u.argv[0][0] != '/' {
				t.Errorf("%q became %v", text, u)
			}
		}
	})
}
