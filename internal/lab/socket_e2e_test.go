//go:build e2e

package lab

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/labwire"
)

func TestSocket_WrongUIDIsRefused(t *testing.T) {
	b := newBench(t)
	var st unix.Stat_t
	if err := unix.Stat(b.socket, &st); err != nil || st.Mode&0o777 != 0o600 || st.Uid != testOwner {
		t.Fatalf("socket: mode %o, uid %d, %v", st.Mode, st.Uid, err)
	}
	program := filepath.Join(b.dir, "probe")
	copyProgram(t, program)
	probe := func(uid uint32) string {
		cmd := exec.Command(program, "probe-socket", b.socket)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	if out := probe(testOwner); !strings.Contains(out, "{}") {
		t.Errorf("owner: %s", out)
	}
	if out := probe(testOwner + 1); !strings.Contains(out, "permission denied") {
		t.Errorf("other uid: %s", out)
	}
	if err := os.Chmod(b.socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if out := probe(testOwner + 1); !strings.Contains(out, "not the owner") {
		t.Errorf("other uid on an open socket: %s", out)
	}
}

// probeSocket runs as another uid: it asks for the list and prints the answer.
func probeSocket(path string) int {
	conn, err := net.Dial("unix", path)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	_, _ = io.WriteString(conn, `{"op":"list"}`+"\n")
	_, _ = io.Copy(os.Stdout, conn)
	return 0
}

func TestSocket_GarbageIsRefusedAndHarmless(t *testing.T) {
	b := newBench(t)
	for _, garbage := range []string{
		"", "\n", "{}\n", "\x00\x01\x02\n", `{"op":"list"} ` + "\n", `{"op":"list","op":"list"}` + "\n", `{"OP":"list"}` + "\n",
		`{"op":"create","machineId":"` + machineA + `","name":"../../etc","backend":"netns"}` + "\n",
		`{"op":"create","machineId":"../../../root","name":"a","backend":"netns"}` + "\n",
		`{"op":"create","machineId":"` + machineA + `","name":"a","backend":"docker"}` + "\n",
		`{"op":"list"}` + "\n" + `{"op":"list"}` + "\n",
		strings.Repeat("a", labwire.MaxMessage+10), strings.Repeat("[", 60000) + "\n",
	} {
		conn, err := net.Dial("unix", b.socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, garbage)
		_ = conn.(*net.UnixConn).CloseWrite()
		answer, _ := io.ReadAll(conn)
		_ = conn.Close()
		if len(answer) > 0 && !strings.HasPrefix(string(answer), `{"error":{"kind":"`) {
			t.Errorf("%.60q: %s", garbage, answer)
		}
	}
	if list, err := b.client.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("after garbage: %v %v", list, err)
	}
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, raw, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestSocket_SilentCallerDoesNotHoldTheLab(t *testing.T) {
	b := newBench(t)
	conn, err := net.Dial("unix", b.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := b.client.List(t.Context()); err != nil { // by now the silent one has been accepted
		t.Fatal(err)
	}
	begin := time.Now()
	b.stop()
	if took := time.Since(begin); took > requestTime/2 {
		t.Errorf("the lab took %v to end", took)
	}
}
