package cli

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/scope"
)

func (a *app) setCreate() *cobra.Command {
	cmd := leafFor("create", "Create a scale set of Linux VMs with its network.", []flag{
		flagSet(), flagGroup(), {name: "image", required: true, usage: "Image: an alias or URN of: sally vm image list"},
		{name: "location", short: "l", usage: "Location; the resource group's by default"}, {name: "vm-sku", def: defaultSize, usage: "Size of the instances"},
		{name: "instance-count", def: "2", usage: "Number of instances"}, {name: "upgrade-policy-mode", def: "Manual", usage: "Manual or Automatic: when instances take a new model"},
		{name: "orchestration-mode", def: "Uniform", usage: "Uniform"}, {name: "computer-name-prefix", usage: "Beginning of the host names"},
		{name: "admin-username", usage: "Name of the local administrator; your own name by default"}, {name: "generate-ssh-keys", kind: 'b', usage: "Make ~/.ssh/id_ed25519 where no key exists"},
		{name: "ssh-key-values", kind: 'l', usage: "Public keys or files that hold them"}, flagAuthentication(), flagAdminPassword(),
		{name: "assign-identity", kind: 'o', def: "[system]", usage: "Give the scale set a managed identity"}, flagRole(), flagScope("Scope at which the identity gets the role"),
		{name: "vnet-name", usage: "Virtual network, made where it does not exist"}, {name: "subnet", usage: "Subnet"}, flagTags(), {name: "no-wait", kind: 'b', usage: "Do not wait for the instances"},
		{name: "load-balancer", usage: "\"\": there are none here"},
	}, a.createSet)
	cmd.Example = "  sally vmss create -g GROUP -n SET --image UbuntuLTS --assign-identity --admin-username azureuser --generate-ssh-keys"
	return cmd
}

func (a *app) createSet(ctx context.Context, in values) error {
	s, err := a.session(ctx)
	if err != nil {
		return err
	}
	if in.text("load-balancer") != "" {
		return usageError{"argument --load-balancer: there are no load balancers here; give \"\" or leave it out"}
	}
	if mode := in.text("orchestration-mode"); !strings.EqualFold(mode, "Uniform") && !strings.EqualFold(mode, "Flexible") {
		return usageError{"argument --orchestration-mode: '" + mode + "' is not Uniform; there is no other here"}
	}
	capacity, err := strconv.Atoi(in.text("instance-count"))
	if err != nil || capacity < 0 {
		return usageError{"argument --instance-count: '" + in.text("instance-count") + "' is not a number of instances"}
	}
	p, err := a.planMachines(ctx, s, in, setURL)
	if err != nil {
		return err
	}
	stop := a.progress("Creating " + p.name)
	defer stop()
	var network map[string]any
	err = do(ctx, s, call(http.MethodGet, p.vnetPath), &network)
	if client.IsNotFound(err) {
		err = do(ctx, s, p.calls()[0], nil)
	}
	if err != nil {
		return err
	}
	c := client.Call{Method: http.MethodPut, Path: p.vmPath, Body: p.set(in, capacity)}
	answer, err := s.Send(ctx, c)
	if err != nil || in.on("no-wait") {
		return err
	}
	body, err := s.Await(ctx, c, answer)
	if err != nil {
		return err
	}
	doc, err := object(body)
	if err != nil {
		return err
	}
	if in.text("role") != "" || in.text("scope") != "" {
		if _, err := a.assign(ctx, s, assignment{principal: text(doc, "identity", "principalId"), kind: "ServicePrincipal", role: in.text("role"), scope: in.text("scope")}); err != nil {
			return err
		}
	}
	stop()
	inner, _ := doc["properties"].(map[string]any)
	return a.print(map[string]any{"vmss": inner}) // az prints the outputs of its template
}

// set is the scale set itself, in the shape of az's template.
func (p plan) set(in values, capacity int) map[string]any {
	os := p.osProfile()
	if prefix := in.text("computer-name-prefix"); prefix != "" {
		os["computerNamePrefix"] = prefix
	}
	config := map[string]any{"name": p.name + "IPConfig", "properties": map[string]any{"subnet": map[string]any{"id": p.subnetPath}}}
	body := map[string]any{
		"location": p.location, "tags": p.tags, "sku": map[string]any{"name": p.size, "capacity": capacity},
		"properties": map[string]any{
			"orchestrationMode": in.text("orchestration-mode"), "overprovision": false, "upgradePolicy": map[string]any{"mode": in.text("upgrade-policy-mode")},
			"virtualMachineProfile": map[string]any{
				"storageProfile": map[string]any{"osDisk": map[string]any{"createOption": "FromImage", "caching": "ReadWrite"}, "imageReference": p.image},
				"osProfile":      os,
				"networkProfile": map[string]any{"networkInterfaceConfigurations": []any{map[string]any{"name": p.name + "Nic", "properties": map[string]any{"primary": true, "ipConfigurations": []any{config}}}}},
			},
		},
	}
	if p.identity != nil {
		body["identity"] = p.identity
	}
	return body
}

// words name a machine to the commands of its kind: -g and -n, and for an
// instance its number by the given flag.
func (t target) words(flag string) string {
	if !isInstance(t.id) {
		return " -g " + t.id.ResourceGroupName() + " -n " + t.id.Name()
	}
	set, _ := t.id.Parent()
	return " -g " + set.ResourceGroupName() + " -n " + set.Name() + " --" + flag + " " + t.id.Name()
}

// called is a machine's name for people: SET_3 for an instance.
func (t target) called() string {
	return protocol.MachineName(t.id.String())
}

// showWords is the command that shows what is known of a machine.
func (t target) showWords() string {
	if isInstance(t.id) {
		return "sally machine show --ids " + t.id.String()
	}
	return "sally machine show" + t.words("")
}

// enableWords says what makes login possible on an instance, and why it is not.
func (t target) enableWords() (why, remedy string) {
	set, _ := t.id.Parent()
	update := "sally vmss update-instances" + t.words("instance-ids")
	if m := t.known.Properties.NewModel; m != nil && m.LoginEnabled {
		return "; it runs an old model of its scale set, and the new one has the extension", "Run: " + update
	}
	return "; the model of its scale set has it not", "Run: sally vmss extension set --publisher Microsoft.Azure.ActiveDirectory --name AADSSHLoginForLinux -g " + set.ResourceGroupName() + " --vmss-name " + set.Name() +
		", and then: " + update
}

// byAddress finds the machine with an address among those that the person may
// read, for a sentence after a connection that failed.
func (a *app) byAddress(ctx context.Context, s *client.Session, t target) (target, bool) {
	subscription, err := subscriptionOf(s)
	if err != nil {
		return t, false
	}
	var list struct {
		Value []facts `json:"value"`
	}
	if err := do(ctx, s, client.Call{Method: http.MethodGet, Path: "/subscriptions/" + url.PathEscape(subscription) + "/providers/Sallyport.Access/machines"}, &list); err != nil {
		return t, false
	}
	for _, f := range list.Value {
		id, isMachine := strings.CutSuffix(f.ID, accessMember)
		for _, address := range append(add(nil, f.Properties.Loopback), f.Properties.Addresses...) {
			if isMachine && address == t.address {
				at, err := scope.Parse(id)
				t.id, t.known = at, &f
				return t, err == nil
			}
		}
	}
	return t, false
}
