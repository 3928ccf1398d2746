package types

import (
	"strings"

	"sallyport/internal/fault"
)

// Runner is what runs a machine on the back end.
type Runner string

// The runners: processes alone, which start in a tenth of a second, and a whole
// system with systemd as its first process.
const (
	Netns  Runner = "netns"
	Nspawn Runner = "nspawn"
)

// Sizes of this server's own. A size is Azure's word for what a machine runs on,
// and clients pass it on unread; every size of Azure's is SizeNetns here, because
// the back end limits neither processors nor memory.
const (
	sizePrefix = "Sallyport_"
	SizeNetns  = sizePrefix + "netns"
	SizeNspawn = sizePrefix + "nspawn"
)

// check refuses a size that looks like one of ours and is none.
func (h *hardwareProfile) check() error {
	if h == nil || len(h.VMSize) < len(sizePrefix) || !strings.EqualFold(h.VMSize[:len(sizePrefix)], sizePrefix) {
		return nil
	}
	if strings.EqualFold(h.VMSize, SizeNetns) || strings.EqualFold(h.VMSize, SizeNspawn) {
		return nil
	}
	return fault.New(fault.Invalid, "InvalidParameter", "The value %s provided for the VM size is not valid.", clip(h.VMSize)).
		WithRemedy("The sizes of this server are %s and %s; any size of Azure's is the first.", SizeNetns, SizeNspawn).WithTarget("vmSize")
}

// runner is what the size asks for.
func (p *vmProperties) runner() Runner {
	if p.HardwareProfile != nil && strings.EqualFold(p.HardwareProfile.VMSize, SizeNspawn) {
		return Nspawn
	}
	return Netns
}

// system is what the image is made of here; Debian 12 for one that an older
// server took.
func (p *vmProperties) system() System {
	if p.StorageProfile != nil && p.StorageProfile.ImageReference != nil {
		r := p.StorageProfile.ImageReference
		if im, ok := findImage(r.Publisher, r.Offer, r.SKU); ok {
			return im.System
		}
	}
	return Debian12
}
