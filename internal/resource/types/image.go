package types

import (
	"slices"
	"strings"
)

// ExtensionVersion is the version of the login extension, which is the agent's.
const ExtensionVersion = "1.0.1"

// Image is an image alias. System is what a machine of it really is: the back
// end has root filesystems of Debian alone, and the names of others that the
// article's commands use are served by Debian 12. The machine's own report says
// what runs.
type Image struct {
	Alias, Publisher, Offer, SKU, Version string
	System                                System
}

// System is what the back end makes a machine on.
type System string

// The systems.
const (
	Debian11 System = "debian11"
	Debian12 System = "debian12"
	Debian13 System = "debian13"
)

// Images returns the aliases that Azure's clients know, by name.
func Images() []Image {
	return []Image{
		{"CentOS", "OpenLogic", "CentOS", "7.5", "7.5.201808150", Debian12},
		{"Debian", "credativ", "Debian", "8", "8.0.201901221", Debian12},
		{"Debian11", "Debian", "debian-11", "11-backports-gen2", "0.20230124.1270", Debian11},
		{"Debian12", "Debian", "debian-12", "12-gen2", "0.20240201.1644", Debian12},
		{"Debian13", "Debian", "debian-13", "13-gen2", "0.20250814.2204", Debian13},
		{"UbuntuLTS", "Canonical", "UbuntuServer", "18.04-LTS", "18.04.202301010", Debian12},
		{"Ubuntu2204", "Canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-gen2", "22.04.202301010", Debian12},
	}
}

func findImage(publisher, offer, sku string) (Image, bool) {
	all := Images()
	i := slices.IndexFunc(all, func(im Image) bool {
		return strings.EqualFold(im.Publisher, publisher) && strings.EqualFold(im.Offer, offer) && strings.EqualFold(im.SKU, sku)
	})
	if i < 0 {
		return Image{}, false
	}
	return all[i], true
}

// FindImage returns the image of a publisher, offer and sku, any case.
func FindImage(publisher, offer, sku string) (Image, bool) { return findImage(publisher, offer, sku) }

func aliasNames() []string {
	var out []string
	for _, im := range Images() {
		out = append(out, im.Alias)
	}
	return out
}
