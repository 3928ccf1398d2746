package cli

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestJoin_Refusals: what keeps a computer from joining before the agent is asked.
func TestJoin_Refusals(t *testing.T) {
	f, p := newFake(t), newPerson(t)
	p.fails(1, []string{"this build of sally has no machine agent. Run it on the machine, with the sally of the package sallyport for Linux."}, "machine", "join", "-g", "RG")
	p.fails(1, []string{"this build of sally has no machine agent. Run it on the machine, with the sally of the package sallyport for Linux."}, "machine", "disconnect", "-y")
	joined := 0
	p.change = func(c *Config) { c.JoinHost = func(context.Context, HostJoin) error { joined++; return nil } }
	p.refuses(f, []wrong{
		{"machine join -g RG --service-principal --token-file x", 2, "usage error: give --token-file or --service-principal"},
		{"machine join -g RG --service-principal", 2, "usage error: --service-principal needs --username APPID and --password"},
		{"machine join -g RG -u " + appID, 2, "usage error: --username and --password go with --service-principal"},
		{"machine join -g RG -n m1 --token-file /nowhere/token", 1, "the token file cannot be read: "},
	})
	p.terminal = true
	p.fails(2, []string{"usage error: give --token-file FILE, a token on standard input, or --service-principal.", "sally machine token create --resource-group GROUP"}, "machine", "join", "-g", "RG")
	p.terminal = false
	principal := []string{"machine", "join", "-g", "RG", "-n", "m1", "--rejoin", "--service-principal", "-u", appID, "-p", "s3cret", "--server", f.address()}
	p.fails(1, []string{"there is no machine 'm1' in 'RG' to join again as. Leave --rejoin out."}, principal...)
	file := filepath.Join(p.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	p.fails(1, []string{file + " can be read by others. Run: chmod 600 " + file}, "machine", "join", "-g", "RG", "-n", "m1", "--token-file", file)
	t.Setenv("TMPDIR", file)
	p.fails(1, []string{"no folder for the sign-in can be made: ", "Set TMPDIR to a folder that is writable."}, principal...)
	p.change = func(c *Config) {
		c.JoinHost = func(context.Context, HostJoin) error { joined++; return nil }
		c.HostName = func() (string, error) { return "", errors.New("it was never set") }
	}
	p.fails(1, []string{"the host has no name: it was never set. Give --name."}, "machine", "join", "-g", "RG")
	if joined != 0 {
		t.Errorf("%d times joined", joined)
	}
}

// TestJoin_TokenFileThatStays: it is said, and the join has been one.
func TestJoin_TokenFileThatStays(t *testing.T) {
	p := newPerson(t)
	file := filepath.Join(p.dir, "token")
	if err := os.WriteFile(file, []byte("token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.change = func(c *Config) {
		c.JoinHost = func(_ context.Context, j HostJoin) error { // a folder with something in it is not removed
			if j.Token != "token" {
				t.Errorf("%+v", j)
			}
			return errors.Join(os.Remove(file), os.MkdirAll(filepath.Join(file, "inside"), 0o700))
		}
	}
	if r := p.run("machine", "join", "-g", "RG", "-n", "m1", "--token-file", file); r.code != 0 || !strings.Contains(r.err, "WARNING: the token is used up, but its file could not be removed: ") {
		t.Errorf("%+v", r)
	}
}

// TestKept_NamesWhatIsGone: a certificate file that was removed since the sign-in,
// and a server that took a name which no shell should read.
func TestKept_NamesWhatIsGone(t *testing.T) {
	f, p := newFake(t), newPerson(t)
	p.must("login", "--server", f.address(), "--service-principal", "-u", appID, "-p", "s3cret")
	file := filepath.Join(p.dir, "config", "tokens.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), `"secret": "s3cret"`, `"file": "/nowhere/gone.pem"`)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.now = p.now.Add(2 * time.Hour)
	f.date = p.now
	p.fails(1, []string{"cannot read the certificate file /nowhere/gone.pem: no such file or directory. Put it back, or sign in with another: sally login --service-principal"}, "account", "get-access-token")
	f.named, f.version = "https://a';rm", 2
	p.fails(2, []string{"the server's URL 'https://a';rm' cannot be put into a script"}, "cloud", "print-az-setup", "--server", f.address())
}

// TestAgent_SocketsOfOthers: what lies where the agent would answer stays.
func TestAgent_SocketsOfOthers(t *testing.T) {
	_, p := signedIn(t)
	file, other := filepath.Join(p.dir, "file"), filepath.Join(p.dir, "other.sock")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: other, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	p.fails(1, []string{"cannot look at " + file + "/sock: not a directory"}, "ssh", "agent", "--socket", file+"/sock")
	p.fails(1, []string{other + " is there and cannot be asked: "}, "ssh", "agent", "--socket", other)
	if _, err := os.Lstat(other); err != nil {
		t.Error(err)
	}
}
