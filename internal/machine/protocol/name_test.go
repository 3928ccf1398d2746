package protocol

import "testing"

func TestMachineName(t *testing.T) {
	const rg = "/subscriptions/s/resourceGroups/rg/providers/Microsoft."
	for id, want := range map[string]string{
		rg + "Compute/virtualMachines/vm1": "vm1", rg + "HybridCompute/machines/host1": "host1", rg + "Compute/virtualMachineScaleSets/set1/virtualMachines/3": "set1_3",
		rg + "Compute/VirtualMachineScaleSets/set1/VirtualMachines/3": "set1_3", "": "", "x": "x",
	} {
		if got := MachineName(id); got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
}
