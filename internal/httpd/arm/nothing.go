package arm

import (
	"maps"
	"slices"
	"strings"

	"sallyport/internal/fault"
)

// Nothing is the refusal of a path that no row has: in Resource Manager's words, a
// namespace or a resource type that this server does not know, or an action that a
// type does not have (Azure's codes InvalidResourceNamespace, InvalidResourceType and
// InvalidAction), with what there is instead. It is nil for another kind of path. The
// catalogue is read once: whoever asks has shown nothing yet, and may ask often.
func Nothing() func(method string, path []string) error {
	known := registered()
	return func(method string, path []string) error { return nothing(known, method, path) }
}

func nothing(known map[string][]string, method string, path []string) error {
	at := len(path) - 1
	for at >= 0 && !strings.EqualFold(path[at], "providers") {
		at--
	}
	if method == "POST" && len(path) == 5 && strings.EqualFold(path[2], "resourceGroups") {
		return noAction("Microsoft.Resources", "resourceGroups", path[4])
	}
	if at < 0 || at+1 == len(path) {
		return nil
	}
	namespace := path[at+1]
	kinds, there := known[namespace]
	for name, list := range known {
		if strings.EqualFold(name, namespace) {
			namespace, kinds, there = name, list, true
		}
	}
	if !there {
		return noNamespace(known, namespace)
	}
	var words []string
	for i := at + 2; i < len(path); i += 2 {
		words = append(words, path[i])
	}
	kind := strings.Join(words, "/")
	above, last := "", kind
	if n := len(words) - 1; n > 0 {
		above, last = strings.Join(words[:n], "/"), words[n]
	}
	if method == "POST" && (len(path)-at)%2 == 1 && has(kinds, above) {
		return noAction(namespace, above, last)
	}
	return fault.New(fault.NotFound, "InvalidResourceType", "The resource type '%.80s' could not be found in the namespace '%s'.", kind, namespace).
		WithRemedy("%s", instead(namespace+"/"+kind, "See what there is: az provider show --namespace "+namespace))
}

func noAction(namespace, kind, action string) error {
	return fault.New(fault.NotFound, "InvalidAction", "The resource type '%.80s' of the namespace '%s' has no action '%.80s'.", kind, namespace, action).
		WithRemedy("%s", instead(namespace+"/"+kind+"/"+action, "See what there is: az provider show --namespace "+namespace))
}

func noNamespace(known map[string][]string, name string) error {
	return fault.New(fault.NotFound, "InvalidResourceNamespace", "The resource namespace '%.80s' is invalid.", name).
		WithRemedy("%s", instead(name, "This server has: "+strings.Join(slices.Sorted(maps.Keys(known)), ", ")+"."))
}

func has(kinds []string, kind string) bool {
	return slices.ContainsFunc(kinds, func(k string) bool { return strings.EqualFold(k, kind) })
}

// instead is what people do here who look for a type of Azure's, or other.
func instead(name, other string) string {
	name = strings.ToLower(name)
	for _, known := range []struct{ begins, text string }{
		{"microsoft.compute/virtualmachines/runcommand", "Commands are run by people: sally ssh vm -g GROUP -n NAME -- COMMAND"},
		{"microsoft.compute/locations/runcommands", "Commands are run by people: sally ssh vm -g GROUP -n NAME -- COMMAND"},
		{"microsoft.compute/disks", "A machine here has one disk, made from its image; it comes and goes with it."},
		{"microsoft.compute/snapshots", "A machine here has one disk, made from its image; it comes and goes with it."},
		{"microsoft.compute/images", "Machines are made from the images of: sally vm image list"},
		{"microsoft.compute/galleries", "Machines are made from the images of: sally vm image list"},
		{"microsoft.resources/resourcegroups/exporttemplate", "Nothing is turned into a template here; templates are written by hand: az deployment group create"},
		{"microsoft.compute/skus", "A size decides only how a machine runs: see docs/lab.md."},
		{"microsoft.compute/locations/vmsizes", "A size decides only how a machine runs: see docs/lab.md."},
		{"microsoft.compute/virtualmachines/vmsizes", "A size decides only how a machine runs: see docs/lab.md."},
		{"microsoft.compute/locations/usages", "There are no quotas."},
		{"microsoft.network/locations/usages", "There are no quotas."},
		{"microsoft.compute/sshpublickeys", "People sign in with certificates: sally ssh vm -g GROUP -n NAME"},
		{"microsoft.network/networksecuritygroups/securityrules", "Rules are part of their group and open nothing: a machine listens for SSH alone."},
		{"microsoft.network/virtualnetworks/subnets", "Subnets are part of their network: az network vnet show"},
		{"microsoft.network/", "Machines have an address each and need nothing else: az network public-ip list"},
		{"microsoft.authorization/locks", "Nothing is locked here; who may delete is decided by roles: sally role assignment list"},
		{"microsoft.authorization/policy", "Who may sign in where and how is decided by roles and by Conditional Access: docs/how-to/conditional-access.md"},
		{"microsoft.authorization/denyassignments", "There are no deny assignments: what no role gives is denied."},
		{"microsoft.insights", "The record of who did what: sally audit list"},
		{"microsoft.operationalinsights", "The record of who did what: sally audit list"},
		{"microsoft.resources/deployments", "Templates are deployed to a resource group: az deployment group create"},
	} {
		if strings.HasPrefix(name, known.begins) {
			return known.text
		}
	}
	return other
}
