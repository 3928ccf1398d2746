package server

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/handbooktest"
)

func TestInit_URLIsHTTPSAtTheRoot(t *testing.T) {
	for _, text := range []string{"", "login.corp.example", "http://login.corp.example", "https://", "https://h/path", "https://h?x=1", "https://h#f", "https://user@h", "https://u:p@h", "file:///etc/passwd"} {
		if u, err := checkURL(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q gave %q %v", text, u, err)
		}
	}
	if u, err := checkURL("https://Login.Corp.Example:8443/"); err != nil || u != "https://login.corp.example:8443" {
		t.Errorf("%q %v", u, err)
	}
}

func TestInit_StateFolderIsPrivate(t *testing.T) {
	dir := t.TempDir()
	private := filepath.Join(dir, "a", "state")
	if err := privateDir(private); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(private); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v %v", info.Mode(), err)
	}
	link, file, open := filepath.Join(dir, "link"), filepath.Join(dir, "file"), filepath.Join(dir, "open")
	for _, err := range []error{os.Symlink(private, link), os.WriteFile(file, nil, 0o700), os.Mkdir(open, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"agent", "nss.db"} {
		machine := filepath.Join(t.TempDir(), "sallyport")
		for _, err := range []error{os.Mkdir(machine, 0o700), os.WriteFile(filepath.Join(machine, file), nil, 0o600)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := privateDir(machine); fault.As(err).Code != "ComputerIsMachine" || !strings.Contains(fault.As(err).Public(), "sally machine disconnect") {
			t.Errorf("a machine's folder with %s: %v", file, err)
		}
	}
	for _, path := range []string{link, file, open} {
		if err := privateDir(path); err == nil {
			t.Errorf("%s was taken", path)
		}
	}
}

// The server refuses root before it touches anything.
func TestInit_RefusesRoot(t *testing.T) {
	if root := os.Geteuid() == 0; !root {
		if err := notRoot(); err != nil {
			t.Fatal(err)
		}
		return // root is what is refused, and nobody is here
	}
	state := filepath.Join(t.TempDir(), "state")
	_, err := Init(context.Background(), InitConfig{State: state, Domain: "corp.example", URL: "https://h", Admin: "admin", Now: time.Now, Rand: rand.Reader})
	if !fault.Is(err, fault.Forbidden) || fault.As(err).Code != "RunsAsRoot" {
		t.Fatal(err)
	}
	handbooktest.Said(t, fault.As(err).Public(), "start.RunsAsRoot")
	if _, err := os.Lstat(state); !os.IsNotExist(err) {
		t.Fatal("it made the folder all the same")
	}
}

// The files for password and address exist before the deployment does, belong
// to nobody else, and never replace what is there.
func TestInit_PasswordFileIsReservedFirst(t *testing.T) {
	dir := t.TempDir()
	password, address, taken := filepath.Join(dir, "password"), filepath.Join(dir, "address"), filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, names := range [][2]string{{taken, ""}, {password, taken}, {filepath.Join(dir, "no", "folder"), address}} {
		if _, err := reserve(names[0], names[1]); err == nil {
			t.Errorf("%v was taken", names)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Fatalf("something was left behind: %v %v", entries, err)
	}
	f, err := reserve(password, address)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	d := Deployment{Address: "https://h#pin", TenantID: "t", AdminUPN: "admin@corp.example", Password: "one-time-secret"}
	if err := report(&out, d, f); err != nil || strings.Contains(out.String(), d.Password) {
		t.Fatalf("%v %s", err, out.String())
	}
	if b, err := os.ReadFile(password); err != nil || string(b) != d.Password+"\n" {
		t.Fatalf("%q %v", b, err)
	}
	if info, err := os.Stat(password); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info.Mode(), err)
	}
	// A file that cannot be written any more does not cost the password.
	f, err = reserve(password+"2", "")
	if err != nil {
		t.Fatal(err)
	}
	_ = f.password.Close()
	out.Reset()
	if err := report(&out, d, f); err == nil || !strings.Contains(out.String(), d.Password) {
		t.Fatalf("%v %s", err, out.String())
	}
}

func TestPassphrase_FileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o440: true, 0o644: false, 0o604: false, 0o620: false} {
		_ = os.Remove(path)
		if err := os.WriteFile(path, []byte("secret words\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		got, err := passphrase(path)
		if (err == nil) != ok || ok && string(got) != "secret words" {
			t.Errorf("%o: %q %v", mode, got, err)
		}
	}
}

// The manifest has the cloud's own spelling, and no word for the global one.
func TestCheckCloud(t *testing.T) {
	for name, want := range map[string]string{"": "", "AzureCloud": "", "azurecloud": "", "azureusgovernment": "AzureUSGovernment", "AzureChinaCloud": "AzureChinaCloud"} {
		if got, err := checkCloud(name); err != nil || got != want {
			t.Errorf("%q: %q %v", name, got, err)
		}
	}
	if _, err := checkCloud("AzureGermanCloud"); !fault.Is(err, fault.Invalid) || fault.As(err).Code != "UnknownCloud" || !strings.Contains(fault.As(err).Public(), "AzureUSGovernment") {
		t.Error(err)
	}
}
