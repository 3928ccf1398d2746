package grants

import (
	"strings"
	"testing"
	"time"

	"sallyport/internal/handbooktest"
	"sallyport/internal/machine/protocol"
)

// TestApproval_EverySentenceIsInTheHandbook: word for word.
func TestApproval_EverySentenceIsInTheHandbook(t *testing.T) {
	for id, state := range map[string]string{
		"device-declined": protocol.DeviceDeclined, "device-other": protocol.DeviceOther, "device-policy": protocol.DevicePolicy, "device-expired": protocol.DeviceExpired, "device-no-time": protocol.DeviceNoTime, "device-not-allowed": protocol.DeviceNotAllowed,
		"device-account": protocol.DeviceAccount, "device-too-many": protocol.DeviceTooMany, "device-away": protocol.DeviceAway, "device-refused": protocol.DeviceRefused,
	} {
		text := Approval(state, "alice@corp.example", "")
		handbooktest.Said(t, text, id, "NAME", "alice@corp.example")
		if got := Approval(state, "alice@corp.example", "an-id"); got != text+" (correlation id an-id)" {
			t.Errorf("%q", got)
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
