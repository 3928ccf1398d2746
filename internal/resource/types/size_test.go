package types_test

import (
	"strings"
	"testing"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/resource/types"
)

// The image and the size decide what the back end makes; neither changes later.
func TestVirtualMachine_ImageAndSizeChooseTheSystem(t *testing.T) {
	k := key(t)
	image := func(publisher, offer, sku string) *strings.Replacer {
		return strings.NewReplacer("Canonical", publisher, "UbuntuServer", offer, "18.04-LTS", sku)
	}
	for name, tc := range map[string]struct {
		change *strings.Replacer
		system types.System
		runner types.Runner
	}{
		"the article's":  {strings.NewReplacer(), types.Debian12, types.Netns},
		"Debian 11":      {image("Debian", "debian-11", "11-backports-gen2"), types.Debian11, types.Netns},
		"Debian 13":      {image("debian", "Debian-13", "13-GEN2"), types.Debian13, types.Netns},
		"with systemd":   {strings.NewReplacer("Standard_DS1_v2", "sallyport_NSPAWN"), types.Debian12, types.Nspawn},
		"without, named": {strings.NewReplacer("Standard_DS1_v2", "Sallyport_netns"), types.Debian12, types.Netns},
	} {
		w := newWorld(t).withNetwork()
		w.mustPut(vmID, tc.change.Replace(vmBody(k)))
		w.settle(time.Minute)
		if got := w.lab.made; got.System != tc.system || got.Runner != tc.runner || got.Name != "myvm" {
			t.Errorf("%s: the back end made %+v", name, got)
		}
	}
	w := newWorld(t).withNetwork()
	w.mustPut(vmID, vmBody(k))
	for name, change := range map[string]*strings.Replacer{"image": image("Debian", "debian-13", "13-gen2"), "back end": strings.NewReplacer("Standard_DS1_v2", types.SizeNspawn)} {
		if _, err := w.put(as(admin), vmID, change.Replace(vmBody(k))); !fault.Is(err, fault.Conflict) || fault.As(err).Code != "PropertyChangeNotAllowed" {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if _, err := w.put(as(admin), vmID, strings.Replace(vmBody(k), "Standard_DS1_v2", "Standard_B1s", 1)); err != nil {
		t.Errorf("a size of the same back end: %v", err)
	}
	if _, err := w.put(as(admin), vmID, strings.Replace(vmBody(k), "Standard_DS1_v2", "Sallyport_qemu", 1)); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.As(err).Public(), types.SizeNspawn) {
		t.Errorf("an unknown size of ours: %v", err)
	}
}
