package inside

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReplaceFile_NeverFollowsALink(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "hosts")
	for _, name := range []string{path, path + ".sallyport"} {
		if err := os.Symlink(victim, name); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		if err := replaceFile(path, "new"); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		info, statErr := os.Lstat(path)
		if err != nil || statErr != nil || string(got) != "new" || !info.Mode().IsRegular() {
			t.Errorf("%q %v %v", got, err, info)
		}
	}
	check()
	if got, _ := os.ReadFile(victim); string(got) != "untouched" {
		t.Errorf("written through a link: %q", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "in", "the", "way"), 0o755); err != nil {
		t.Fatal(err)
	}
	check()
}

func TestSpec_IsReadAsWritten(t *testing.T) {
	want := Spec{Hostname: "web-1", Address: "10.77.0.2", Lower: []string{"/layer", "/rootfs"}, Upper: "/u", Work: "/w", Root: "/r", Program: "/p"}
	var pipe bytes.Buffer
	if err := WriteSpec(&pipe, want); err != nil {
		t.Fatal(err)
	}
	if got, err := readSpec(&pipe); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v %v", got, err)
	}
	for _, cut := range []string{"", "{", strings.Repeat(" ", maxSpec+1) + "{}"} {
		if _, err := readSpec(strings.NewReader(cut)); err == nil {
			t.Errorf("%.10q: accepted", cut)
		}
	}
}

func TestStageAndInit_RunAsFirstProcessOnly(t *testing.T) {
	for name, run := range map[string]func() error{"stage": Stage, "init": Init} {
		if err := run(); err == nil || !strings.Contains(err.Error(), "sally lab serve") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
