package cli

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/scope"
)

// Paths of scale sets and their instances.
const (
	instanceType = "Microsoft.Compute/virtualMachineScaleSets/virtualMachines"
	setsURL      = "/subscriptions/{subscription}[/resourceGroups/{resource-group}]/providers/Microsoft.Compute/virtualMachineScaleSets"
	setURL       = "/subscriptions/{subscription}/resourceGroups/{resource-group}/providers/Microsoft.Compute/virtualMachineScaleSets/{name}"
	setOwnerURL  = "/subscriptions/{subscription}/resourceGroups/{resource-group}/providers/Microsoft.Compute/virtualMachineScaleSets/{vmss-name}"
	instanceURL  = setURL + "/virtualMachines/{instance-id}"
)

func flagSet() flag { return flagName("scale set") }

func flagInstance() flag {
	return flag{name: "instance-id", usage: "Instance of the scale set that --name is, by its number"}
}

// machinePath is the machine that a command's flags name: a virtual machine, or
// with --instance-id an instance of a scale set.
func machinePath(s *client.Session, in values) (string, error) {
	if in.text("instance-id") != "" {
		return fillURL(instanceURL, s, in)
	}
	return fillURL(machineURL, s, in)
}

func isInstance(id scope.ID) bool { return strings.EqualFold(id.Type(), instanceType) }

// setVerbs are `sally vmss`, with the flags of az vmss.
func setVerbs() []verb {
	table := columns("Name=name", "ResourceGroup=resourceGroup", "Location=location", "Zones=join(' ', zones || `[]`)", "Capacity=sku.capacity", "Overprovision=overprovision", "UpgradePolicy=upgradePolicy.mode")
	set := func(more ...flag) []flag { return append([]flag{flagSet(), flagGroup()}, more...) }
	all := flag{name: "instance-ids", kind: 'l', usage: "Instances, by their numbers; * for all"}
	one := all
	one.required = true
	named := func(in values) (any, error) {
		if !in.given("instance-ids") {
			return nil, nil
		}
		return map[string]any{"instanceIds": in.list("instance-ids")}, nil
	}
	rows := []verb{
		{path: "vmss show", short: "Show a scale set, or an instance of one.", method: http.MethodGet, url: setURL, suffix: "[/virtualMachines/{instance-id}]", ids: true, ours: true, shape: instance, columns: table, flags: set(flagInstance())},
		{path: "vmss list", short: "List scale sets.", method: http.MethodGet, url: setsURL, list: true, shape: scaleSet, columns: table, flags: []flag{optional(flagGroup())}},
		{
			path: "vmss list-instances", short: "List the instances of a scale set.", method: http.MethodGet, url: setURL, suffix: "/virtualMachines", list: true, shape: scaleSet, ids: true, ours: true,
			flags: set(flag{name: "expand", usage: "instanceView: also the state of each"}), query: []string{"$expand={expand}"},
		},
		{
			path: "vmss get-instance-view", short: "Show the state of a scale set, or of an instance.", method: http.MethodGet, url: setURL, suffix: "[/virtualMachines/{instance-id}]/instanceView", ids: true,
			flags: set(flagInstance()),
		},
		{
			path: "vmss scale", short: "Change the number of instances.", method: http.MethodPatch, url: setURL, ids: true, wait: "Scaling", shape: scaleSet,
			flags: set(flag{name: "new-capacity", required: true, usage: "Number of instances"}),
			body: func(in values) (any, error) {
				n, err := strconv.Atoi(in.text("new-capacity"))
				if err != nil {
					return nil, clientError{"argument --new-capacity: '" + in.text("new-capacity") + "' is not a number of instances"}
				}
				return map[string]any{"sku": map[string]any{"capacity": n}}, nil
			},
		},
		{path: "vmss delete", short: "Delete a scale set with its instances.", method: http.MethodDelete, url: setURL, ids: true, wait: "Deleting", quiet: true, flags: set()},
		{
			path: "vmss delete-instances", short: "Delete instances: the scale set has fewer then.", method: http.MethodPost, url: setURL, suffix: "/delete", ids: true, wait: "Deleting", quiet: true, gone: true,
			flags: set(one), body: named,
		},
		{
			path: "vmss update-instances", short: "Upgrade instances to the model that the scale set has now.", method: http.MethodPost, url: setURL, suffix: "/manualupgrade", ids: true, ours: true, wait: "Upgrading", quiet: true,
			flags: set(one), body: named,
		},
		{
			path: "vmss identity show", short: "Show the managed identity of a scale set.", method: http.MethodGet, url: setURL, ids: true, flags: set(), shape: member("identity"),
		},
		{
			path: "vmss nic list", short: "List the network interfaces of a scale set's instances.", method: http.MethodGet, url: setOwnerURL, suffix: "/networkInterfaces", list: true, shape: scaleSet,
			flags: []flag{{name: "vmss-name", required: true, usage: "Name of the scale set"}, flagGroup()},
		},
	}
	for _, p := range [][3]string{{"start", "/start", "Starting"}, {"stop", "/powerOff", "Stopping"}, {"deallocate", "/deallocate", "Deallocating"}, {"restart", "/restart", "Restarting"}} {
		power := verb{path: "vmss " + p[0], short: p[2] + " instances, all of them by default.", method: http.MethodPost, url: setURL, suffix: p[1], ids: true, ours: p[0] != "start", wait: p[2], quiet: true, flags: set(all), body: named}
		if p[0] == "deallocate" { // the one of them for which az makes another call about one instance
			power.one = p[1]
		}
		rows = append(rows, power)
	}
	return append(rows, setExtensionVerbs()...)
}

