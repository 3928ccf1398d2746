package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/machine/protocol"
)

const (
	serverUID = 7703
	domain    = "corp.example"
	upn       = "admin@" + domain
	group     = "AzureADLinuxVM"
	machine   = "bench"
	password  = "Quartz-Lantern-83-Meadow"
	sshScope  = "https://pas.windows.net/CheckMyAccess/Linux/.default"
)

// world is one server, one lab and one machine with the extension, and what the
// measures know of them.
type world struct {
	dir, top, cache string
	userCA          string // algorithm of the user CA; empty for the usual one
	sally           string // copy that the bare uid may read
	address         string // URL#thumbprint
	url             string
	port            int
	server, lab     *exec.Cmd
	failed          error // why there is no world
	machineFailed   error // why there is no machine in it

	host       host          // where plain ssh reaches the machine
	firstLogin time.Duration // from the running server and lab to the first login
	signedIn   time.Time     // when somebody last gave a password
	crewMade   bool          // the people of team exist
	idle       memory        // of the server before anybody asked it anything
}

// served makes the world on first use; its server and its signed-in
// administrator are there even where the machine is not.
func (b *bench) served(ctx context.Context) (*world, error) {
	if b.world == nil {
		b.world = &world{dir: b.path("world"), top: b.top, cache: b.cache, userCA: b.userCA}
		b.world.failed = b.world.make(ctx)
	}
	return b.world, b.world.failed
}

// need is served with the machine.
func (b *bench) need(ctx context.Context) (*world, error) {
	w, err := b.served(ctx)
	if err == nil && w.machineFailed != nil {
		return nil, fmt.Errorf("the machine could not be made: %w", w.machineFailed)
	}
	return w, err
}

func (w *world) make(ctx context.Context) error {
	if err := os.Mkdir(w.dir, 0o711); err != nil {
		return err
	}
	if err := w.startServer(ctx); err != nil {
		return err
	}
	if err := w.startLab(ctx); err != nil {
		return err
	}
	var err error
	if w.idle, err = memoryOf(w.server.Process.Pid); err != nil {
		return err
	}
	begin := time.Now()
	if err := w.people(); err != nil {
		return err
	}
	w.signedIn = time.Now()
	w.machineFailed = w.machine()
	w.firstLogin = time.Since(begin)
	if w.machineFailed == nil {
		w.host, w.machineFailed = w.find(machine)
	}
	return nil
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) startServer(ctx context.Context) error {
	w.sally = w.path("sally")
	if _, err := output(exec.Command("install", "-m", "0755", filepath.Join(w.top, "out/sally"), w.sally)); err != nil {
		return err
	}
	var err error
	if w.port, err = freePort(); err != nil {
		return err
	}
	w.url = fmt.Sprintf("https://localhost:%d", w.port)
	state := w.path("server")
	if err := errors.Join(os.Mkdir(state, 0o700), os.Chown(state, serverUID, serverUID)); err != nil {
		return err
	}
	words := []string{"server", "init", "--state", state, "--domain", domain, "--url", w.url, "--password-file", state + "/first-password", "--address-file", state + "/address"}
	if w.userCA != "" {
		words = append(words, "--user-ca-algorithm", w.userCA)
	}
	if _, err := output(daemon(serverUID, w.sally, words...)); err != nil {
		return err
	}
	address, err := os.ReadFile(state + "/address")
	if err != nil {
		return err
	}
	w.address = strings.TrimSpace(string(address))
	w.server = daemon(serverUID, w.sally, "server", "run", "--state", state, "--listen", fmt.Sprintf("127.0.0.1:%d", w.port), "--lab-socket", w.path("lab.sock"))
	if err := errors.Join(logTo(w.server, w.path("server.log")), w.server.Start()); err != nil {
		return err
	}
	return said(until(ctx, 20*time.Second, func() error {
		_, err := w.trust()
		return err
	}), w.path("server.log"))
}

func (w *world) startLab(ctx context.Context) error {
	scripts := filepath.Join(w.top, "packaging/rootfs")
	socket := w.path("lab.sock")
	args := []string{"lab", "serve", "--socket", socket, "--owner", strconv.Itoa(serverUID), "--state", w.path("lab"), "--server-addr", fmt.Sprintf("127.0.0.1:%d", w.port)}
	for _, s := range systems() {
		rootfs, err := output(exec.Command(scripts+"/prepare.sh", w.cache, s.suite))
		if err != nil {
			return err
		}
		layer, err := output(exec.Command(scripts+"/layer.sh", rootfs, filepath.Join(w.top, "shim/out"), w.cache))
		if err != nil {
			return err
		}
		args = append(args, "--rootfs", s.name+"="+layer+":"+rootfs)
	}
	w.lab = daemon(0, w.sally, args...)
	if err := errors.Join(logTo(w.lab, w.path("lab.log")), w.lab.Start()); err != nil {
		return err
	}
	return said(until(ctx, 20*time.Second, func() error {
		_, err := w.run("lab", "status", "--socket", socket)
		return err
	}), w.path("lab.log"))
}

