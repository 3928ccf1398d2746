package cli

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/fault"
)

const defaultSize = "Standard_DS1_v2"

// image is an alias of the server's alias document.
type image struct {
	Alias     string `json:"urnAlias"`
	Publisher string `json:"publisher"`
	Offer     string `json:"offer"`
	SKU       string `json:"sku"`
	Version   string `json:"version"`
	Machine   string `json:"architecture"`
}

// images reads the alias document, by name.
func images(ctx context.Context, s *client.Session) ([]image, error) {
	var doc struct {
		Outputs struct {
			Aliases struct {
				Value map[string]map[string]image `json:"value"`
			} `json:"aliases"`
		} `json:"outputs"`
	}
	if err := do(ctx, s, client.Call{Surface: client.Anonymous, Method: http.MethodGet, Path: "/aliases.json"}, &doc); err != nil {
		return nil, err
	}
	list := []image{}
	for alias, one := range doc.Outputs.Aliases.Value["Linux"] {
		one.Alias = alias
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b image) int { return strings.Compare(a.Alias, b.Alias) })
	return list, nil
}

func imageReference(ctx context.Context, s *client.Session, name string) (map[string]any, error) {
	if parts := strings.Split(name, ":"); len(parts) == 4 {
		return map[string]any{"publisher": parts[0], "offer": parts[1], "sku": parts[2], "version": parts[3]}, nil
	}
	list, err := images(ctx, s)
	if err != nil {
		return nil, err
	}
	known := []string{}
	for _, i := range list {
		if strings.EqualFold(i.Alias, name) {
			return map[string]any{"publisher": i.Publisher, "offer": i.Offer, "sku": i.SKU, "version": i.Version}, nil
		}
		known = append(known, i.Alias)
	}
	return nil, usageError{"argument --image: '" + name + "' is neither PUBLISHER:OFFER:SKU:VERSION nor one of the aliases " + strings.Join(known, ", ")}
}

func (a *app) imageList() *cobra.Command {
	return leafFor("list", "List images that a VM can be made from.", []flag{{name: "all", kind: 'b', usage: "Every image that the server has, and not the aliases alone"}, {name: "location", short: "l", usage: "Location, with --all"},
		{name: "publisher", short: "p", usage: "Part of the publisher's name"}, {name: "offer", short: "f", usage: "Part of the offer's name"}, {name: "sku", short: "s", usage: "Part of the SKU's name"},
	}, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		if in.on("all") {
			return a.listAllImages(ctx, s, in)
		}
		list, err := images(ctx, s)
		if err != nil {
			return err
		}
		out := []any{}
		for _, i := range list {
			if !part(i.Publisher, in.text("publisher")) || !part(i.Offer, in.text("offer")) || !part(i.SKU, in.text("sku")) {
				continue
			}
			out = append(out, map[string]any{"architecture": i.Machine, "urnAlias": i.Alias, "publisher": i.Publisher, "offer": i.Offer, "sku": i.SKU, "version": i.Version,
				"urn": strings.Join([]string{i.Publisher, i.Offer, i.SKU, i.Version}, ":")})
		}
		return a.print(out, columns("Architecture=architecture", "Offer=offer", "Publisher=publisher", "Sku=sku", "Urn=urn", "UrnAlias=urnAlias", "Version=version")...)
	})
}

