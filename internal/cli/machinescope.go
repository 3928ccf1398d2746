package cli

import (
	"context"
	"net/http"
	"strings"

	"sallyport/internal/cli/client"
	"sallyport/internal/fault"
	"sallyport/internal/scope"
)

func flagMachineIDs() flag {
	return flag{name: "ids", kind: 'l', usage: "Resource ID of the machine, in the place of its name and resource group"}
}

// machineScope is the resource id of the machine that --ids, or a name with
// --resource-group, means: a virtual machine or one that joined, or the instance
// of a scale set that --instance-id numbers. A name that both
// have is refused. Of one that the caller may not see the server says so, asked
// for the virtual machine.
func (a *app) machineScope(ctx context.Context, s *client.Session, in values, nameFlag string) (string, error) {
	name, ids := in.text(nameFlag), in.list("ids")
	switch {
	case len(ids) > 1:
		return "", usageError{"argument --ids: one machine at a time"}
	case len(ids) == 1 && (name != "" || in.text("resource-group") != ""):
		return "", usageError{"usage error: give --ids, or --resource-group and --" + nameFlag}
	case len(ids) == 1:
		id, err := scope.Parse(ids[0])
		return id.String(), err
	}
	if err := required(in.cmd, nameFlag, "resource-group"); err != nil {
		return "", err
	}
	if in.text("instance-id") != "" {
		return fillURL(strings.Replace(instanceURL, "{name}", "{"+nameFlag+"}", 1), s, in)
	}
	vm, err := fillURL("/subscriptions/{subscription}/resourceGroups/{resource-group}/providers/Microsoft.Compute/virtualMachines/{"+nameFlag+"}", s, in)
	if err != nil {
		return "", err
	}
	id, err := scope.Parse(vm)
	if err != nil {
		return "", err
	}
	joined, ok := joinedName(id)
	if !ok {
		return vm, nil
	}
	var there [2]bool
	for i, at := range []string{vm, joined.String()} {
		err := do(ctx, s, call(http.MethodGet, at+accessMember), nil)
		if err != nil && !client.IsHidden(err) {
			return "", err
		}
		there[i] = err == nil
	}
	switch {
	case there[0] && there[1]:
		return "", fault.New(fault.Invalid, "AmbiguousMachine", "%s is a virtual machine and a machine that joined", id.Name()).
			WithRemedy("Name one of them: --ids %s, or --ids %s", vm, joined)
	case there[1]:
		return joined.String(), nil
	}
	return vm, nil
}