// scaleSet is a scale set, an instance or an interface of one as az shows it.
func scaleSet(doc map[string]any) any {
	flattenDeep(doc)
	return doc
}

// instance is a scale set or an instance as az shows it, which leaves out of an
// instance's extensions what they are as resources.
func instance(doc map[string]any) any {
	flattenDeep(doc)
	extensions, _ := doc["resources"].([]any)
	for _, x := range extensions {
		if one, ok := x.(map[string]any); ok && one["typePropertiesType"] != nil {
			one["type"] = one["typePropertiesType"]
			without(one, "typePropertiesType", "etag")
		}
	}
	return doc
}

// modelExtension is an extension in a scale set's model as az shows it.
func modelExtension(doc map[string]any) any {
	without(doc, "id", "type")
	flatten(doc)
	return doc
}

func setExtensionVerbs() []verb {
	owner := flag{name: "vmss-name", required: true, usage: "Name of the scale set"}
	return []verb{
		{path: "vmss extension list", short: "List the extensions in a scale set's model.", method: http.MethodGet, url: setOwnerURL, suffix: "/extensions", list: true, shape: modelExtension, flags: []flag{flagGroup(), owner}},
		{path: "vmss extension show", short: "Show an extension in a scale set's model.", method: http.MethodGet, url: setOwnerURL + "/extensions/{name}", ids: true, ours: true, gone: true, shape: modelExtension, flags: []flag{flagName("extension"), flagGroup(), owner}},
	}
}

// setCommands are those about scale sets that make several calls.
func (a *app) setCommands() map[string]*cobra.Command {
	return map[string]*cobra.Command{"vmss create": a.setCreate(), "vmss identity assign": a.identityAssign(identityOfSet()), "vmss identity remove": a.identityRemove(identityOfSet()),
		"vmss extension set": a.setExtensionSet(), "vmss extension delete": a.setExtensionDelete(), "vmss list-instance-connection-info": a.setConnections()}
}

// propagate says, as az does, that old instances do not have a new model yet.
func (a *app) propagate(set map[string]any) {
	if mode := text(set, "properties", "upgradePolicy", "mode"); !strings.EqualFold(mode, "Manual") {
		return
	}
	id, err := scope.Parse(text(set, "id"))
	if err == nil {
		a.warn("With manual upgrade mode, instances take the change when they are upgraded: sally vmss update-instances -g " + id.ResourceGroupName() + " -n " + id.Name() + " --instance-ids '*'")
	}
}

