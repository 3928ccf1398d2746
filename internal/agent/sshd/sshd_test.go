package sshd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/fault"
)

const helperPath = "/usr/libexec/sallyport-principals"

// fakeSSHD answers sshd -t, sshd -T -C and visudo from the files below root.
type fakeSSHD struct {
	root    string
	broken  string // sshd -t says this
	only    string // ... where it is asked with this word
	silent  bool   // sshd -T does not work
	status  error  // with which both end then; nil for their own
	reloads int
	manner  manner
	try     error
	refuse  map[string]string // keyword: value that sshd -T shows instead
}

func (f *fakeSSHD) run(_ context.Context, argv ...string) ([]byte, error) {
	joined := strings.Join(argv, " ")
	switch {
	case f.only != "" && f.broken != "" && strings.Contains(joined, f.only), f.only == "" && strings.Contains(joined, " -t") && f.broken != "":
		return []byte(f.broken), cmp.Or(f.status, errors.New("exit status 255"))
	case strings.Contains(joined, "-T -C") && f.silent:
		return []byte("no such connection"), cmp.Or(f.status, errors.New("exit status 255"))
	case strings.Contains(joined, "-T -C"):
		var b strings.Builder
		if f.manner.old {
			b.WriteString("challengeresponseauthentication yes\n")
		}
		shown := expectations(helperPath, f.manner)
		maps.Copy(shown, f.refuse)
		for key, value := range shown {
			fmt.Fprintf(&b, "%s %s\n", key, value)
		}
		return []byte(b.String()), nil
	}
	return nil, nil
}

const (
	mainConfig = "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\nMatch Address 10.0.0.0/8,192.168.1.1\n  PasswordAuthentication yes\n"
	pamSSHD    = "@include common-auth\naccount required pam_nologin.so\n@include common-account\n@include common-session"
	pamSudo    = "#%PAM-1.0\nsession required pam_limits.so\n@include common-auth\n@include common-account\n"
	pamSuL     = "auth include su\naccount include su\n"
	nsswitch   = "# comment\npasswd:         files systemd\ngroup:          files [SUCCESS=merge] systemd # keep\nhosts: files dns\n"
)

func machineRoot(t *testing.T) (string, *fakeSSHD, *Wiring) {
	t.Helper()
	root := t.TempDir()
	lib := "/usr/lib/x86_64-linux-gnu"
	for path, text := range map[string]string{
		mainPath: mainConfig, pamFolder + "/sshd": pamSSHD, pamFolder + "/sudo": pamSudo, pamFolder + "/su": pamSudo, pamFolder + "/su-l": pamSuL,
		nssPath: nsswitch, sudoersMain: "@includedir /etc/sudoers.d\n", "/etc/sudoers.d/README": "", dropInFolder + "/empty.conf": "",
		"/etc/passwd": "root:x:0:0::/root:/bin/sh\nsallyport-ssh:x:998:998::/nonexistent:/usr/sbin/nologin\n", "/etc/group": "root:x:0:\n",
		"/usr/sbin/sshd": "", "/usr/sbin/visudo": "", helperPath: "", lib + "/libpam.so.0": "", lib + "/libnss_sallyport.so.2": "",
		lib + "/security/pam_unix.so": "", lib + "/security/pam_sallyport.so": "", lib + "/security/pam_mkhomedir.so": "",
	} {
		put(t, root, path, text)
	}
	if err := os.MkdirAll(root+StateFolder, 0o700); err != nil {
		t.Fatal(err)
	}
	f := &fakeSSHD{root: root}
	return root, f, New(Config{Root: root, Owner: uint32(os.Geteuid()), Run: f.run,
		Reload: func(context.Context) error { f.reloads++; return nil }, Try: func(context.Context) error { return f.try }})
}

