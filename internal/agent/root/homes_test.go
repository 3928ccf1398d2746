package root

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Handing a home over changes the old owner's files in it and nothing else: no
// file behind a link, none with a second name, none of anybody else.
func TestChownTree_OnlyTheOldOwnersOwnFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can give files away, and only root is asked to
	}
	const old, next, other = 1879048200, 1879048201, 1879048202
	base := t.TempDir()
	home := filepath.Join(base, "home")
	owners := map[string]uint32{"home": old, "home/sub": old, "home/sub/deep": old, "home/foreign": other, "home/root": 0, "outside": old, "folder": old, "folder/in": old, "linked": old}
	for _, dir := range []string{"home", "home/sub", "folder"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"home/sub/deep", "home/foreign", "home/root", "outside", "folder/in", "linked"} {
		if err := os.WriteFile(filepath.Join(base, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for path, uid := range owners {
		if err := os.Lchown(filepath.Join(base, path), int(uid), int(uid)); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"home/link": "outside", "home/sub/dir": "folder"} {
		if err := os.Symlink(filepath.Join(base, target), filepath.Join(base, link)); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(filepath.Join(base, link), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(base, "linked"), filepath.Join(home, "second-name")); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(home, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := chownTree(fd, old, next, 0); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]uint32{"home": next, "home/sub": next, "home/sub/deep": next, "home/link": next, "home/sub/dir": next,
		"home/foreign": other, "home/root": 0, "outside": old, "folder": old, "folder/in": old, "linked": old} {
		info, err := os.Lstat(filepath.Join(base, path))
		if err != nil || ownerOf(info) != want {
			t.Errorf("%s belongs to %d, want %d (%v)", path, ownerOf(info), want, err)
		}
	}
}
