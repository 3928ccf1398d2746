package agent

import (
	"testing"

	"sallyport/internal/machine/protocol"
)

// Only what is not as it was told is told again.
func TestChanged_OnlyWhatIsNew(t *testing.T) {
	i := protocol.Inventory{System: &protocol.InventorySystem{Kernel: "6.1"}, Sudoers: &protocol.InventorySudoers{Lines: []protocol.InventoryLine{{File: "f", Text: "a"}}}}
	told := map[string][]byte{}
	news, parts, err := changed(i, told)
	if err != nil || len(parts) != 2 || news.System == nil || news.Sudoers == nil {
		t.Fatalf("%+v %v", news, err)
	}
	for name, part := range parts {
		told[name] = part
	}
	if _, parts, err = changed(i, told); err != nil || len(parts) != 0 {
		t.Fatalf("told again: %v %v", parts, err)
	}
	i.Sudoers = &protocol.InventorySudoers{Lines: []protocol.InventoryLine{{File: "f", Text: "b"}}}
	if news, parts, err = changed(i, told); err != nil || len(parts) != 1 || news.System != nil || news.Sudoers == nil {
		t.Fatalf("%+v %v", news, err)
	}
}