func put(t *testing.T, root, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(root+path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// picture is the content and mode of every file below /etc.
func picture(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(root+"/etc", func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&b, "== %s %s\n%s\n", strings.TrimPrefix(path, root), info.Mode(), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func wanted() Wanted {
	return Wanted{Domains: []string{"corp.example", "b.example"}, UserCAs: []string{"ssh-ed25519 AAAA"}, HostCertificate: true}
}

func read(t *testing.T, root, path string) string {
	t.Helper()
	b, err := os.ReadFile(root + path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestApply_WritesEverythingOnce(t *testing.T) {
	root, f, w := machineRoot(t)
	if err := w.Apply(context.Background(), wanted()); err != nil {
		t.Fatal(err)
	}
	for path, words := range map[string][]string{
		dropInPath:             {"HostCertificate /etc/ssh/sallyport_host_key-cert.pub\nMatch User *@corp.example,*@b.example,????????-????-????-????-????????????\n", "  AllowGroups sallyport-users\n", "  AuthorizedKeysFile none\n"},
		userCAPath:             {"ssh-ed25519 AAAA\n"},
		sudoersPath:            {"%#2147483641 ALL=(ALL:ALL) NOPASSWD: ALL\n", "Defaults:%#2147483640 !authenticate\n"},
		nssPath:                {"passwd:         files sallyport systemd\n", "group:          files [SUCCESS=merge] sallyport systemd # keep\n", "hosts: files dns\n"},
		pamFolder + "/sshd":    {"@include common-auth\n" + begin + "\naccount  [success=1 ignore=1 module_unknown=ignore default=bad]  pam_sallyport.so domains=corp.example,b.example\naccount  required                       pam_succeed_if.so quiet user notingroup sallyport-users\n" + end + "\naccount required pam_nologin.so", "pam_mkhomedir.so umask=0077\n", "uid >= 1879048192"},
		pamFolder + "/sudo":    {"@include common-auth\n" + begin},
		"/etc/ssh/sshd_config": {mainConfig},
	} {
		text := read(t, root, path)
		for _, x := range words {
			if !strings.Contains(text, x) {
				t.Errorf("%s lacks %q:\n%s", path, x, text)
			}
		}
	}
	if strings.Contains(read(t, root, dropInPath), "*@*") {
		t.Error("another directory's users would be ours (CVE-2026-31957)")
	}
	if read(t, root, pamFolder+"/su-l") != pamSuL {
		t.Error("su-l was changed although it takes its account phase from su")
	}
	if info, err := os.Stat(root + sudoersPath); err != nil || info.Mode().Perm() != 0o440 {
		t.Errorf("sudoers drop-in: %v %v", info.Mode(), err)
	}
	if !w.Wired() || f.reloads != 1 {
		t.Fatalf("wired %v, reloads %d", w.Wired(), f.reloads)
	}
	before := picture(t, root)
	if err := w.Apply(context.Background(), wanted()); err != nil || f.reloads != 1 || picture(t, root) != before {
		t.Fatalf("a second time: %v, reloads %d", err, f.reloads)
	}
}

func TestRemove_RestoresByteForByte(t *testing.T) {
	root, _, w := machineRoot(t)
	before := picture(t, root)
	if err := w.Apply(context.Background(), wanted()); err != nil {
		t.Fatal(err)
	}
	more := wanted()
	more.Domains = append(more.Domains, "c.example")
	if err := w.Apply(context.Background(), more); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Remove(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got := picture(t, root); got != before {
			t.Fatalf("not restored:\n%s", got)
		}
	}
	if w.Wired() {
		t.Fatal("still wired")
	}
	files, _ := os.ReadDir(root + StateFolder)
	if len(files) != 1 {
		t.Fatalf("kept files are left: %v", files)
	}
}

func TestRemove_KeepsWhatSomebodyEdited(t *testing.T) {
	root, _, w := machineRoot(t)
	if err := w.Apply(context.Background(), wanted()); err != nil {
		t.Fatal(err)
	}
	put(t, root, pamFolder+"/sudo", read(t, root, pamFolder+"/sudo")+"# mine\n")
	put(t, root, nssPath, strings.Replace(read(t, root, nssPath), "hosts: files dns", "hosts: dns", 1))
	if err := w.Remove(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, root, pamFolder+"/sudo"); got != pamSudo+"# mine\n" {
		t.Errorf("sudo: %q", got)
	}
	if got := read(t, root, nssPath); got != strings.Replace(nsswitch, "hosts: files dns", "hosts: dns", 1) {
		t.Errorf("nsswitch: %q", got)
	}
}

// TestApply_KilledAtEveryStep stops a change, and a removal, before each write,
// as a kill would, and starts again.
func TestApply_KilledAtEveryStep(t *testing.T) {
	for stop := 1; ; stop++ {
		root, f, w := machineRoot(t)
		before := picture(t, root)
		n := 0
		w.cfg.Step = func(string) error {
			if n++; n == stop {
				return errors.New("killed")
			}
			return nil
		}
		err := w.Apply(context.Background(), wanted())
		if err == nil {
			if stop < 8 {
				t.Fatalf("only %d steps", stop)
			}
			break
		}
		again := New(w.cfg)
		again.cfg.Step = nil
		wired := again.Wired()
		if err := again.Recover(context.Background()); err != nil {
			t.Fatalf("step %d: %v", stop, err)
		}
		if wired {
			if err := again.Check(context.Background(), wanted()); err != nil {
				t.Fatalf("step %d: counts as wired: %v", stop, err)
			}
		} else if got := picture(t, root); got != before {
			t.Fatalf("step %d: not undone:\n%s", stop, got)
		}
		if err := again.Apply(context.Background(), wanted()); err != nil || !again.Wired() || f.reloads == 0 {
			t.Fatalf("step %d: %v", stop, err)
		}
		killedRemoval(t, root, again, before, stop)
	}
}

func killedRemoval(t *testing.T, root string, w *Wiring, before string, stop int) {
	t.Helper()
	whole := picture(t, root)
	n := 0
	w.cfg.Step = func(string) error {
		if n++; n == stop {
			return errors.New("killed")
		}
		return nil
	}
	_ = w.Remove(context.Background())
	w.cfg.Step = nil
	if err := w.Recover(context.Background()); err != nil {
		t.Fatalf("removal, step %d: %v", stop, err)
	}
	if got := picture(t, root); got != before && !(w.Wired() && got == whole) {
		t.Fatalf("removal, step %d: neither finished nor not begun:\n%s", stop, got)
	}
}

func TestApply_FailureIsUndone(t *testing.T) {
	for name, c := range map[string]func(*fakeSSHD){
		"self-test fails":             func(f *fakeSSHD) { f.try = errors.New("nobody can log in") },
		"another value is in force":   func(f *fakeSSHD) { f.refuse = map[string]string{"authorizedkeysfile": ".ssh/authorized_keys"} },
		"sshd refuses the candidate":  func(f *fakeSSHD) { f.broken = "bad line" },
		"UsePAM is off":               func(f *fakeSSHD) { f.refuse = map[string]string{"usepam": "no"} },
		"somebody's CA stays trusted": func(f *fakeSSHD) { f.refuse = map[string]string{"trustedusercakeys": "/etc/ssh/their_ca.pub"} },
	} {
		root, f, w := machineRoot(t)
		before := picture(t, root)
		c(f)
		err := w.Apply(context.Background(), wanted())
		if err == nil || w.Wired() || picture(t, root) != before {
			t.Errorf("%s: %v, wired %v", name, err, w.Wired())
		}
	}
}

// TestApply_FailedChangeGoesBackToTheOneBefore: a change of an installed
// configuration that fails leaves the installed one.
func TestApply_FailedChangeGoesBackToTheOneBefore(t *testing.T) {
	root, f, w := machineRoot(t)
	original := picture(t, root)
	if err := w.Apply(context.Background(), wanted()); err != nil {
		t.Fatal(err)
	}
	before := picture(t, root)
	f.try = errors.New("no")
	more := wanted()
	more.Domains = []string{"corp.example"}
	if err := w.Apply(context.Background(), more); err == nil || !w.Wired() || picture(t, root) != before {
		t.Fatalf("%v", err)
	}
	f.try = nil
	if err := w.Remove(context.Background()); err != nil || picture(t, root) != original {
		t.Fatalf("%v", err)
	}
}

func TestApply_RefusesWithASentenceAndChangesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		change func(root string) error
		code   int
		word   string
	}{
		"no NSS library": {func(r string) error { return os.Remove(r + "/usr/lib/x86_64-linux-gnu/libnss_sallyport.so.2") }, 52, "libnss_sallyport.so.2"},
		"PAM module astray": {func(r string) error {
			return os.Rename(r+"/usr/lib/x86_64-linux-gnu/security/pam_sallyport.so", r+"/usr/lib/pam_sallyport.so")
		}, 52, "pam_sallyport.so"},
		"no helper":      {func(r string) error { return os.Remove(r + helperPath) }, 52, "sallyport-principals"},
		"no sshd":        {func(r string) error { return os.Remove(r + "/usr/sbin/sshd") }, 52, "OpenSSH"},
		"no helper user": {func(r string) error { return os.WriteFile(r+"/etc/passwd", []byte("root:x:0:0::/:/\n"), 0o644) }, 52, "sallyport-ssh"},
		"older extension": {func(r string) error {
			return os.WriteFile(r+pamFolder+"/sshd", []byte("account sufficient pam_aad.so\n"), 0o644)
		}, 23, "pam_aad.so"},
		"sudoers alone": {func(r string) error { return os.WriteFile(r+sudoersMain, []byte("root ALL=(ALL) ALL\n"), 0o644) }, 23, "@includedir"},
		// CVE-2026-34397, CVE-2025-59044, CVE-2025-49012: a name of ours is a local one.
		"local group": {func(r string) error {
			return os.WriteFile(r+"/etc/group", []byte("sallyport-admins:x:77:mallory\n"), 0o644)
		}, 23, "sallyport-admins"},
		"no account": {func(r string) error {
			return os.WriteFile(r+pamFolder+"/sudo", []byte("auth required pam_unix.so\n"), 0o644)
		}, 23, "account phase"},
	} {
		root, f, w := machineRoot(t)
		if err := c.change(root); err != nil {
			t.Fatal(err)
		}
		before := picture(t, root)
		err := w.Apply(context.Background(), wanted())
		if err == nil || ExitCode(err) != c.code || !strings.Contains(fault.As(err).Public(), c.word) {
			t.Errorf("%s: exit code %d, %v", name, ExitCode(err), err)
		}
		if picture(t, root) != before || f.reloads != 0 {
			t.Errorf("%s: something was changed", name)
		}
	}
}

func TestCheck_SeesDrift(t *testing.T) {
	for name, c := range map[string]func(root string, f *fakeSSHD) error{
		"our PAM line removed":  func(r string, _ *fakeSSHD) error { return os.WriteFile(r+pamFolder+"/sshd", []byte(pamSSHD), 0o644) },
		"our NSS entry removed": func(r string, _ *fakeSSHD) error { return os.WriteFile(r+nssPath, []byte(nsswitch), 0o644) },
		"another CA in the file": func(r string, _ *fakeSSHD) error {
			return os.WriteFile(r+userCAPath, []byte("ssh-ed25519 BBBB\n"), 0o644)
		},
		"drop-in removed":          func(r string, _ *fakeSSHD) error { return os.Remove(r + dropInPath) },
		"global setting in effect": func(_ string, f *fakeSSHD) error { f.refuse = map[string]string{"allowgroups": "staff"}; return nil },
	} {
		root, f, w := machineRoot(t)
		if err := w.Apply(context.Background(), wanted()); err != nil {
			t.Fatal(err)
		}
		mark := w.Mark()
		if err := c(root, f); err != nil {
			t.Fatal(err)
		}
		if err := w.Check(context.Background(), wanted()); err == nil {
			t.Errorf("%s: not seen", name)
		}
		if f.refuse == nil && w.Mark() == mark {
			t.Errorf("%s: the mark did not change", name)
		}
	}
}

func TestProbes_SatisfyEachOtherMatch(t *testing.T) {
	root, _, w := machineRoot(t)
	put(t, root, dropInFolder+"/a.conf", "Match User *@corp.example LocalPort 2200\n X11Forwarding no\nMatch Host *.dmz.example Address fe80::/10\n")
	probes, err := w.probes([]string{"corp.example"})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, p := range probes {
		all = append(all, p.String())
	}
	text := strings.Join(all, "\n")
	for _, want := range []string{"user=sallyport-probe@corp.example,host=localhost,addr=10.0.0.0,laddr", "user=x@corp.example,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=2200", "host=x.dmz.example,addr=fe80::,"} {
		if !strings.Contains(text, want) {
			t.Errorf("no probe %q in\n%s", want, text)
		}
	}
}

func TestEditMain_StandsBeforeTheFirstMatch(t *testing.T) {
	text := "Port 22\nMatch User bob\n  X11Forwarding no\n"
	got := editMain(text, []string{"Match User *@a.example", "  AllowGroups x"})
	if want := "Port 22\n" + begin + "\nMatch User *@a.example\n  AllowGroups x\n" + end + "\nMatch User bob\n  X11Forwarding no\n"; got != want {
		t.Fatalf("%q", got)
	}
	if editMain(got, []string{"Match User *@a.example", "  AllowGroups x"}) != got || strip(got) != text {
		t.Fatal("not idempotent, or not removable")
	}
	if got := editMain("Port 22", []string{"x"}); got != "Port 22\n"+begin+"\nx\n"+end+"\n" {
		t.Fatalf("%q", got)
	}
}

func TestStrip_UnterminatedBlock(t *testing.T) {
	text := "a\n" + begin + "\naccount required pam_sallyport.so domains=x\nb\n"
	if got := strip(text); got != "a\nb\n" {
		t.Fatalf("%q", got)
	}
}

func TestEditNSS_RoundTrip(t *testing.T) {
	for _, text := range []string{nsswitch, "passwd:files\ngroup: compat\ninitgroups: files\n", "passwd: systemd\ngroup: files\n", "# sallyport\npasswd: files sallyportx\ngroup: files\n", "hosts: dns\n", ""} {
		edited := editNSS(text)
		if !strings.Contains(edited, " sallyport") || editNSS(edited) != edited {
			t.Errorf("%q: %q", text, edited)
		}
		if got := stripNSS(edited); got != text {
			t.Errorf("%q came back as %q", text, got)
		}
	}
}

func TestAddSource_Place(t *testing.T) {
	for line, want := range map[string]string{
		"passwd: files systemd\n":              "passwd: files sallyport systemd\n",
		"passwd:files systemd # files\n":       "passwd:files sallyport systemd # files\n",
		"passwd: myfiles files ldap\n":         "passwd: myfiles files sallyport ldap\n",
		"group: compat [NOTFOUND=return] ldap": "group: compat [NOTFOUND=return] sallyport ldap",
		"group: files [ !UNAVAIL=return ]\n":   "group: files [ !UNAVAIL=return ] sallyport\n",
		"group: files [x]ldap\n":               "group: files [x]ldap sallyport\n",
		"group: ldap\r\n":                      "group: ldap sallyport\r\n",
		"group:\n":                             "group: sallyport\n",
	} {
		if got := addSource(line); got != want {
			t.Errorf("%q became %q, not %q", line, got, want)
		}
		if got := dropSource(want); got != line {
			t.Errorf("%q came back as %q, not %q", want, got, line)
		}
	}
}

func TestIncluded_OnlyBeforeAMatch(t *testing.T) {
	for text, want := range map[string]bool{
		mainConfig: true, "Include sshd_config.d/*.conf\n": true, "Match all\nInclude /etc/ssh/sshd_config.d/*.conf\n": false, "#Include /etc/ssh/sshd_config.d/*.conf\n": false, "": false,
	} {
		if included(text) != want {
			t.Errorf("%q", text)
		}
	}
}

// FuzzEdits: whatever a file holds, our lines can be put in and taken out.
func FuzzEdits(f *testing.F) {
	for _, s := range []string{mainConfig, pamSSHD, pamSudo, nsswitch, begin, begin + "\nx", end} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		clean := strip(text)
		if strip(clean) != clean && !strings.Contains(text, begin) {
			t.Fatal("strip is not stable")
		}
		if strings.Contains(text, nssName) || strings.Contains(text, "# BEGIN") || strings.Contains(text, "# END") {
			return
		}
		if got := strip(editMain(text, []string{"Match User x"})); got != text && got != withNewline(text) {
			t.Fatalf("%q became %q", text, got)
		}
		if edited, ok := editPAM(text, pamService{"sshd", true}, []string{"a.example"}, manner{}); ok {
			if got := strip(edited); got != text && got != withNewline(text) {
				t.Fatalf("%q became %q", text, got)
			}
		}
		if got := stripNSS(editNSS(text)); got != text && got != withNewline(text) {
			t.Fatalf("%q became %q", text, got)
		}
	})
}

func TestOrdinary_CommandLinesOfSSHD(t *testing.T) {
	for title, ok := range map[string]bool{
		"sshd: /usr/sbin/sshd -D -E /var/log/sshd.log [listener] 0 of 10-100 startups": true, "sshd: /usr/sbin/sshd -D -f /etc/ssh/sshd_config [listener]": true, "/usr/sbin/sshd -o UseDNS=no": true,
		"sshd: /usr/sbin/sshd -D -f /etc/ssh/other [listener]": false, "/usr/sbin/sshd -f/etc/other": false, "/usr/sbin/sshd -oUsePAM=no": false, "/usr/sbin/sshd -o usepam no": false, "/usr/sbin/sshd -f": false,
	} {
		if err := ordinary(title); (err == nil) != ok {
			t.Errorf("%s: %v", title, err)
		}
	}
}
