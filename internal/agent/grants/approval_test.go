package grants

import (
	"os"
	"strings"
	"testing"
	"time"

	"sallyport/internal/machine/protocol"
)

// TestApproval_EverySentenceIsInTheHandbook reads them from docs/troubleshooting.md:
// none is missing there, and none is there that nobody says.
func TestApproval_EverySentenceIsInTheHandbook(t *testing.T) {
	b, err := os.ReadFile("../../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, found := strings.Cut(string(b), "\n## Logging in by web page")
	part, _, _ = strings.Cut(part, "\n## ")
	if !found {
		t.Fatal("the page has no such part")
	}
	there := map[string]bool{}
	for line := range strings.Lines(part) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "> "); ok {
			there[text] = false
		}
	}
	for _, state := range []string{protocol.DeviceDeclined, protocol.DeviceOther, protocol.DevicePolicy, protocol.DeviceExpired, protocol.DeviceNotAllowed, protocol.DeviceAccount, protocol.DeviceTooMany, protocol.DeviceAway, protocol.DeviceRefused} {
		text := Approval(state, "NAME", "")
		if _, ok := there[text]; !ok {
			t.Errorf("%s: the page does not have %q", state, text)
		}
		there[text] = true
		if got := Approval(state, "NAME", "an-id"); got != text+" (correlation id an-id)" {
			t.Errorf("%q", got)
		}
	}
	for text, said := range there {
		if !said {
			t.Errorf("nobody says %q", text)
		}
	}
}

func TestPrompt_SaysWhatToCheck(t *testing.T) {
	text := Prompt("web1", "alice@corp.example", "https://server.example", "BCDFGHJK", 97*time.Second+300*time.Millisecond)
	for _, word := range []string{"web1", "alice@corp.example", "https://server.example/device", "BCDF-GHJK", "97 seconds", "Press Enter"} {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not in %q", word, text)
		}
	}
	for code, want := range map[string]bool{"BCDFGHJK": true, "bcdfghjk": false, "BCDFGHJ": false, "BCDFGHJKL": false, "AEIOU234": false, "BCDF\nHJK": false, "": false} {
		if ValidCode(code) != want {
			t.Errorf("%q", code)
		}
	}
}
