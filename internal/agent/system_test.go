package agent

import (
	"context"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sallyport/internal/agent/root"
)

// TestRun_CVE_2026_26148_EnvironmentHasNoSay: what the root part runs takes
// program, library path and everything else from us and not from whoever
// started the agent.
func TestRun_CVE_2026_26148_EnvironmentHasNoSay(t *testing.T) {
	evil := t.TempDir()
	if err := os.WriteFile(evil+"/env", []byte("#!/bin/sh\necho stolen\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(evil)
	for name, value := range map[string]string{"PATH": evil + ":" + os.Getenv("PATH"), "LD_PRELOAD": evil + "/x.so", "LD_LIBRARY_PATH": evil, "HOME": evil, "BASH_ENV": evil + "/rc", "ENV": evil + "/rc", "IFS": "x", "TMPDIR": evil} {
		t.Setenv(name, value)
	}
	out, err := run(context.Background(), root.Command{Argv: []string{"env"}})
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	got := strings.Fields(string(out))
	slices.Sort(got)
	if want := []string{"HOME=/root", "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if out, err := run(context.Background(), root.Command{Argv: []string{"pwd"}}); err != nil || strings.TrimSpace(string(out)) != "/" {
		t.Errorf("%q %v", out, err)
	}
	if _, err := run(context.Background(), root.Command{Argv: []string{"no-such-program-anywhere"}}); err == nil {
		t.Error("a program that is not there was run")
	}
}

// TestRun_CVE_2023_28436_NoGroupsOfRoot: what runs as somebody else has his uid
// and his gid, and no group of the root part.
func TestRun_CVE_2023_28436_NoGroupsOfRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("only root can become somebody else: run this test as root")
	}
	before, err := syscall.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setgroups([]int{0, 27, 4242}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setgroups(before); err != nil {
			t.Error(err)
		}
	}()
	out, err := run(context.Background(), root.Command{Argv: []string{"sh", "-c", "id -u; id -G; echo $HOME"}, As: &root.Credential{UID: 1879048200, GID: 1879048200, Home: "/home/x"}})
	if err != nil || string(out) != "1879048200\n1879048200\n/home/x\n" {
		t.Fatalf("%q %v", out, err)
	}
}
