package cli

import (
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/handbooktest"
)

const principal = machineID + ".machine.contoso.test"

func (f *fake) facts(change string, with ...string) {
	text := `{"id":"` + vmPath + accessMember + `","properties":{"machineId":"` + machineID + `","resourceId":"` + vmPath + `","hostPrincipal":"` + principal + `","addresses":["10.77.0.2"],
		"loopbackAddress":"127.77.0.2","sshPort":22,"state":"running","agent":{"version":"1","lastSeen":"2026-11-22T11:59:30Z"},"snapshot":{"version":7,"acknowledged":7,"loginEnabled":true},
		"provisioning":{"state":"Succeeded"}}}`
	if change != "" {
		text = strings.Replace(text, change, with[0], 1)
	}
	f.routes["GET "+vmPath+accessMember] = text
}

func option(argv []string, name string) string {
	for i, a := range argv {
		if v, ok := strings.CutPrefix(a, name+"="); ok && i > 0 && argv[i-1] == "-o" {
			return v
		}
	}
	return ""
}

func TestSSHVM_Arguments(t *testing.T) {
	f, p := signedIn(t)
	f.facts("")
	p.during = func(argv []string) {
		key, cert := option(argv, "IdentityFile"), option(argv, "CertificateFile")
		data, err := os.ReadFile(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ssh.ParsePrivateKey(data); err != nil {
			t.Error(err)
		}
		for path, mode := range map[string]os.FileMode{key: 0o600, cert: 0o600, filepath.Dir(key): 0o700} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: %v %v", path, info, err)
			}
		}
		hosts, _ := os.ReadFile(option(argv, "UserKnownHostsFile"))
		if !strings.HasPrefix(string(hosts), "@cert-authority "+principal+" ssh-ed25519 ") {
			t.Errorf("known hosts: %s", hosts)
		}
		if filepath.Dir(key)+"/"+filepath.Base(key)+"-cert.pub" == cert {
			t.Error("ssh would load the certificate twice")
		}
	}
	p.must("ssh", "vm", "-n", "myVM", "-g", "RG", "--", "-A", "-o", "PubkeyAcceptedKeyTypes= +ssh-rsa-cert-v01@openssh.com", "id")
	argv := p.runs[0]
	for name, want := range map[string]string{"User": alice, "IdentitiesOnly": "yes", "HostKeyAlias": principal, "StrictHostKeyChecking": "yes", "AddKeysToAgent": "no", "PasswordAuthentication": "no", "GlobalKnownHostsFile": "/dev/null", "Port": ""} {
		if got := option(argv, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if tail := argv[len(argv)-5:]; !slices.Equal(tail, []string{"127.77.0.2", "-A", "-o", "PubkeyAcceptedKeyTypes= +ssh-rsa-cert-v01@openssh.com", "id"}) {
		t.Errorf("tail %q", tail)
	}
	if _, err := os.Stat(option(argv, "IdentityFile")); !os.IsNotExist(err) {
		t.Errorf("the key is left: %v", err)
	}
	form := f.forms[len(f.forms)-1]
	if form.Get("token_type") != "ssh-cert" || form.Get("machine") != machineID || form.Get("scope") != "https://pas.windows.net/CheckMyAccess/Linux/.default offline_access openid profile" ||
		!strings.Contains(form.Get("req_cnf"), `"kty":"OKP"`) || len(form.Get("key_id")) != 64 {
		t.Errorf("form %v", form)
	}
	p.exit = 7
	p.fails(7, nil, "ssh", "vm", "-n", "myVM", "-g", "RG", "--prefer-private-ip", "--port", "2222")
	if argv := p.runs[1]; argv[len(argv)-1] != "10.77.0.2" || option(argv, "Port") != "2222" {
		t.Errorf("private: %q", argv)
	}
}

func TestSSHVM_SaysBeforeConnecting(t *testing.T) {
	f, p := signedIn(t)
	f.facts(`"state":"running"`, `"state":"stopped"`)
	p.fails(1, []string{"page:MachineStopped", "myVM is stopped."}, "ssh", "vm", "-n", "myVM", "-g", "RG")
	f.facts(`"loginEnabled":true`, `"loginEnabled":false`)
	p.fails(1, []string{"page:LoginNotEnabled"}, "ssh", "vm", "-n", "myVM", "-g", "RG")
	p.fails(3, []string{"(ResourceNotFound)"}, "ssh", "vm", "-n", "other", "-g", "RG")
	p.fails(2, []string{"--ip"}, "ssh", "vm", "-n", "myVM")
	p.fails(2, []string{"one without", "--ip"}[1:], "ssh", "vm", "-n", "myVM", "-g", "RG", "--ip", "10.0.0.1")
	p.fails(2, []string{"go after --"}, "ssh", "vm", "-n", "myVM", "-g", "RG", "id")
	p.fails(2, []string{"--port"}, "ssh", "vm", "-n", "myVM", "-g", "RG", "--port", "x")
	if len(p.runs) != 0 {
		t.Errorf("ssh ran: %q", p.runs)
	}
}

// CVE lesson: user-name and host injection into ssh (OpenSSH 10.3, 2026).
func TestSSHVM_HostileServerValues(t *testing.T) {
	for _, evil := range []string{"-oProxyCommand=touch /tmp/x", "a\\nHost *", "a b", "a`b`", "a%h", "a\\\"b", "$(x)", ""} {
		f, p := signedIn(t)
		cfg := filepath.Join(p.dir, "cfg")
		for change, with := range map[string]string{`"127.77.0.2"`: `"` + evil + `"`, `"10.77.0.2"`: `"` + evil + `"`, `"` + principal + `"`: `"` + evil + `"`, `"` + machineID + `"`: `"` + evil + `"`} {
			if evil == "" && change == `"127.77.0.2"` {
				continue // no loopback address is a fact, not an attack
			}
			f.facts(change, with)
			for _, args := range [][]string{{"ssh", "vm", "-n", "myVM", "-g", "RG"}, {"ssh", "config", "--file", cfg, "-n", "myVM", "-g", "RG"}} {
				if r := p.run(args...); r.code == 0 {
					t.Errorf("%s = %q was accepted", change, evil)
				}
			}
		}
		f.facts("")
		f.changeCA = func(c *ssh.Certificate) { c.ValidPrincipals = []string{strings.ReplaceAll(evil, "\\n", "\n"), "x"} }
		for _, args := range [][]string{{"ssh", "vm", "-n", "myVM", "-g", "RG"}, {"ssh", "config", "--file", cfg, "-n", "myVM", "-g", "RG"}, {"ssh", "vm", "--ip=" + evil}} {
			if r := p.run(args...); r.code == 0 {
				t.Errorf("login %q was accepted by %v", evil, args)
			}
		}
		if _, err := os.Stat(cfg); err == nil || len(p.runs) != 0 {
			t.Errorf("%q reached ssh: %v %q", evil, err, p.runs)
		}
	}
}

func TestCertificate_WrongOnesAreNotUsed(t *testing.T) {
	_, strange, err := edKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*fake, *ssh.Certificate){
		"host certificate":  func(_ *fake, c *ssh.Certificate) { c.CertType = ssh.HostCert },
		"for another key":   func(_ *fake, c *ssh.Certificate) { c.Key = strange },
		"no end":            func(_ *fake, c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity },
		"nobody":            func(_ *fake, c *ssh.Certificate) { c.ValidPrincipals = nil },
		"expired":           func(_ *fake, c *ssh.Certificate) { c.ValidBefore = uint64(clock().Add(-time.Minute).Unix()) },
		"unknown critical":  func(_ *fake, c *ssh.Certificate) { c.CriticalOptions = map[string]string{"x@y": "z"} },
		"foreign authority": func(f *fake, _ *ssh.Certificate) { f.userCA = f.manifest },
	} {
		f, p := signedIn(t)
		f.facts("")
		f.changeCA = func(c *ssh.Certificate) { change(f, c) }
		if name == "foreign authority" {
			// The manifest that the client holds names the old key, and the one it
			// fetches again is made unreadable.
			f.version = 0
		}
		if r := p.run("ssh", "vm", "-n", "myVM", "-g", "RG"); r.code != 1 || len(p.runs) != 0 {
			t.Errorf("%s: %+v", name, r)
		} else if name == "for another key" {
			handbooktest.Said(t, r.err, "BadCertificate")
		}
	}
}

