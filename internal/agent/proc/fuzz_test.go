package proc

import (
	"strings"
	"testing"
)

// FuzzStat: the name of a process is its own choice, and no choice of it changes
// what the rest of the line says.
func FuzzStat(f *testing.F) {
	f.Add("sshd", "S 1 7 7 34816 7 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0")
	f.Add("a) R 0 (b", "S 1 7 7 0 7 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, name, rest string) {
		var p, plain Process
		err := p.stat([]byte("7 (" + name + ") " + rest))
		if strings.Contains(rest, ")") {
			return // the kernel writes a letter and numbers
		}
		if plainErr := plain.stat([]byte("7 (x) " + rest)); (err == nil) != (plainErr == nil) {
			t.Fatalf("%q: %v, %v", name, err, plainErr)
		}
		if err == nil && p.Comm != name {
			t.Fatalf("%q became %q", name, p.Comm)
		}
		p.Comm, plain.Comm = "", ""
		if err == nil && p != plain {
			t.Fatalf("%+v, %+v", p, plain)
		}
	})
}

// FuzzStatus: ids are read from the first line that names them, all or none.
func FuzzStatus(f *testing.F) {
	f.Add("Name:\tsshd\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n")
	f.Add("Uid:\t1\t2\t3\n")
	f.Fuzz(func(t *testing.T, text string) {
		var p Process
		if err := p.status([]byte(text)); err == nil && !strings.Contains(text, "Uid:") {
			t.Fatalf("%q gave %v", text, p.UIDs)
		}
	})
}