func (a *app) setExtensionSet() *cobra.Command {
	flags := []flag{
		flagName("extension"), flagGroup(), {name: "vmss-name", required: true, usage: "Name of the scale set"},
		{name: "publisher", short: "p", required: true, usage: "Publisher of the extension"}, {name: "version", usage: "Version; the newest by default"},
		{name: "extension-instance-name", usage: "Name of the instance"}, {name: "no-auto-upgrade", kind: 'b', usage: "Stay at this minor version"},
		{name: "no-wait", kind: 'b', usage: "Do not wait for the operation to end"},
	}
	cmd := leafFor("set", "Put an extension into a scale set's model.", flags, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		owner, err := fillURL(setOwnerURL, s, in)
		if err != nil {
			return err
		}
		var set map[string]any
		if err := do(ctx, s, call(http.MethodGet, owner), &set); err != nil {
			return err
		}
		version := majorMinor(in.text("version"))
		if version == "" {
			if version, err = newestExtension(ctx, s, text(set, "location"), in); err != nil {
				return err
			}
		}
		instance := in.text("extension-instance-name")
		if instance == "" {
			instance = in.text("name")
		}
		c := client.Call{Method: http.MethodPut, Path: owner + "/extensions/" + url.PathEscape(instance), Body: map[string]any{"properties": map[string]any{
			"publisher": in.text("publisher"), "type": in.text("name"), "typeHandlerVersion": version, "autoUpgradeMinorVersion": !in.on("no-auto-upgrade")}}}
		answer, err := s.Send(ctx, c)
		if err != nil {
			return err
		}
		if !in.on("no-wait") {
			stop := a.progress("Changing the model")
			_, err = s.Await(ctx, c, answer)
			stop()
			if err != nil {
				return err
			}
		}
		a.propagate(set)
		if in.on("no-wait") {
			return nil
		}
		if err := do(ctx, s, call(http.MethodGet, owner), &set); err != nil {
			return err
		}
		return a.print(scaleSet(set))
	})
	cmd.Example = "  sally vmss extension set --publisher Microsoft.Azure.ActiveDirectory --name AADSSHLoginForLinux -g GROUP --vmss-name SET"
	return cmd
}

// setExtensionDelete takes an extension away and prints the scale set, as az does.
func (a *app) setExtensionDelete() *cobra.Command {
	flags := []flag{flagName("extension"), flagGroup(), {name: "vmss-name", required: true, usage: "Name of the scale set"}, {name: "no-wait", kind: 'b', usage: "Do not wait for the operation to end"}}
	return leafFor("delete", "Take an extension out of a scale set's model.", flags, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		owner, err := fillURL(setOwnerURL, s, in)
		if err != nil {
			return err
		}
		list, err := s.List(ctx, call(http.MethodGet, owner+"/extensions"))
		if err != nil {
			return err
		}
		there := false
		for _, item := range list {
			doc, err := object(item)
			if err != nil {
				return err
			}
			there = there || strings.EqualFold(text(doc, "name"), in.text("name"))
		}
		if !there {
			return clientError{"the model of scale set " + in.text("vmss-name") + " has no extension " + in.text("name") + ". See: sally vmss extension list -g " + in.text("resource-group") + " --vmss-name " + in.text("vmss-name")}
		}
		c := call(http.MethodDelete, owner+"/extensions/"+url.PathEscape(in.text("name")))
		answer, err := s.Send(ctx, c)
		if err != nil || in.on("no-wait") {
			return err
		}
		stop := a.progress("Removing")
		_, err = s.Await(ctx, c, answer)
		stop()
		if err != nil {
			return err
		}
		var set map[string]any
		if err := do(ctx, s, call(http.MethodGet, owner), &set); err != nil {
			return err
		}
		a.propagate(set)
		return a.print(scaleSet(set))
	})
}

// setConnections says where each instance's sshd is: at its private address.
func (a *app) setConnections() *cobra.Command {
	return leafFor("list-instance-connection-info", "List where ssh reaches each instance of a scale set, from inside its network.", []flag{flagSet(), flagGroup()}, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		path, err := fillURL(setURL, s, in)
		if err != nil {
			return err
		}
		items, err := s.List(ctx, call(http.MethodGet, path+"/networkInterfaces"))
		if err != nil {
			return err
		}
		out := map[string]any{}
		for _, item := range items {
			doc, err := object(item)
			if err != nil {
				return err
			}
			id, err := scope.Parse(text(doc, "properties", "virtualMachine", "id"))
			if err != nil {
				return err
			}
			properties, _ := doc["properties"].(map[string]any)
			configs, _ := properties["ipConfigurations"].([]any)
			for _, x := range configs {
				if c, ok := x.(map[string]any); ok && text(c, "properties", "privateIPAddress") != "" {
					out["instance "+id.Name()] = text(c, "properties", "privateIPAddress") + ":22"
				}
			}
		}
		return a.print(out)
	})
}