func edKey() (any, ssh.PublicKey, error) {
	_, pub, err := (&app{cfg: Config{Rand: rand.Reader}}).throwaway()
	return nil, pub, err
}

func TestCertificate_RotatedAuthorityIsFetched(t *testing.T) {
	f, p := signedIn(t)
	f.facts("")
	f.userCA, f.version = f.hostCA, 2
	p.must("ssh", "vm", "-n", "myVM", "-g", "RG")
}

func TestStepUp(t *testing.T) {
	f, p := signedIn(t)
	f.facts("")
	f.certErr = `{"error":"interaction_required","error_description":"AADSTS50076: multifactor is needed.","error_codes":[50076],"claims":"{}"}`
	p.fails(1, []string{"AADSTS50076", "sally login --scope https://pas.windows.net/CheckMyAccess/Linux/.default"}, "ssh", "vm", "-n", "myVM", "-g", "RG")
	p.terminal = true
	r := p.run("ssh", "vm", "-n", "myVM", "-g", "RG")
	if r.code != 0 || !strings.Contains(r.err, "enter the code") || len(p.runs) != 1 {
		t.Fatalf("step-up: %+v", r)
	}
	form := f.forms[len(f.forms)-1]
	if form.Get("token_type") != "ssh-cert" || form.Get("machine") != machineID || !strings.HasSuffix(form.Get("grant_type"), "device_code") {
		t.Errorf("form %v", form)
	}
	p.browser = func(u string) error {
		go func() {
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // a test's browser
			if res, err := client.Get(u); err == nil {
				_ = res.Body.Close()
			}
		}()
		return nil
	}
	p.must("ssh", "vm", "-n", "myVM", "-g", "RG")
	if form := f.forms[len(f.forms)-1]; form.Get("token_type") != "ssh-cert" || form.Get("grant_type") != "authorization_code" || f.code.Get("claims") != "{}" || f.code.Get("login_hint") != alice || f.code.Has("prompt") {
		t.Errorf("form %v, page %v", form, f.code)
	}
}