// people changes the one-time password and signs the administrator in.
func (w *world) people() error {
	first := "@" + w.path("server/first-password")
	for _, args := range [][]string{
		{"account", "password", "change", "--server", w.address, "--username", upn, "--password", first, "--new-password", password},
		{"login", "--server", w.address, "-u", upn, "-p", password},
		{"group", "create", "--name", group, "--location", "southcentralus"},
	} {
		if _, err := w.run(args...); err != nil {
			return fmt.Errorf("sally %s %s: %w", args[0], args[1], err)
		}
	}
	return nil
}

// machine makes the machine and logs in to it.
func (w *world) machine() error {
	if _, err := output(exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", w.path("static"))); err != nil {
		return err
	}
	scope, err := w.run("group", "show", "--resource-group", group, "--query", "id", "-o", "tsv")
	if err != nil {
		return err
	}
	for _, args := range append(w.makeMachine(machine, "UbuntuLTS", "Sallyport_netns"), [][]string{
		{"role", "assignment", "create", "--role", "Virtual Machine Administrator Login", "--assignee", upn, "--scope", scope},
		{"ssh", "vm", "-n", machine, "-g", group, "--", "true"},
	}...) {
		if _, err := w.run(args...); err != nil {
			return fmt.Errorf("sally %s %s: %w", args[0], args[1], err)
		}
	}
	return nil
}

// makeMachine is the commands that make a machine with the extension.
func (w *world) makeMachine(name, image, size string) [][]string {
	return [][]string{
		{"vm", "create", "--resource-group", group, "--name", name, "--image", image, "--size", size, "--assign-identity", "--admin-username", "azureuser", "--ssh-key-values", w.path("static.pub")},
		{"vm", "extension", "set", "--publisher", "Microsoft.Azure.ActiveDirectory", "--name", "AADSSHLoginForLinux", "--resource-group", group, "--vm-name", name},
	}
}

// command is sally as the administrator.
func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(w.sally, args...)
	cmd.Dir = w.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "SALLY_CONFIG_DIR=" + w.path("cli"), "LANG=C.UTF-8", "SALLY_SERVER=" + w.address}
	return cmd
}

func (w *world) run(args ...string) (string, error) { return output(w.command(args...)) }

func (w *world) close() {
	stop(w.lab)
	stop(w.server)
}

// host is where the machine's sshd answers and the name in its host certificate.
// Another lab on this computer may have the same address with another port.
type host struct {
	Address   string `json:"loopbackAddress"`
	Port      int    `json:"sshPort"`
	Principal string `json:"hostPrincipal"`
}

// find learns it and writes the file that lets ssh accept this machine only.
func (w *world) find(name string) (host, error) {
	var h host
	out, err := w.run("machine", "show", "-g", group, "-n", name, "--query", "properties", "-o", "json")
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal([]byte(out), &h); err != nil {
		return h, err
	}
	manifest, err := w.manifest()
	if err != nil {
		return h, err
	}
	var lines strings.Builder
	for _, public := range manifest.For(protocol.HostCA) {
		key, err := ssh.NewPublicKey(public)
		if err != nil {
			return h, err
		}
		fmt.Fprintf(&lines, "@cert-authority %s %s", h.Principal, ssh.MarshalAuthorizedKey(key))
	}
	return h, os.WriteFile(w.knownHosts(h), []byte(lines.String()), 0o600)
}

func (w *world) knownHosts(h host) string { return w.path("known_hosts-" + h.Principal) }

// manifest is the server's list of keys, checked by the thumbprint in its
// address as every client does.
func (w *world) manifest() (protocol.Manifest, error) {
	pin := w.address[strings.LastIndexByte(w.address, '#')+1:]
	// Nothing is sent before the manifest is checked, and it carries its own signature.
	unchecked := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	answer, err := unchecked.Get(w.url + "/.well-known/sallyport/manifest")
	if err != nil {
		return protocol.Manifest{}, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return protocol.Manifest{}, err
	}
	var signed protocol.SignedManifest
	if err := json.Unmarshal(data, &signed); err != nil {
		return protocol.Manifest{}, err
	}
	return signed.Open(pin)
}

// trust is the TLS configuration that the manifest gives.
func (w *world) trust() (*tls.Config, error) {
	manifest, err := w.manifest()
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	for _, der := range manifest.TLSRoots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		roots.AddCert(root)
	}
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}, nil
}
