package server

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// TestTrimmer_OncePerBurst: garbage is seen once, and an idle process is left
// alone, whatever it holds.
func TestTrimmer_OncePerBurst(t *testing.T) {
	var tr trimmer
	burst := make([]byte, 256<<20)
	for i := 0; i < len(burst); i += 4096 {
		burst[i] = 1
	}
	runtime.KeepAlive(burst)
	if !tr.due() {
		t.Error("256 MiB are not seen")
	}
	if tr.due() {
		t.Error("nothing was allocated since, and yet it is due")
	}
	burst = nil
	debug.FreeOSMemory()
	if tr.due() {
		t.Error("due after the memory went back")
	}
}
