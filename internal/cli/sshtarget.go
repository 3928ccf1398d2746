package cli

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/cli/client"
	"sallyport/internal/fault"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/scope"
)

const probeTime = 5 * time.Second

// facts is what the server knows of a machine (Sallyport.Access/machines).
type facts struct {
	ID         string `json:"id"`
	Properties struct {
		MachineID string   `json:"machineId"`
		Principal string   `json:"hostPrincipal"`
		Addresses []string `json:"addresses"`
		Loopback  string   `json:"loopbackAddress"`
		Port      int      `json:"sshPort"`
		State     string   `json:"state"`
		Note      string   `json:"note"`
		Agent     struct {
			LastSeen time.Time `json:"lastSeen"`
		} `json:"agent"`
		Snapshot struct {
			Version      int64 `json:"version"`
			Acknowledged int64 `json:"acknowledged"`
			LoginEnabled bool  `json:"loginEnabled"`
		} `json:"snapshot"`
		NewModel *struct { // of an instance's scale set, which it does not have yet
			LoginEnabled bool `json:"loginEnabled"`
		} `json:"newModel"`
		Provisioning struct {
			State    string `json:"state"`
			ExitCode int    `json:"exitCode"`
			Message  string `json:"message"`
		} `json:"provisioning"`
	} `json:"properties"`
}

// target is where to connect and whom to expect there.
type target struct {
	id        scope.ID // zero for --ip
	name      string   // RG-VM, or the address
	address   string
	others    []string // further addresses of the machine
	port      int
	principal string // of the host certificate; empty: the person's own known_hosts decides
	machine   string // machine id; empty when unknown
	foreign   bool   // --ip: it shows a host certificate that our list of keys does not cover
	known     *facts
}

func targetFlags() []flag {
	return []flag{
		{name: "resource-group", short: "g", usage: "Name of the resource group"}, {name: "name", short: "n", usage: "Name of the virtual machine", aliases: "vm-name"}, flagInstance(),
		{name: "ip", usage: "Address of the machine, in the place of its name", aliases: "hostname"}, {name: "ids", kind: 'l', usage: "Resource ID, in the place of the name and the resource group"},
		{name: "prefer-private-ip", kind: 'b', usage: "Connect to the private address"}, {name: "port", usage: "Port of sshd"},
		{name: "local-user", short: "l", usage: "Account of the machine itself, with a key of your own"}, {name: "resource-type", usage: "Microsoft.Compute/virtualMachines or " + joinedType + ", where both have a machine of that name"},
	}
}

// find resolves the machine that the flags name.
func (a *app) find(ctx context.Context, in values) (*client.Session, target, error) {
	port := 0
	if p := in.text("port"); p != "" {
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 || n > 65535 {
			return nil, target{}, usageError{"argument --port: '" + p + "' is not a port"}
		}
		port = n
	}
	named, ids := in.text("name") != "" || in.text("resource-group") != "", in.list("ids")
	switch {
	case in.given("ip") && (named || len(ids) > 0), named && len(ids) > 0:
		return nil, target{}, usageError{"usage error: give --ip, or --resource-group and --name, or --ids"}
	case in.given("ip"):
		if err := checkHost(in.text("ip")); err != nil {
			return nil, target{}, err
		}
		s, err := a.identity()
		if err != nil {
			return nil, target{}, err
		}
		t, err := a.probe(ctx, s.Server().Manifest(), in.text("ip"), max(port, 0))
		if err == nil && t.foreign && s.Server().Renew(ctx) == nil { // of a host CA that is newer than our list, perhaps
			t, err = a.probe(ctx, s.Server().Manifest(), in.text("ip"), max(port, 0))
		}
		return s, t, err
	}
	s, id, err := a.machineID(ctx, in)
	if err != nil {
		return nil, target{}, err
	}
	t, err := a.lookup(ctx, s, id, in.on("prefer-private-ip"))
	if client.IsHidden(err) && len(ids) == 0 && in.text("resource-type") == "" && !isInstance(id) {
		// No virtual machine of that name: one that joined, perhaps.
		if other, ok := joinedName(id); ok {
			if joined, otherErr := a.lookup(ctx, s, other, in.on("prefer-private-ip")); !client.IsHidden(otherErr) {
				t, err = joined, otherErr
			}
		}
	}
	if port != 0 {
		t.port = port
	}
	return s, t, err
}

