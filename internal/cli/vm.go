package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/cli/output"
	"sallyport/internal/guid"
)

// attached is what a machine's network resources say.
type attached struct {
	public, private, mac, fqdns []string
	publicIDs                   []string
	methods                     []string // of the public addresses' allocation
}

// call is shorthand for a Resource Manager call without a body.
func call(method, path string) client.Call { return client.Call{Method: method, Path: path} }

// network follows a machine's interfaces to their addresses.
func network(ctx context.Context, s *client.Session, vm map[string]any) (attached, error) {
	var n attached
	profile, _ := vm["networkProfile"].(map[string]any)
	if properties, ok := vm["properties"].(map[string]any); ok {
		profile, _ = properties["networkProfile"].(map[string]any)
	}
	interfaces, _ := profile["networkInterfaces"].([]any)
	for _, i := range interfaces {
		ref, _ := i.(map[string]any)
		var nic struct {
			Properties struct {
				MAC     string `json:"macAddress"`
				Configs []struct {
					Properties struct {
						Private string `json:"privateIPAddress"`
						Public  struct {
							ID string `json:"id"`
						} `json:"publicIPAddress"`
					} `json:"properties"`
				} `json:"ipConfigurations"`
			} `json:"properties"`
		}
		if err := do(ctx, s, call(http.MethodGet, text(ref, "id")), &nic); err != nil {
			return n, err
		}
		n.mac = add(n.mac, nic.Properties.MAC)
		for _, c := range nic.Properties.Configs {
			n.private = add(n.private, c.Properties.Private)
			if err := n.follow(ctx, s, c.Properties.Public.ID); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (n *attached) follow(ctx context.Context, s *client.Session, id string) error {
	if id == "" {
		return nil
	}
	var ip struct {
		Properties struct {
			Address string `json:"ipAddress"`
			Method  string `json:"publicIPAllocationMethod"`
			DNS     struct {
				FQDN string `json:"fqdn"`
			} `json:"dnsSettings"`
		} `json:"properties"`
	}
	if err := do(ctx, s, call(http.MethodGet, id), &ip); err != nil {
		return err
	}
	n.publicIDs = add(n.publicIDs, id)
	n.public = append(n.public, ip.Properties.Address)
	n.methods = append(n.methods, ip.Properties.Method)
	n.fqdns = add(n.fqdns, ip.Properties.DNS.FQDN)
	return nil
}

func add(list []string, s string) []string {
	if s == "" {
		return list
	}
	return append(list, s)
}

// powerState is the display text of a machine's power, from its instance view.
func powerState(vm map[string]any) string {
	from := vm
	if p, ok := vm["properties"].(map[string]any); ok {
		from = p
	}
	view, _ := from["instanceView"].(map[string]any)
	statuses, _ := view["statuses"].([]any)
	for _, st := range statuses {
		one, _ := st.(map[string]any)
		if strings.HasPrefix(text(one, "code"), "PowerState/") {
			return text(one, "displayStatus")
		}
	}
	return ""
}

// detailed adds az's five members of --show-details.
func detailed(ctx context.Context, s *client.Session, vm map[string]any) error {
	n, err := network(ctx, s, vm)
	if err != nil {
		return err
	}
	vm["fqdns"], vm["macAddresses"] = strings.Join(n.fqdns, ","), strings.Join(n.mac, ",")
	vm["privateIps"], vm["publicIps"] = strings.Join(n.private, ","), strings.Join(n.public, ",")
	vm["powerState"] = powerState(vm)
	delete(vm, "instanceView")
	return nil
}

func flagDetails() flag {
	return flag{name: "show-details", short: "d", kind: 'b', usage: "Also show addresses and power state"}
}

func machineColumns(details bool) []output.Column {
	if details {
		return columns("Name=name", "ResourceGroup=resourceGroup", "PowerState=powerState", "PublicIps=publicIps", "Fqdns=fqdns", "Location=location")
	}
	return columns("Name=name", "ResourceGroup=resourceGroup", "Location=location", "Zones=zones[0]")
}

func (a *app) vmShow() *cobra.Command {
	v := verb{url: machineURL, ids: true, flags: []flag{flagName("virtual machine"), flagGroup()}}
	flags := []flag{optional(flagName("virtual machine")), optional(flagGroup()), {name: "ids", kind: 'l', usage: "Resource IDs, in the place of the name and the resource group"}, flagDetails(),
		{name: "expand", usage: "inventory: also what the machine says of its accounts, sudoers, sshd and logins"}}
	return leafFor("show", "Show a VM.", flags, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		paths, err := v.targets(s, in)
		if err != nil {
			return err
		}
		var list []any
		for _, path := range paths {
			doc, err := machineAt(ctx, s, path, in.on("show-details"))
			if err != nil {
				return err
			}
			if in.text("expand") != "" {
				if err := expanded(ctx, s, path, in.text("expand"), doc); err != nil {
					return err
				}
			}
			list = append(list, doc)
		}
		if len(list) == 1 {
			return a.print(list[0], machineColumns(in.on("show-details"))...)
		}
		return a.print(list, machineColumns(in.on("show-details"))...)
	})
}

// expanded adds what a machine says of itself.
func expanded(ctx context.Context, s *client.Session, path, what string, doc map[string]any) error {
	if !strings.EqualFold(what, "inventory") {
		return usageError{"argument --expand: '" + what + "' is not inventory"}
	}
	c := call(http.MethodGet, path+accessMember)
	c.Query = url.Values{"$expand": {"inventory"}}
	var shown struct {
		Properties struct {
			Inventory json.RawMessage `json:"inventory"`
		} `json:"properties"`
	}
	if err := do(ctx, s, c, &shown); err != nil {
		return err
	}
	doc["inventory"] = shown.Properties.Inventory
	return nil
}

func machineAt(ctx context.Context, s *client.Session, path string, details bool) (map[string]any, error) {
	c := call(http.MethodGet, path)
	if details {
		c.Query = url.Values{"$expand": {"instanceView"}}
	}
	answer, err := s.Send(ctx, c)
	if err != nil {
		return nil, err
	}
	doc, err := object(answer.Body)
	if err != nil {
		return nil, err
	}
	machine(doc)
	if details {
		err = detailed(ctx, s, doc)
	}
	return doc, err
}

func (a *app) vmList() *cobra.Command {
	return leafFor("list", "List VMs.", []flag{optional(flagGroup()), flagDetails()}, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		docs, err := machines(ctx, s, machinesURL, in)
		if err != nil {
			return err
		}
		list := make([]any, 0, len(docs))
		for _, doc := range docs {
			if in.on("show-details") {
				if doc, err = machineAt(ctx, s, text(doc, "id"), true); err != nil {
					return err
				}
			}
			list = append(list, doc)
		}
		return a.print(list, machineColumns(in.on("show-details"))...)
	})
}

// machines lists VMs in az's form, of a resource group or of the subscription.
func machines(ctx context.Context, s *client.Session, at string, in values) ([]map[string]any, error) {
	path, err := fillURL(at, s, in)
	if err != nil {
		return nil, err
	}
	items, err := s.List(ctx, call(http.MethodGet, path))
	if err != nil {
		return nil, err
	}
	docs := make([]map[string]any, 0, len(items))
	for _, item := range items {
		doc, err := object(item)
		if err != nil {
			return nil, err
		}
		machine(doc)
		docs = append(docs, doc)
	}
	return docs, nil
}

func (a *app) vmAddresses() *cobra.Command {
	return leafFor("list-ip-addresses", "List the addresses of VMs.", []flag{optional(flagName("virtual machine")), optional(flagGroup())}, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		docs, err := machines(ctx, s, machinesURL[:strings.IndexByte(machinesURL, '[')]+machinesURL[strings.IndexByte(machinesURL, ']')+1:], in)
		if err != nil {
			return err
		}
		list := []any{}
		for _, doc := range docs { // az, too, looks through all of them
			n, g := in.text("name"), in.text("resource-group")
			if n != "" && !strings.EqualFold(n, text(doc, "name")) || g != "" && !strings.EqualFold(g, text(doc, "resourceGroup")) {
				continue
			}
			at, err := network(ctx, s, doc)
			if err != nil {
				return err
			}
			list = append(list, addressesOf(doc, at))
		}
		return a.print(list, columns("VirtualMachine=virtualMachine.name", "PublicIPAddresses=virtualMachine.network.publicIpAddresses[0].ipAddress",
			"PrivateIPAddresses=virtualMachine.network.privateIpAddresses[0]")...)
	})
}