// part reports whether text has a part in it, in any case.
func part(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

func (a *app) vmCreate() *cobra.Command {
	cmd := leafFor("create", "Create a Linux VM with its network.", []flag{
		flagName("virtual machine"), flagGroup(), {name: "image", required: true, usage: "Image: an alias or URN of: sally vm image list; it chooses the lab machine's Debian"},
		{name: "location", short: "l", usage: "Location; the resource group's by default"}, {name: "size", def: defaultSize, usage: "Size; in the lab Sallyport_nspawn is a whole system with systemd"},
		{name: "admin-username", usage: "Name of the local administrator; your own name by default"}, {name: "computer-name", usage: "Host name; the VM's name by default"},
		{name: "generate-ssh-keys", kind: 'b', usage: "Make ~/.ssh/id_ed25519 where no key exists"},
		{name: "ssh-key-values", kind: 'l', usage: "Public keys or files that hold them"}, flagAuthentication(), flagAdminPassword(),
		{name: "assign-identity", kind: 'o', def: "[system]", usage: "Give the VM a managed identity"}, flagRole(), flagScope("Scope at which the identity gets the role"),
		{name: "vnet-name", usage: "Virtual network"}, {name: "subnet", usage: "Subnet"}, {name: "nsg", usage: "Network security group"},
		{name: "public-ip-address", usage: "Public address; \"\" for none"}, flagTags(), {name: "no-wait", kind: 'b', usage: "Do not wait for the VM"},
	}, a.createVM)
	cmd.Example = "  sally vm create -g GROUP -n VM --image UbuntuLTS --assign-identity --admin-username azureuser --generate-ssh-keys"
	return cmd
}

// plan is a VM to be made, with the names of what belongs to it.
type plan struct {
	prefix, name, location       string
	vnet, subnet, nsg, pip, nic  string
	admin, computer, size        string
	keys                         []string
	password                     string
	image                        map[string]any
	identity                     map[string]any // nil for none
	tags                         any
	vmPath, vnetPath, nsgPath    string
	pipPath, nicPath, subnetPath string
}

func (a *app) createVM(ctx context.Context, in values) error {
	s, err := a.session(ctx)
	if err != nil {
		return err
	}
	p, err := a.planMachines(ctx, s, in, machineURL)
	if err != nil {
		return err
	}
	stop := a.progress("Creating " + p.name)
	defer stop()
	for _, c := range p.calls() {
		answer, err := s.Send(ctx, c)
		if err != nil {
			return err
		}
		if c.Path == p.vmPath && in.on("no-wait") {
			return nil
		}
		if _, err := s.Await(ctx, c, answer); err != nil {
			return err
		}
	}
	doc, err := machineAt(ctx, s, p.vmPath, true)
	if err != nil {
		return err
	}
	if in.text("role") != "" || in.text("scope") != "" {
		if _, err := a.assign(ctx, s, assignment{principal: text(doc, "identity", "principalId"), kind: "ServicePrincipal", role: in.text("role"), scope: in.text("scope")}); err != nil {
			return err
		}
	}
	stop()
	return a.print(created(doc), columns("ResourceGroup=resourceGroup", "PowerState=powerState", "PublicIpAddress=publicIpAddress", "Fqdns=fqdns", "PrivateIpAddress=privateIpAddress", "MacAddress=macAddress", "Location=location")...)
}

// created is what az prints after a creation.
func created(doc map[string]any) map[string]any {
	out := map[string]any{"fqdns": doc["fqdns"], "id": doc["id"], "location": doc["location"], "macAddress": doc["macAddresses"], "powerState": doc["powerState"],
		"privateIpAddress": doc["privateIps"], "publicIpAddress": doc["publicIps"], "resourceGroup": doc["resourceGroup"]}
	if list, ok := doc["zones"].([]any); ok && len(list) > 0 {
		out["zones"] = list[0]
	}
	if identity, ok := doc["identity"].(map[string]any); ok {
		users, _ := identity["userAssignedIdentities"].(map[string]any)
		if users == nil {
			users = map[string]any{}
		}
		out["identity"] = map[string]any{"systemAssignedIdentity": text(identity, "principalId"), "userAssignedIdentities": users}
	}
	return out
}

// planMachines reads what a virtual machine and a scale set have in common; at is
// where the thing will be.
func (a *app) planMachines(ctx context.Context, s *client.Session, in values, at string) (plan, error) {
	kind, err := authentication(in)
	if err != nil {
		return plan{}, err
	}
	if err := a.givenRole(ctx, s, in); err != nil {
		return plan{}, err
	}
	image, err := imageReference(ctx, s, in.text("image"))
	if err != nil {
		return plan{}, err
	}
	vmPath, err := fillURL(at, s, in)
	if err != nil {
		return plan{}, err
	}
	group, _, _ := strings.Cut(vmPath, "/providers/")
	p := plan{prefix: group + "/providers/Microsoft.Network/", vmPath: vmPath, name: in.text("name"), location: in.text("location"), image: image,
		size: in.text("size") + in.text("vm-sku"), computer: in.text("computer-name"), admin: in.text("admin-username")}
	if in.given("assign-identity") {
		system, users := identities(in.list("assign-identity"), group)
		p.identity = identityBody(system, users, nil)
	}
	if p.admin == "" {
		p.admin = a.cfg.Env("USER")
	}
	if p.computer == "" {
		p.computer = p.name
	}
	if p.admin == "" || strings.EqualFold(p.admin, "root") {
		return plan{}, clientError{"argument --admin-username: name the machine's local administrator; it cannot be root"}
	}
	var rg struct {
		Location string `json:"location"`
	}
	if err := do(ctx, s, call(http.MethodGet, group), &rg); client.IsNotFound(err) {
		return plan{}, usageError{sentence(err)} // a name on the command line, and nothing was made
	} else if err != nil {
		return plan{}, err
	}
	if p.location == "" {
		p.location = rg.Location
	}
	if in.given("location") || strings.Contains(in.text("image"), ":") {
		if err := offered(ctx, s, p); err != nil {
			return plan{}, err
		}
	}
	tags := map[string]any{"tags": map[string]string{}}
	if err := addTags(tags, in); err != nil {
		return plan{}, err
	}
	p.tags = tags["tags"]
	if err := a.credentials(&p, kind, in); err != nil {
		return plan{}, err
	}
	p.nameParts(in)
	return p, nil
}

// givenRole looks for the role of the identity before anything is made.
func (a *app) givenRole(ctx context.Context, s *client.Session, in values) error {
	role, at := in.text("role"), in.text("scope")
	switch {
	case role == "" && at == "":
		return nil
	case !in.given("assign-identity"):
		return clientError{"usage error: --role and --scope need --assign-identity"}
	}
	if err := roleAtScope(in); err != nil {
		return err
	}
	path, err := scopePath(at)
	if err == nil {
		_, err = roleID(ctx, s, path, role)
	}
	return err
}

// offered asks whether there is such an image at the place, before anything is made.
func offered(ctx context.Context, s *client.Session, p plan) error {
	subscription, err := subscriptionOf(s)
	if err != nil {
		return err
	}
	path := "/subscriptions/" + subscription + "/providers/Microsoft.Compute/locations/" + url.PathEscape(p.location)
	for _, part := range [][2]string{{"publishers", "publisher"}, {"artifacttypes/vmimage/offers", "offer"}, {"skus", "sku"}, {"versions", "version"}} {
		name, _ := p.image[part[1]].(string)
		if part[1] == "version" && strings.EqualFold(name, "latest") {
			path += "/versions"
			break
		}
		path += "/" + part[0] + "/" + url.PathEscape(name)
	}
	_, err = s.Send(ctx, call(http.MethodGet, path))
	var api *client.APIError
	if errors.As(err, &api) && (api.Status == http.StatusNotFound || api.Status == http.StatusBadRequest) {
		return usageError{sentence(err)}
	}
	return err
}

// nameParts gives the network parts az's names.
func (p *plan) nameParts(in values) {
	choose := func(flag, otherwise string) string {
		if in.text(flag) != "" {
			return in.text(flag)
		}
		return p.name + otherwise
	}
	p.vnet, p.subnet, p.nsg, p.nic = choose("vnet-name", "VNET"), choose("subnet", "Subnet"), choose("nsg", "NSG"), p.name+"VMNic"
	if !in.given("public-ip-address") || in.text("public-ip-address") != "" {
		p.pip = choose("public-ip-address", "PublicIP")
		p.pipPath = p.prefix + "publicIPAddresses/" + url.PathEscape(p.pip)
	}
	p.vnetPath = p.prefix + "virtualNetworks/" + url.PathEscape(p.vnet)
	p.subnetPath = p.vnetPath + "/subnets/" + url.PathEscape(p.subnet)
	p.nsgPath = p.prefix + "networkSecurityGroups/" + url.PathEscape(p.nsg)
	p.nicPath = p.prefix + "networkInterfaces/" + url.PathEscape(p.nic)
}

// calls are the five writes of az's template, in the order of its dependsOn.
func (p plan) calls() []client.Call {
	put := func(path string, properties map[string]any) client.Call {
		return client.Call{Method: http.MethodPut, Path: path, Body: map[string]any{"location": p.location, "tags": p.tags, "properties": properties}}
	}
	ref := func(id string) map[string]any { return map[string]any{"id": id} }
	calls := []client.Call{
		put(p.vnetPath, map[string]any{"addressSpace": map[string]any{"addressPrefixes": []string{"10.0.0.0/16"}},
			"subnets": []any{map[string]any{"name": p.subnet, "properties": map[string]any{"addressPrefix": "10.0.0.0/24"}}}}),
		put(p.nsgPath, map[string]any{"securityRules": []any{map[string]any{"name": "default-allow-ssh", "properties": map[string]any{"protocol": "Tcp", "sourcePortRange": "*",
			"destinationPortRange": "22", "sourceAddressPrefix": "*", "destinationAddressPrefix": "*", "access": "Allow", "priority": 1000, "direction": "Inbound"}}}}),
	}
	config := map[string]any{"privateIPAllocationMethod": "Dynamic", "subnet": ref(p.subnetPath)}
	if p.pip != "" {
		calls = append(calls, put(p.pipPath, map[string]any{"publicIPAllocationMethod": "Dynamic"}))
		config["publicIPAddress"] = ref(p.pipPath)
	}
	calls = append(calls, put(p.nicPath, map[string]any{"ipConfigurations": []any{map[string]any{"name": "ipconfig" + p.name, "properties": config}}, "networkSecurityGroup": ref(p.nsgPath)}))
	os := p.osProfile()
	os["computerName"] = p.computer
	vm := put(p.vmPath, map[string]any{
		"hardwareProfile": map[string]any{"vmSize": p.size},
		"networkProfile":  map[string]any{"networkInterfaces": []any{ref(p.nicPath)}},
		"storageProfile":  map[string]any{"osDisk": map[string]any{"createOption": "FromImage", "caching": "ReadWrite"}, "imageReference": p.image},
		"osProfile":       os,
	})
	if p.identity != nil {
		body, _ := vm.Body.(map[string]any)
		body["identity"] = p.identity
	}
	return append(calls, vm)
}

// newestExtension asks for the newest version and keeps major.minor of it.
func newestExtension(ctx context.Context, s *client.Session, location string, in values) (string, error) {
	subscription, err := subscriptionOf(s)
	if err != nil {
		return "", err
	}
	path := "/subscriptions/" + subscription + "/providers/Microsoft.Compute/locations/" + url.PathEscape(location) + "/publishers/" +
		url.PathEscape(in.text("publisher")) + "/artifacttypes/vmextension/types/" + url.PathEscape(in.text("name")) + "/versions"
	names, err := names(ctx, s, path)
	if err != nil && !client.IsNotFound(err) {
		return "", err
	}
	best := ""
	for _, n := range names {
		if best == "" || newer(n, best) {
			best = n
		}
	}
	if best = majorMinor(best); best == "" {
		return "", fault.New(fault.NotFound, "ExtensionNotFound", "no version of the extension %s by %s was found in %s", in.text("name"), in.text("publisher"), location).
			WithRemedy("Check publisher and name: sally vm extension image list -l %s", location)
	}
	return best, nil
}

// majorMinor is what an extension is set by, whichever build of it was named.
func majorMinor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// names reads a bare array of things with names.
func names(ctx context.Context, s *client.Session, path string) ([]string, error) {
	answer, err := s.Send(ctx, call(http.MethodGet, path))
	if err != nil {
		return nil, err
	}
	var list []struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(answer.Body, &list); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "BadAnswer", "the server's answer cannot be read")
	}
	out := make([]string, 0, len(list))
	for _, one := range list {
		out = append(out, one.Name)
	}
	return out, nil
}

// newer compares dotted numbers.
func newer(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := 0; i < len(x) && i < len(y); i++ {
		if len(x[i]) != len(y[i]) {
			return len(x[i]) > len(y[i])
		}
		if x[i] != y[i] {
			return x[i] > y[i]
		}
	}
	return len(x) > len(y)
}