// machineID makes the resource id of -g and -n, or reads --ids.
func (a *app) machineID(ctx context.Context, in values) (*client.Session, scope.ID, error) {
	if ids := in.list("ids"); len(ids) > 0 {
		if len(ids) > 1 {
			return nil, scope.ID{}, usageError{"argument --ids: one machine at a time"}
		}
		s, err := a.identity()
		if err != nil {
			return nil, scope.ID{}, err
		}
		id, err := scope.Parse(ids[0])
		return s, id, err
	}
	if err := required(in.cmd, "resource-group", "name"); err != nil {
		return nil, scope.ID{}, usageError{"usage error: give --ip, or --resource-group and --name, or --ids"}
	}
	s, err := a.session(ctx)
	if err != nil {
		return nil, scope.ID{}, err
	}
	path, err := machinePath(s, in)
	if err != nil {
		return nil, scope.ID{}, err
	}
	id, err := scope.Parse(path)
	if err != nil {
		return nil, id, err
	}
	if isInstance(id) {
		return s, id, nil
	}
	switch kind := in.text("resource-type"); {
	case strings.EqualFold(kind, joinedType):
		id, _ = joinedName(id)
	case kind != "" && !strings.EqualFold(kind, id.Type()):
		return nil, id, usageError{"argument --resource-type: '" + kind + "' is neither " + id.Type() + " nor " + joinedType}
	}
	return s, id, nil
}

// joinedType is what machines are that joined from elsewhere.
const joinedType = "Microsoft.HybridCompute/machines"

// joinedName is the id of the joined machine with the name of a virtual machine.
func joinedName(vm scope.ID) (scope.ID, bool) {
	group, _ := vm.Parent()
	id, err := scope.Parse(group.String() + "/providers/" + joinedType + "/" + vm.Name())
	return id, err == nil
}

// lookup asks Resource Manager for the machine's facts and checks every value.
func (a *app) lookup(ctx context.Context, s *client.Session, id scope.ID, private bool) (target, error) {
	var f facts
	if err := do(ctx, s, call(http.MethodGet, id.String()+accessMember), &f); err != nil {
		return target{}, err
	}
	p := f.Properties
	t := target{id: id, port: 22, known: &f, principal: p.Principal}
	t.name = id.ResourceGroupName() + "-" + t.called()
	if err := checkAlias(t.name); err != nil {
		return target{}, err
	}
	var err error
	if t.machine, err = machineOf(p.Principal); err != nil {
		return target{}, err
	}
	if !strings.EqualFold(t.machine, p.MachineID) {
		return target{}, fault.New(fault.Invalid, "UnsafeValue", "the server's answer names two machines: %q and %q", p.MachineID, p.Principal)
	}
	all := append(add(nil, p.Loopback), p.Addresses...)
	for _, address := range all {
		if err := checkHost(address); err != nil {
			return target{}, err
		}
	}
	switch {
	case private && len(p.Addresses) > 0:
		t.address = p.Addresses[0]
	case len(all) > 0:
		t.address = all[0]
	default:
		if t.address, err = a.publicAddress(ctx, s, id); err != nil {
			return target{}, err
		}
	}
	if t.address == p.Loopback && p.Port > 0 && p.Port < 65536 {
		t.port = p.Port
	}
	for _, address := range all {
		if address != t.address {
			t.others = append(t.others, address)
		}
	}
	return t, nil
}

// publicAddress walks from the machine over its interfaces, as az ssh does.
func (a *app) publicAddress(ctx context.Context, s *client.Session, id scope.ID) (string, error) {
	vm, err := machineAt(ctx, s, id.String(), false)
	if err != nil {
		return "", err
	}
	n, err := network(ctx, s, vm)
	if err != nil {
		return "", err
	}
	for _, address := range append(n.public, n.private...) {
		return address, checkHost(address)
	}
	return "", nil
}

