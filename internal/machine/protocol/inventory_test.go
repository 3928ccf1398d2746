package protocol

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestInventory_Bounds(t *testing.T) {
	long := strings.Repeat("x", MaxInventoryText+1)
	for name, i := range map[string]Inventory{
		"escape":            {System: &InventorySystem{Kernel: "\x1b[2J"}},
		"not ASCII":         {SSHD: &InventorySSHD{Settings: []string{"banner \u00e9"}}},
		"long":              {Sudoers: &InventorySudoers{Lines: []InventoryLine{{Text: long}}}},
		"accounts":          {Accounts: &InventoryAccounts{List: make([]InventoryAccount, MaxInventoryList+1)}},
		"lines":             {Sudoers: &InventorySudoers{Lines: make([]InventoryLine, MaxInventoryList+1)}},
		"settings":          {SSHD: &InventorySSHD{Settings: make([]string, MaxInventoryList+1)}},
		"listeners":         {Listeners: &InventoryListeners{Addresses: make([]string, MaxInventoryList+1)}},
		"logins":            {Logins: &InventoryLogins{List: make([]InventoryLogin, MaxInventoryList+1)}},
		"key files":         {Accounts: &InventoryAccounts{List: []InventoryAccount{{Keys: make([]InventoryKeyFile, MaxKeyFiles+1)}}}},
		"fingerprints":      {Accounts: &InventoryAccounts{List: []InventoryAccount{{Keys: []InventoryKeyFile{{Fingerprints: make([]string, MaxFingerprints+1)}}}}}},
		"fewer than nobody": {Accounts: &InventoryAccounts{More: -1}},
	} {
		if i.Check() == nil {
			t.Errorf("%s was taken", name)
		}
	}
	good := Inventory{System: &InventorySystem{Kernel: InventoryText("a\tb\x1b\u00e9" + long)}, Logins: &InventoryLogins{Source: "none"}}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
}

// What was taken is taken again as it is stored.
func FuzzInventory(f *testing.F) {
	f.Add([]byte(`{"accounts":{"list":[{"name":"root","uid":0,"shell":"/bin/sh","home":"/root","keyFiles":[{"path":"/root/.ssh/authorized_keys","keys":1,"fingerprints":["SHA256:x"]}]}]}}`))
	f.Add([]byte(`{"logins":{"source":"none","list":[{"name":"bob","at":"2026-11-23T00:00:00Z"}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var i Inventory
		if Decode(b, &i) != nil || i.Check() != nil {
			return
		}
		text, err := json.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		var again Inventory
		if err := Decode(text, &again); err != nil || again.Check() != nil {
			t.Fatalf("%s: %v", text, err)
		}
	})
}
