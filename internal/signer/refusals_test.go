package signer_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/fault"
	"sallyport/internal/nobodytest"
	"sallyport/internal/signer"
)

// TestListen_WhatTheSystemRefuses: a socket of another kind is not replaced, and
// what this process may not do is said with the system's words.
func TestListen_WhatTheSystemRefuses(t *testing.T) {
	const stranger = 4242
	folder := func(owner int) string {
		dir, err := os.MkdirTemp("", "signer")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		if err := os.Chown(dir, owner, owner); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, "s")
	}
	datagrams := folder(0)
	other, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: datagrams, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	dead := folder(0)
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	_ = old.Close()
	if err := os.Chmod(dead, 0o666); err != nil {
		t.Fatal(err)
	}
	for words, path := range map[string]string{"cannot look at the socket ": datagrams, "cannot replace the socket ": dead, "cannot give the socket ": folder(nobodytest.UID)} {
		err := nobodytest.Do(func() error {
			l, err := signer.Listen(path, stranger)
			if err == nil {
				_ = l.Close()
			}
			return err
		})
		if err == nil || !strings.Contains(fault.As(err).Public(), words+path) {
			t.Errorf("got %v, want: %s%s", err, words, path)
		}
	}
}
