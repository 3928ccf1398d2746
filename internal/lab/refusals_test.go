package lab

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/fault"
	"sallyport/internal/labwire"
	"sallyport/internal/nobodytest"
)

// stillLab is a lab whose machines cannot run: it has no network.
func stillLab(t *testing.T) *Lab {
	t.Helper()
	ns, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return &Lab{
		cfg: Config{Log: slog.New(slog.DiscardHandler)}, fabric: &fabric{ns: ns}, nspawn: "/nonexistent/systemd-nspawn", running: map[string]*process{},
		state: openTest(t, filepath.Join(t.TempDir(), "lab")), lower: map[labwire.System][]string{labwire.SystemDebian12: {"/"}},
	}
}

// TestLab_Refusals: what a caller of the lab's socket is told.
func TestLab_Refusals(t *testing.T) {
	l := stillLab(t)
	dir, err := os.MkdirTemp("", "lab") // others reach it, when they may
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	listener, err := Listen(socket, os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx, listener, 4242) }()
	t.Cleanup(func() { cancel(); <-served })
	c := labwire.New(labwire.Config{Socket: socket})
	create := func(name string, system labwire.System, backend labwire.Backend) error {
		_, err := c.Create(t.Context(), labwire.CreateRequest{MachineID: idOf(1), Name: name, System: system, Backend: backend})
		return err
	}
	told(t, create("web-1", labwire.SystemDebian11, labwire.BackendNetns), fault.Invalid, "this lab has no root filesystem of debian11")
	told(t, create("web-1", labwire.SystemDebian12, labwire.BackendNspawn), fault.Invalid, "apt-get install systemd-container")
	if err := create("web-1", labwire.SystemDebian12, labwire.BackendNetns); err != nil {
		t.Fatal(err)
	}
	told(t, create("web-2", labwire.SystemDebian12, labwire.BackendNetns), fault.Conflict, "exists under the name web-1; delete it first")
	told(t, create("web-1", labwire.SystemDebian11, labwire.BackendNetns), fault.Conflict, "exists as debian12 under netns; delete it first")
	_, err = c.Proxy(t.Context(), idOf(1))
	told(t, err, fault.Unavailable, "the machine web-1 does not answer; start it first")
	_, err = c.Start(t.Context(), idOf(2))
	told(t, err, fault.NotFound, "create it first")
	if answer := said(t, socket, `{"op":"list"}`+"\n"+`{"op":"list"}`+"\n"); !strings.Contains(answer, "bytes follow the request") {
		t.Errorf("two requests: %s", answer)
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var answer string
	if err := nobodytest.Do(func() error { answer = said(t, socket, `{"op":"list"}`+"\n"); return nil }); err != nil || !strings.Contains(answer, "uid 65534 is not the owner of this lab") {
		t.Errorf("another user: %v %s", err, answer)
	}
}

func told(t *testing.T, err error, kind fault.Kind, words string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(public(err), words) {
		t.Errorf("got %v (%v), want %v: %s", err, fault.KindOf(err), kind, words)
	}
}

// public is what the error says to people.
func public(err error) string {
	if f := fault.As(err); f != nil {
		return f.Public()
	}
	return ""
}

// said is the answer to what is sent, on the caller's own thread.
func said(t *testing.T, socket, request string) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return ""
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer func() { _ = f.Close() }()
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		t.Error(err)
		return ""
	}
	// A lab may answer and hang up before it has read; then this fails, and the answer is there.
	_, _ = io.WriteString(f, request)
	answer, _ := bufio.NewReader(f).ReadString('\n')
	return answer
}

// TestServe_BadOptions: what `lab serve` says before it touches anything.
func TestServe_BadOptions(t *testing.T) {
	enough := Config{Limits: defaultLimits}
	told(t, serve(t.Context(), enough, "s", -1), fault.Invalid, "--owner must be a uid")
	told(t, serve(t.Context(), Config{Limits: Limits{Tasks: 1, Memory: 4096}}, "s", 0), fault.Invalid, "fewer than 64 tasks or less than 64 MiB")
	told(t, nobodytest.Do(func() error { return serve(t.Context(), enough, "s", 0) }), fault.Forbidden, "run it with sudo")
	for _, address := range []string{"192.0.2.1:443", "127.0.0.1", "127.0.0.1:0", "localhost:443"} {
		told(t, (&Lab{cfg: Config{ServerAddr: address}}).openServer(t.Context()), fault.Invalid, "must be a loopback address with a port")
	}
}

func TestListen_RefusesAPathThatIsNotItsOwn(t *testing.T) {
	dir := t.TempDir()
	taken := filepath.Join(dir, "file")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for path, words := range map[string]string{
		taken: "exists and is no socket; remove it", filepath.Join(dir, "none", "s"): "there is no directory", filepath.Join(open, "s"): "others than root and the owner can change",
	} {
		listener, err := Listen(path, os.Geteuid())
		if err == nil {
			_ = listener.Close()
		}
		if err == nil || !strings.Contains(public(err), words) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := net.Dial("unix", taken); err == nil {
		t.Error("the file became a socket")
	}
}

// TestAwaitInit_OfWhatDoesNotBoot: the stage reports anything but readiness, or nothing.
func TestAwaitInit_OfWhatDoesNotBoot(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	told(t, awaitInit(r, time.Millisecond), fault.Unavailable, "the machine does not start")
	if _, err := io.WriteString(w, "mount: no such file"); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	told(t, awaitInit(r, time.Minute), fault.Unavailable, "if its files are damaged, delete and create it again")
}
