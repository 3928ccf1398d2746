package upgrade

import (
	"strings"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
)

func TestRoom_RefusesWhatDoesNotFit(t *testing.T) {
	err := newRig(t).machine().Room([]protocol.ReleasePackage{{Size: 1 << 50}})
	if err == nil || fault.As(err).Code != "DiskFull" || !strings.Contains(fault.As(err).Text, "MiB left, and an upgrade wants 3221225536 MiB") {
		t.Errorf("%v", err)
	}
}