// ready says before connecting why a connection could not work.
func (t target) ready(local bool) error {
	if t.known == nil {
		return nil
	}
	p := t.known.Properties
	command, at := "vm", t.words("instance-ids")
	if isInstance(t.id) {
		command = "vmss"
	}
	if strings.EqualFold(p.State, "absent") && command == "vmss" {
		return fault.New(fault.Conflict, "MachineAbsent", "%s has no machine behind it yet, or its creation failed.", t.called()).WithRemedy("Run: sally vmss get-instance-view%s", t.words("instance-id"))
	}
	if strings.EqualFold(p.State, "absent") {
		return fault.New(fault.Conflict, "MachineAbsent", "%s has no machine behind it yet, or its creation failed.", t.id.Name()).WithRemedy("Run: sally vm show -d%s", at)
	}
	joined := strings.EqualFold(t.id.Type(), joinedType)
	if joined && strings.EqualFold(p.State, "expired") {
		return fault.New(fault.Conflict, "MachineExpired", "%s has to join again: %s.", t.id.Name(), p.Note)
	}
	if s := strings.ToLower(p.State); s != "" && !joined && !strings.Contains(s, "running") {
		return fault.New(fault.Conflict, "MachineStopped", "%s is %s.", t.called(), s).WithRemedy("Run: sally %s start%s", command, at)
	}
	if !local && !p.Snapshot.LoginEnabled {
		text := "directory login is not enabled on " + t.called() + ": the extension AADSSHLoginForLinux is not installed"
		if p.Provisioning.State != "" && !strings.EqualFold(p.Provisioning.State, "Succeeded") && p.Provisioning.Message != "" {
			text += " (" + p.Provisioning.State + ", exit code " + strconv.Itoa(p.Provisioning.ExitCode) + ": " + p.Provisioning.Message + ")"
		}
		if isInstance(t.id) {
			why, remedy := t.enableWords()
			return fault.New(fault.Conflict, "LoginNotEnabled", "%s%s.", text, why).WithRemedy("%s", remedy)
		}
		if joined {
			return fault.New(fault.Conflict, "LoginNotEnabled", "%s.", text).
				WithRemedy("Run: sally machine extension create --name AADSSHLoginForLinux -g %s --machine-name %s", t.id.ResourceGroupName(), t.id.Name())
		}
		return fault.New(fault.Conflict, "LoginNotEnabled", "%s.", text).
			WithRemedy("Run: sally vm extension set --publisher Microsoft.Azure.ActiveDirectory --name AADSSHLoginForLinux -g %s --vm-name %s", t.id.ResourceGroupName(), t.id.Name())
	}
	if t.address == "" {
		return fault.New(fault.Conflict, "NoAddress", "no address of %s is known yet.", t.called()).WithRemedy("Run: %s", t.showWords())
	}
	return nil
}

// errProbed ends the probe's handshake once the host key is known.
var errProbed = errors.New("host certificate seen")

// probe connects to an address and reads the host certificate that sshd shows.
// One of this tenant's machines, proven by a host CA of the pinned manifest, is
// then expected by that name. Anything else is left to the person's own
// known_hosts, as with plain ssh.
func (a *app) probe(ctx context.Context, m protocol.Manifest, address string, port int) (target, error) {
	if port == 0 {
		port = 22
	}
	t := target{name: address, address: address, port: port}
	key := a.shownKey(ctx, address, port)
	if key == nil {
		return t, nil // ssh says what is wrong with the address
	}
	if principal := hostPrincipal(key, m, a.cfg.Now); principal != "" {
		t.principal = principal
		t.machine, _ = machineOf(principal)
	} else {
		_, t.foreign = key.(*ssh.Certificate)
	}
	return t, nil
}

// shownKey connects to an address and returns the host key that sshd proves, a
// certificate where it has one; nil where nobody answers like an sshd.
func (a *app) shownKey(ctx context.Context, address string, port int) (shown ssh.PublicKey) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	conn, err := a.cfg.Dial(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	check := func(_ string, _ net.Addr, key ssh.PublicKey) error {
		shown = key
		return errProbed
	}
	_, _, _, _ = ssh.NewClientConn(conn, address, &ssh.ClientConfig{User: "probe", HostKeyCallback: check, HostKeyAlgorithms: []string{ //nolint:dogsled // it always ends with an error
		ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01, ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
		ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
	}})
	return shown
}

// hostPrincipal returns the machine's name when key is a host certificate of
// this tenant, and "" otherwise.
func hostPrincipal(key ssh.PublicKey, m protocol.Manifest, now func() time.Time) string {
	cert, ok := key.(*ssh.Certificate)
	if !ok || cert.CertType != ssh.HostCert || len(cert.ValidPrincipals) != 1 {
		return ""
	}
	principal := cert.ValidPrincipals[0]
	if _, err := machineOf(principal); err != nil {
		return ""
	}
	_, domain, _ := strings.Cut(principal, ".machine.")
	authority := slices.ContainsFunc(authorityKeys(m, protocol.HostCA), func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), cert.SignatureKey.Marshal()) })
	checker := ssh.CertChecker{Clock: now}
	if !authority || !slices.Contains(m.Domains, domain) || checker.CheckCert(principal, cert) != nil {
		return ""
	}
	return principal
}

// knownHosts is a known_hosts file that trusts the host CA for one machine.
func knownHosts(principal string, m protocol.Manifest) []byte {
	var b bytes.Buffer
	for _, k := range authorityKeys(m, protocol.HostCA) {
		b.WriteString("@cert-authority " + principal + " ")
		b.Write(ssh.MarshalAuthorizedKey(k))
	}
	return b.Bytes()
}

// again asks for the machine's facts once more, for the sentence afterwards.
func (t target) again(ctx context.Context, s *client.Session) *facts {
	if t.id.IsZero() {
		return nil
	}
	var f facts
	if err := do(ctx, s, client.Call{Method: http.MethodGet, Path: t.id.String() + accessMember, Query: url.Values{}}, &f); err != nil {
		return nil
	}
	return &f
}