func TestExplain(t *testing.T) {
	f, p := signedIn(t)
	p.exit = 255
	f.facts("")
	p.fails(255, []string{"page:permission-denied", "ssh could not log in to myVM", "correlation id " + certID, "sally audit list --correlation-id"}, "ssh", "vm", "-n", "myVM", "-g", "RG")
	f.facts(`"acknowledged":7`, `"acknowledged":6`)
	p.fails(255, []string{"has not taken over"}, "ssh", "vm", "-n", "myVM", "-g", "RG")
	f.facts(`2026-11-22T11:59:30Z`, `2026-11-22T10:59:30Z`)
	p.fails(255, []string{"page:agent-away"}, "ssh", "vm", "-n", "myVM", "-g", "RG")
	f.facts("")
	p.during = func([]string) { p.now = p.now.Add(2 * time.Hour); f.mu.Lock(); f.date = p.now; f.mu.Unlock() }
	p.fails(255, []string{"page:ran-out"}, "ssh", "vm", "-n", "myVM", "-g", "RG")
}

func TestSSHVM_LocalUserAndOwnKey(t *testing.T) {
	f, p := signedIn(t)
	f.facts(`"loginEnabled":true`, `"loginEnabled":false`)
	key := filepath.Join(p.dir, "own")
	if err := os.WriteFile(key, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := len(f.forms)
	p.must("ssh", "vm", "-n", "myVM", "-g", "RG", "--local-user", "azureuser", "--private-key-file", key)
	argv := p.runs[0]
	if option(argv, "User") != "azureuser" || option(argv, "IdentityFile") != key || option(argv, "CertificateFile") != "" || option(argv, "HostKeyAlias") != "" || len(f.forms) != n {
		t.Errorf("argv %q", argv)
	}
	p.fails(1, []string{"login name"}, "ssh", "vm", "-n", "myVM", "-g", "RG", "--local-user", "-oProxyCommand=x")
}

// TestSSHVM_IP: an address shows which machine it is by its host certificate.
func TestSSHVM_IP(t *testing.T) {
	f, p := signedIn(t)
	port := f.sshd(t, principal)
	p.must("ssh", "vm", "--ip", "127.0.0.1", "--port", port, "--", "id")
	if argv := p.runs[0]; option(argv, "HostKeyAlias") != principal || option(argv, "StrictHostKeyChecking") != "yes" {
		t.Errorf("argv %q", argv)
	}
	if got := f.forms[len(f.forms)-1].Get("machine"); got != machineID {
		t.Errorf("machine %q", got)
	}
	for _, other := range []string{"*", machineID + ".machine.evil.test", "root", machineID + ".machine.contoso.test.evil"} {
		r := p.run("ssh", "vm", "--ip", "127.0.0.1", "--port", f.sshd(t, other))
		if argv := p.runs[len(p.runs)-1]; r.code != 0 || option(argv, "HostKeyAlias") != "" || !strings.Contains(r.err, "no host certificate of this directory") {
			t.Errorf("%s: %+v %q", other, r, argv)
		}
	}
}

// sshd shows a host certificate for one principal to every connection.
func (f *fake) sshd(t *testing.T, name string) string {
	t.Helper()
	ca, err := ssh.NewSignerFromSigner(f.hostCA)
	if err != nil {
		t.Fatal(err)
	}
	host, err := ssh.NewSignerFromSigner(f.manifest)
	if err != nil {
		t.Fatal(err)
	}
	c := &ssh.Certificate{Key: host.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{name}, ValidAfter: uint64(clock().Add(-time.Hour).Unix()), ValidBefore: uint64(clock().Add(time.Hour).Unix())}
	if err := c.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewCertSigner(c, host)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _, _, _ = ssh.NewServerConn(conn, config); _ = conn.Close() }()
		}
	}()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

