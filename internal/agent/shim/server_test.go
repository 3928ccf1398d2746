package shim

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/fault"
)

// privateDir returns a short-named folder of this process's user.
func privateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "shim")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func listen(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := Listen(path, 0o600, os.Getuid())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// start runs a server until the end of the test and returns the refusals.
func start(t *testing.T, serve func(ctx context.Context, c Config) error, config Config) <-chan error {
	t.Helper()
	refused := make(chan error, 64)
	config.Refused = func(_ Peer, err error) { refused <- err }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, config) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return refused
}

func startPAM(t *testing.T, path string, config Config, handler PAMHandler) <-chan error {
	t.Helper()
	l := listen(t, path)
	return start(t, func(ctx context.Context, c Config) error { return ServePAM(ctx, l, c, handler) }, config)
}

func self() Config { return Config{AllowedUID: uint32(os.Getuid())} }

// send writes raw bytes and returns all that comes back until the server closes.
func send(t *testing.T, path string, b []byte) []byte {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = conn.Write(b)
	_ = conn.(*net.UnixConn).CloseWrite()
	var got bytes.Buffer
	_, _ = got.ReadFrom(conn)
	return got.Bytes()
}

func readVector(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorsDir, name+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestServePAM_AnswersWithThePeerAndTheRequest(t *testing.T) {
	path := filepath.Join(privateDir(t), "pam.sock")
	seen := make(chan PAMRequest, 1)
	startPAM(t, path, self(), func(ctx context.Context, p Peer, r PAMRequest) PAMAnswer {
		if _, limited := ctx.Deadline(); !limited || p.PID != os.Getpid() || p.UID != uint32(os.Getuid()) {
			t.Errorf("peer %+v, deadline %v", p, limited)
		}
		seen <- r
		return PAMAnswer{Text: "Sallyport: no role on this machine.\nAsk for 'Virtual Machine User Login'."}
	})
	got := send(t, path, readVector(t, "pam-account"))
	if !bytes.Equal(got, readVector(t, "pam-deny")) {
		t.Fatalf("got %q", got)
	}
	want := PAMRequest{PhaseAccount, "sshd", "alice@example.com", "", "10.77.0.1", "ssh"}
	if r := <-seen; r != want {
		t.Fatalf("got %+v", r)
	}
}

func TestServePAM_ClosesOnGarbageAndGoesOn(t *testing.T) {
	path := filepath.Join(privateDir(t), "pam.sock")
	refused := startPAM(t, path, self(), func(context.Context, Peer, PAMRequest) PAMAnswer { return PAMAnswer{Allow: true} })
	garbage := [][]byte{nil, []byte("x"), []byte("GET / HTTP/1.1\r\n\r\n"), bytes.Repeat([]byte{0xff}, 70000),
		readVector(t, "pam-allow"), readVector(t, "principals-request"), readVector(t, "eight-fields"), readVector(t, "bad-count-255")}
	for _, b := range garbage {
		if got := send(t, path, b); len(got) != 0 {
			t.Fatalf("%.20q was answered with %q", b, got)
		}
		if err := <-refused; !fault.Is(err, fault.Invalid) {
			t.Fatalf("%.20q: %v", b, err)
		}
	}
	if got := send(t, path, readVector(t, "pam-account")); !bytes.Equal(got, readVector(t, "pam-allow")) {
		t.Fatalf("got %q", got)
	}
}

func TestServePAM_AnswersNoOtherUID(t *testing.T) {
	path := filepath.Join(privateDir(t), "pam.sock")
	refused := startPAM(t, path, Config{AllowedUID: 4242424}, func(context.Context, Peer, PAMRequest) PAMAnswer {
		t.Error("the handler was called")
		return PAMAnswer{Allow: true}
	})
	if got := send(t, path, readVector(t, "pam-account")); len(got) != 0 {
		t.Fatalf("got %q", got)
	}
	if err := <-refused; !fault.Is(err, fault.Forbidden) {
		t.Fatal(err)
	}
}

// A caller that says nothing is cut off, and does not keep others waiting.
func TestServePAM_SilentCallersAreCutOff(t *testing.T) {
	path := filepath.Join(privateDir(t), "pam.sock")
	config := self()
	config.Timeout, config.Concurrency = 100*time.Millisecond, 2
	refused := startPAM(t, path, config, func(context.Context, Peer, PAMRequest) PAMAnswer { return PAMAnswer{Allow: true} })
	var silent [4]net.Conn
	for i := range silent {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		silent[i] = conn
	}
	if got := send(t, path, readVector(t, "pam-account")); !bytes.Equal(got, readVector(t, "pam-allow")) {
		t.Fatalf("got %q", got)
	}
	for range silent {
		if err := <-refused; !fault.Is(err, fault.Invalid) {
			t.Fatal(err)
		}
	}
}

func TestServePAM_StopsWithTheContextAfterAnswering(t *testing.T) {
	path := filepath.Join(privateDir(t), "pam.sock")
	ctx, cancel := context.WithCancel(context.Background())
	entered, l := make(chan struct{}), listen(t, path)
	done := make(chan error, 1)
	go func() {
		done <- ServePAM(ctx, l, self(), func(ctx context.Context, _ Peer, _ PAMRequest) PAMAnswer {
			close(entered)
			<-ctx.Done()
			return PAMAnswer{Allow: true}
		})
	}()
	var got []byte
	var caller sync.WaitGroup
	caller.Go(func() { got = send(t, path, readVector(t, "pam-account")) })
	<-entered
	cancel()
	caller.Wait()
	if err := <-done; err != nil || !bytes.Equal(got, readVector(t, "pam-allow")) {
		t.Fatalf("%v, %q", err, got)
	}
	if _, err := net.Dial("unix", path); err == nil {
		t.Fatal("it still listens")
	}
	listenAgain := listen(t, path)
	if err := listenAgain.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestServePrincipals_SendsOnlyObjectIDs(t *testing.T) {
	path, l := filepath.Join(privateDir(t), "p.sock"), (*net.UnixListener)(nil)
	l = listen(t, path)
	ids := map[string]string{"0": testID, "1": "root", "2": testID + "\nroot", "3": "*", "4": ""}
	refused := start(t, func(ctx context.Context, c Config) error {
		return ServePrincipals(ctx, l, c, func(_ context.Context, _ Peer, r PrincipalsRequest) (string, bool) {
			id, ok := ids[r.Serial]
			return id, ok
		})
	}, self())
	ask := func(serial string) []byte {
		b, err := frame{typePrincipalsRequest, []string{"alice@example.com", "k", serial, "AAAA"}}.encode(limitPrincipals)
		if err != nil {
			t.Fatal(err)
		}
		return send(t, path, b)
	}
	if got := ask("0"); !bytes.Equal(got, readVector(t, "principals-one")) {
		t.Fatalf("got %q", got)
	}
	if got := ask("9"); !bytes.Equal(got, readVector(t, "principals-none")) {
		t.Fatalf("got %q", got)
	}
	for _, serial := range []string{"1", "2", "3", "4"} {
		if got := ask(serial); len(got) != 0 {
			t.Fatalf("%q was sent", got)
		}
		if err := <-refused; !fault.Is(err, fault.Internal) {
			t.Fatal(err)
		}
	}
}

func TestListen_MakesTheSocketSafely(t *testing.T) {
	dir := privateDir(t)
	path := filepath.Join(dir, "pam.sock")
	first := listen(t, path)
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != os.ModeSocket {
		t.Fatalf("%v, %v", info, err)
	}
	second := listen(t, path)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Fatalf("closing the old listener took the new one's socket: %v", err)
	} else if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		third, err := Listen(path, 0o600, 4242424)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Sys().(*syscall.Stat_t).Uid != 4242424 || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v", info, err)
		}
		if err := third.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestListen_Refuses(t *testing.T) {
	dir := privateDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "link"} {
		if _, err := Listen(filepath.Join(dir, name), 0o600, os.Getuid()); !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Listen(filepath.Join(dir, "absent", "s"), 0o600, os.Getuid()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("absent folder: %v", err)
	}
	if _, err := Listen(filepath.Join(dir, string(bytes.Repeat([]byte("x"), 120))), 0o600, os.Getuid()); err == nil {
		t.Error("a path longer than a socket's was accepted")
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(filepath.Join(dir, "s"), 0o600, os.Getuid()); !fault.Is(err, fault.Precondition) {
		t.Errorf("a folder that everybody may write to: %v", err)
	}
}