func addressesOf(doc map[string]any, at attached) map[string]any {
	public := []any{}
	for i, address := range at.public {
		one := map[string]any{"ipAddress": address, "ipAllocationMethod": at.methods[i], "resourceGroup": text(doc, "resourceGroup"), "zone": nil}
		if i < len(at.publicIDs) {
			one["id"] = at.publicIDs[i]
			one["name"] = at.publicIDs[i][strings.LastIndexByte(at.publicIDs[i], '/')+1:]
		}
		public = append(public, one)
	}
	private := at.private
	if private == nil {
		private = []string{}
	}
	return map[string]any{"virtualMachine": map[string]any{"name": text(doc, "name"), "resourceGroup": text(doc, "resourceGroup"),
		"network": map[string]any{"privateIpAddresses": private, "publicIpAddresses": public}}}
}

func (a *app) extensionSet() *cobra.Command {
	flags := []flag{
		flagName("extension"), flagGroup(), {name: "vm-name", required: true, usage: "Name of the virtual machine"},
		{name: "publisher", short: "p", required: true, usage: "Publisher of the extension"}, {name: "version", usage: "Version; the newest by default"},
		{name: "settings", usage: "Settings in JSON; @FILE reads a file"}, {name: "protected-settings", usage: "Secret settings in JSON; @FILE reads a file"},
		{name: "extension-instance-name", usage: "Name of the instance"}, {name: "force-update", kind: 'b', usage: "Apply again although nothing changed"},
		{name: "no-auto-upgrade-minor-version", kind: 'b', usage: "Stay at this minor version"}, {name: "enable-auto-upgrade", kind: 'b', usage: "Upgrade by itself"},
		{name: "no-wait", kind: 'b', usage: "Do not wait for the operation to end"},
	}
	cmd := leafFor("set", "Install an extension on a VM.", flags, a.setExtension)
	cmd.Example = "  sally vm extension set --publisher Microsoft.Azure.ActiveDirectory --name AADSSHLoginForLinux -g GROUP --vm-name VM"
	return cmd
}