func TestSSHConfig_Golden(t *testing.T) {
	f, p := signedIn(t)
	f.facts("")
	cfg := filepath.Join(p.dir, "cfg")
	if err := os.WriteFile(cfg, []byte("Host mine\n    User me"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.must("ssh", "config", "--file", cfg, "-n", "myVM", "-g", "RG")
	keys := filepath.Join(p.dir, "sally_ssh_config", "RG-myVM")
	body := func(first string) string {
		return first + `    User ` + alice + `
    AddKeysToAgent no
    CertificateFile ` + keys + `/ssh-cert.pub
    IdentityFile ` + keys + `/id_ed25519
    IdentitiesOnly yes
    PasswordAuthentication no
    KbdInteractiveAuthentication no
    HostKeyAlias ` + principal + `
    UserKnownHostsFile ` + keys + `/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    CheckHostIP no
    UpdateHostKeys no
    VerifyHostKeyDNS no
`
	}
	want := "Host mine\n    User me\n# sally begin RG-myVM\nMatch originalhost RG-myVM,127.77.0.2,10.77.0.2 exec \"'/usr/bin/sally' ssh renew --folder '" + keys + "'\"\n" +
		body("Host RG-myVM\n    HostName 127.77.0.2\n") + body("Host 127.77.0.2\n") + body("Host 10.77.0.2\n") + "Match all\n# sally end RG-myVM\n"
	got, err := os.ReadFile(cfg)
	if err != nil || string(got) != want {
		t.Fatalf("%v\n%s\nwant\n%s", err, got, want)
	}
	p.must("ssh", "config", "--file", cfg, "-n", "myVM", "-g", "RG")
	if again, _ := os.ReadFile(cfg); string(again) != want {
		t.Errorf("not idempotent:\n%s", again)
	}
	p.must("ssh", "config", "--file", cfg, "-n", "myVM", "-g", "RG", "--overwrite")
	if over, _ := os.ReadFile(cfg); strings.Contains(string(over), "Host mine") {
		t.Errorf("not overwritten:\n%s", over)
	}
	readBack(t, cfg, keys)
	checkRenewal(t, f, p, keys)
}

// readBack asks the real ssh, without connecting, what it reads.
func readBack(t *testing.T, cfg, keys string) {
	t.Helper()
	text, err := os.ReadFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	// The renewal is left out: it would run the installed program.
	plain := filepath.Join(t.TempDir(), "cfg")
	if err := os.WriteFile(plain, []byte(strings.Replace(string(text), "'/usr/bin/sally'", "/bin/true", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ssh", "-F", plain, "-G", "RG-myVM").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range []string{"hostname 127.77.0.2", "user " + alice, "hostkeyalias " + principal, "identityfile " + keys + "/id_ed25519", "certificatefile " + keys + "/ssh-cert.pub", "stricthostkeychecking true"} {
		if !strings.Contains(string(out), "\n"+line+"\n") && !strings.HasPrefix(string(out), line+"\n") {
			t.Errorf("ssh does not read %q:\n%s", line, out)
		}
	}
}

func checkRenewal(t *testing.T, f *fake, p *person, keys string) {
	t.Helper()
	cert := filepath.Join(keys, "ssh-cert.pub")
	n := len(f.forms)
	p.must("ssh", "renew", "--folder", keys)
	if len(f.forms) != n {
		t.Error("a good certificate was renewed")
	}
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	p.must("ssh", "renew", "--folder", keys)
	if _, err := os.Stat(cert); err != nil || len(f.forms) != n+1 {
		t.Errorf("not renewed: %v", err)
	}
	f.certErr = `{"error":"interaction_required","error_description":"AADSTS50076: multifactor is needed."}`
	_ = os.Remove(cert)
	p.terminal = true
	p.fails(1, []string{"AADSTS50076", "sally login --scope"}, "ssh", "renew", "--folder", keys)
	p.must("logout")
	p.fails(1, []string{"sally login"}, "ssh", "renew", "--folder", keys)
	p.fails(1, []string{"no folder of a configuration"}, "ssh", "renew", "--folder", p.dir)
}

func TestSSHCert(t *testing.T) {
	f, p := signedIn(t)
	file := filepath.Join(p.dir, "id-cert.pub")
	r := p.run("ssh", "cert", "--file", file)
	if r.code != 0 || !strings.Contains(r.err, "Generated SSH certificate "+file+" is valid until ") {
		t.Fatalf("%+v", r)
	}
	if f.forms[len(f.forms)-1].Has("machine") {
		t.Error("a certificate for other clients is bound to a machine")
	}
	out, err := exec.Command("ssh-keygen", "-L", "-f", file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), alice) {
		t.Errorf("%v %s", err, out)
	}
	p.must("ssh", "cert", "--file", file, "--public-key-file", filepath.Join(p.dir, "id_ed25519.pub"))
	p.fails(1, []string{"not an OpenSSH public key"}, "ssh", "cert", "--file", file, "--public-key-file", filepath.Join(p.dir, "id_ed25519"))
	p.fails(1, []string{"is a certificate"}, "ssh", "cert", "--file", file, "--public-key-file", file)
	p.fails(1, []string{"not in a folder"}, "ssh", "cert", "--file", "/nowhere/at/all")
}
