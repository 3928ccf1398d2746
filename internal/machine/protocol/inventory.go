package protocol

import (
	"errors"
	"strings"
	"time"
)

// Inventory is POST /machine/v1/inventory: what a machine says of itself, a part
// each, and only the parts that are not as they were said last. The network part
// carries it unsigned: it is a claim, for people to read, and decides nothing.
type Inventory struct {
	System    *InventorySystem    `json:"system,omitempty"`
	Accounts  *InventoryAccounts  `json:"accounts,omitempty"`
	Sudoers   *InventorySudoers   `json:"sudoers,omitempty"`
	SSHD      *InventorySSHD      `json:"sshd,omitempty"`
	Listeners *InventoryListeners `json:"listeners,omitempty"`
	Logins    *InventoryLogins    `json:"logins,omitempty"`
}

// InventorySystem is what the machine is made of.
type InventorySystem struct {
	Distribution string `json:"distribution"`
	Kernel       string `json:"kernel"`
	Architecture string `json:"architecture"`
	OpenSSH      string `json:"openssh"`
	Agent        string `json:"agent"`
}

// InventoryAccounts are the machine's own accounts that have a shell or key files.
type InventoryAccounts struct {
	List []InventoryAccount `json:"list"`
	More int                `json:"more,omitempty"` // those left out
}

// InventoryAccount is one of them.
type InventoryAccount struct {
	Name  string             `json:"name"`
	UID   uint32             `json:"uid"`
	Shell string             `json:"shell"`
	Home  string             `json:"home"`
	Keys  []InventoryKeyFile `json:"keyFiles,omitempty"`
}

// InventoryKeyFile is a file of keys that open an account. The keys themselves are
// not told.
type InventoryKeyFile struct {
	Path         string   `json:"path"`
	Keys         int      `json:"keys"`
	Fingerprints []string `json:"fingerprints"` // SHA256:..., at most MaxFingerprints
}

// InventorySudoers are the lines of sudoers and of what it includes.
type InventorySudoers struct {
	Lines []InventoryLine `json:"lines"`
	More  int             `json:"more,omitempty"`
}

// InventoryLine is one line of a file.
type InventoryLine struct {
	File string `json:"file"`
	Text string `json:"text"`
}

// InventorySSHD are sshd's effective settings, "keyword value" as sshd -T says.
type InventorySSHD struct {
	Settings []string `json:"settings"`
	More     int      `json:"more,omitempty"`
}

// InventoryListeners is where sshd listens, as address:port.
type InventoryListeners struct {
	Addresses []string `json:"addresses"`
}

// InventoryLogins is when the machine's own accounts last logged in. Source is the
// file that says so; "none" where the system keeps none that can be read.
type InventoryLogins struct {
	Source string           `json:"source"`
	List   []InventoryLogin `json:"list"`
	More   int              `json:"more,omitempty"`
}

// InventoryLogin is one account's last login.
type InventoryLogin struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"`
	From string    `json:"from,omitempty"`
	TTY  string    `json:"tty,omitempty"`
}

// The bounds of an inventory. What is beyond is counted.
const (
	MaxInventoryList = 256
	MaxKeyFiles      = 4
	MaxFingerprints  = 16
	MaxInventoryText = 512
)

var errInventory = errors.New("the inventory is out of its bounds")

// Check holds a foreign inventory to its bounds: lists, and printable ASCII.
func (i Inventory) Check() error {
	texts, ok := []string{}, true
	bound := func(n, most, more int) { ok = ok && n <= most && more >= 0 && more <= 1<<30 }
	if s := i.System; s != nil {
		texts = append(texts, s.Distribution, s.Kernel, s.Architecture, s.OpenSSH, s.Agent)
	}
	if a := i.Accounts; a != nil {
		bound(len(a.List), MaxInventoryList, a.More)
		for _, x := range a.List {
			bound(len(x.Keys), MaxKeyFiles, 0)
			texts = append(texts, x.Name, x.Shell, x.Home)
			for _, k := range x.Keys {
				bound(len(k.Fingerprints), MaxFingerprints, k.Keys)
				texts = append(append(texts, k.Path), k.Fingerprints...)
			}
		}
	}
	if s := i.Sudoers; s != nil {
		bound(len(s.Lines), MaxInventoryList, s.More)
		for _, l := range s.Lines {
			texts = append(texts, l.File, l.Text)
		}
	}
	if s := i.SSHD; s != nil {
		bound(len(s.Settings), MaxInventoryList, s.More)
		texts = append(texts, s.Settings...)
	}
	if l := i.Listeners; l != nil {
		bound(len(l.Addresses), MaxInventoryList, 0)
		texts = append(texts, l.Addresses...)
	}
	if l := i.Logins; l != nil {
		bound(len(l.List), MaxInventoryList, l.More)
		texts = append(texts, l.Source)
		for _, x := range l.List {
			texts = append(texts, x.Name, x.From, x.TTY)
		}
	}
	for _, t := range texts {
		ok = ok && len(t) <= MaxInventoryText && strings.IndexFunc(t, func(r rune) bool { return r < ' ' || r > '~' }) < 0
	}
	if !ok {
		return errInventory
	}
	return nil
}

// InventoryText cuts and cleans a text as an inventory holds it.
func InventoryText(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), MaxInventoryText)]
}
