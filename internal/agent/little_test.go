package agent

import (
	"runtime/debug"
	"testing"

	"github.com/spf13/cobra"
)

// A part that stays keeps the way to its own command and no other.
func TestKeepLittle(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	program, agent, root := &cobra.Command{Use: "sally"}, &cobra.Command{Use: "agent"}, &cobra.Command{Use: "root"}
	agent.AddCommand(&cobra.Command{Use: "run"}, root, &cobra.Command{Use: "status"})
	program.AddCommand(&cobra.Command{Use: "vm"}, agent, &cobra.Command{Use: "server"})
	keepLittle(root)
	if all := program.Commands(); len(all) != 1 || all[0] != agent || len(agent.Commands()) != 1 || root.CommandPath() != "sally agent root" {
		t.Errorf("%v %v", all, agent.Commands())
	}
	if growth := debug.SetGCPercent(100); growth != littleGrowth {
		t.Error(growth)
	}
}