func (a *app) setExtension(ctx context.Context, in values) error {
	s, err := a.session(ctx)
	if err != nil {
		return err
	}
	owner, err := fillURL(ownerURL, s, in)
	if err != nil {
		return err
	}
	var vm struct {
		Location   string `json:"location"`
		Properties struct {
			InstanceView struct {
				Extensions []installed `json:"extensions"`
			} `json:"instanceView"`
		} `json:"properties"`
	}
	if err := do(ctx, s, client.Call{Method: http.MethodGet, Path: owner, Query: url.Values{"$expand": {"instanceView"}}}, &vm); err != nil {
		return err
	}
	version := majorMinor(in.text("version"))
	if version == "" {
		if version, err = newestExtension(ctx, s, vm.Location, in); err != nil {
			return err
		}
	}
	properties := map[string]any{"publisher": in.text("publisher"), "type": in.text("name"), "typeHandlerVersion": version, "autoUpgradeMinorVersion": !in.on("no-auto-upgrade-minor-version")}
	for flag, member := range map[string]string{"settings": "settings", "protected-settings": "protectedSettings"} {
		if value := in.text(flag); value != "" {
			if !json.Valid([]byte(value)) {
				return clientError{"argument --" + flag + ": the value is not JSON"}
			}
			properties[member] = json.RawMessage(value)
		}
	}
	if in.on("enable-auto-upgrade") {
		properties["enableAutomaticUpgrade"] = true
	}
	if in.on("force-update") {
		if properties["forceUpdateTag"], err = guid.New(a.cfg.Rand); err != nil {
			return err
		}
	}
	instance := a.instance(in, vm.Properties.InstanceView.Extensions)
	return a.putAndPrint(ctx, s, client.Call{Method: http.MethodPut, Path: owner + "/extensions/" + url.PathEscape(instance),
		Body: map[string]any{"location": vm.Location, "properties": properties}}, in.on("no-wait"))
}

// installed is an extension as a machine's instance view has it.
type installed struct {
	Name string `json:"name"`
	Type string `json:"type"` // PUBLISHER.TYPE
}

// instance is the name of the extension that is meant: as in az, that of one of the
// same type which the machine has, before the one that was given.
func (a *app) instance(in values, there []installed) string {
	name, kind := in.text("extension-instance-name"), in.text("name")
	if name == "" {
		name = kind
	}
	for _, x := range there {
		if x.Name != "" && strings.EqualFold(x.Type, in.text("publisher")+"."+kind) {
			if x.Name != name {
				a.warn("A " + kind + " extension with name " + x.Name + " already exists. Updating it with your settings...")
			}
			return x.Name
		}
	}
	return name
}

func (a *app) putAndPrint(ctx context.Context, s *client.Session, c client.Call, noWait bool) error {
	answer, err := s.Send(ctx, c)
	if err != nil || noWait {
		return err
	}
	stop := a.progress("Running")
	body, err := s.Await(ctx, c, answer)
	stop()
	if err != nil {
		return err
	}
	doc, err := object(body)
	if err != nil {
		return err
	}
	return a.print(extension(doc))
}
