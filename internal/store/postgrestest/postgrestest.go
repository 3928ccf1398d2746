package postgrestest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// Server is a PostgreSQL server that lives as long as its test.
type Server struct {
	folder string
	bin    string
	as     *syscall.Credential
	port   string // "" takes no TCP connections
	args   []string
	count  atomic.Int64
	server *exec.Cmd
	ended  chan struct{}
}

// New makes and starts a server that takes everybody on its unix socket.
func New(t testing.TB) *Server {
	t.Helper()
	s := prepare(t)
	s.Start(t)
	t.Cleanup(func() { s.Stop(t) })
	return s
}

// prepare makes a server. Its locale sorts as dictionaries do, so that a
// statement which relies on the order of bytes without saying so is found out.
func prepare(t testing.TB) *Server {
	t.Helper()
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(bins) == 0 {
		t.Fatal("PostgreSQL is needed for this test; 'make deps' installs it")
	}
	where := "/dev/shm" // the disk need not be waited for
	if info, err := os.Stat(where); err != nil || !info.IsDir() {
		where = "/tmp"
	}
	folder, err := os.MkdirTemp(where, "sallyport-pg-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	s := &Server{folder: folder, bin: filepath.Dir(slices.Max(bins))}
	if os.Geteuid() == 0 {
		s.as = unprivileged(t)
		if err := os.Chown(folder, int(s.as.Uid), int(s.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(folder, "data")
	initdb := s.command("initdb", "-D", data, "-U", "sallyport", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US", "--no-sync", "--no-instructions")
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	return s
}

// unprivileged is whom the server runs as: PostgreSQL refuses root.
func unprivileged(t testing.TB) *syscall.Credential {
	t.Helper()
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	t.Fatal("neither postgres nor nobody is a user of this computer")
	return nil
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.folder
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "PGHOST=" + s.folder}
	if s.port != "" {
		cmd.Env = append(cmd.Env, "PGPORT="+s.port)
	}
	// A test that is killed leaves no server behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// Start starts the server again after Stop.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.server = s.command("postgres", append([]string{"-D", filepath.Join(s.folder, "data"), "-k", s.folder, "-c", "listen_addresses=", "-c", "max_connections=200", "-c", "shared_buffers=32MB"}, s.args...)...)
	log, err := s.server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	started, ended := make(chan error, 1), make(chan struct{})
	s.ended = ended
	go func() {
		// The signal on death is bound to the thread that started the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		started <- s.server.Start()
		_ = s.server.Wait()
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	go func() {
		var said strings.Builder
		lines := bufio.NewScanner(log)
		for lines.Scan() {
			fmt.Fprintln(&said, lines.Text())
			if strings.Contains(lines.Text(), "database system is ready to accept connections") {
				ready <- ""
				_, _ = io.Copy(io.Discard, log)
				return
			}
		}
		ready <- said.String()
	}()
	if said := <-ready; said != "" {
		t.Fatalf("PostgreSQL did not start:\n%s", said)
	}
}

// Stop ends the server at once, as a crash of it would: connections break, and
// what was committed is there after Start.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	select {
	case <-s.ended:
		return
	default:
	}
	if err := s.server.Process.Signal(syscall.SIGQUIT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	<-s.ended
}

// Database makes an empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("d%d", s.count.Add(1))
	if out, err := s.command("createdb", "-U", "sallyport", name).CombinedOutput(); err != nil {
		t.Fatalf("createdb: %v\n%s", err, out)
	}
	return s.URL(name)
}

// URL is the address of a database of this server.
func (s *Server) URL(name string) string {
	url := "postgres://sallyport@/" + name + "?host=" + s.folder
	if s.port != "" {
		url += "&port=" + s.port
	}
	return url
}

// SQL runs a script in a database and returns what it printed.
func (s *Server) SQL(t testing.TB, url, script string) string {
	t.Helper()
	out, err := s.command("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}
