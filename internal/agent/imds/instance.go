package imds

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/internal/agent/caller"
	"sallyport/internal/cloud"
	"sallyport/internal/machine/protocol"
	"sallyport/internal/scope"
)

// factsTime is how long what the server said of the machine is kept.
const factsTime = time.Minute

// facts keeps what the server says of the machine.
type facts struct {
	mu   sync.Mutex
	at   time.Time
	held protocol.Instance
}

func (f *facts) get(ctx context.Context, cfg Config) (protocol.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if age := cfg.Now().Sub(f.at); !f.at.IsZero() && age >= 0 && age < factsTime {
		return f.held, nil
	}
	i, err := cfg.Server.Instance(ctx)
	if err != nil {
		return protocol.Instance{}, err
	}
	f.held, f.at = i, cfg.Now()
	return i, nil
}

// apiVersions are those that clients of Azure's instance metadata ask for. The
// document is the same for all of them: later ones only add members.
func apiVersions() []string {
	return []string{"2017-04-02", "2017-08-01", "2017-10-01", "2017-12-01", "2018-02-01", "2018-04-02", "2018-10-01", "2019-02-01", "2019-03-11", "2019-04-30", "2019-06-01", "2019-06-04", "2019-08-01", "2019-08-15",
		"2019-11-01", "2020-06-01", "2020-07-15", "2020-09-01", "2020-10-01", "2020-12-01", "2021-01-01", "2021-02-01", "2021-03-01", "2021-05-01", "2021-10-01", "2021-11-01", "2021-11-15", "2021-12-13", "2023-07-01"}
}

func newestVersions() []string {
	all := apiVersions()
	slices.Reverse(all)
	return all[:3]
}

// versions answers GET /metadata/versions.
func (s *Service) versions(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"apiVersions": apiVersions()})
}

// instance answers GET /metadata/instance and what lies below it, as JSON or as
// text: a leaf alone, or the names of a node.
func (s *Service) instance(w http.ResponseWriter, r *http.Request, _ caller.Verdict) {
	q := r.URL.Query()
	if !slices.Contains(apiVersions(), q.Get("api-version")) || len(q["api-version"]) != 1 {
		instanceForm.write(w, problem{Status: http.StatusBadRequest, Text: "api-version is invalid or was not specified in the request.", Newest: newestVersions()})
		return
	}
	format := strings.ToLower(q.Get("format"))
	if format != "" && format != "json" && format != "text" {
		instanceForm.write(w, problem{Status: http.StatusBadRequest, Text: "format is json or text."})
		return
	}
	i, err := s.facts.get(r.Context(), s.cfg)
	if err != nil {
		instanceForm.write(w, problemOf(err))
		return
	}
	node, ok := walk(document(i, s.cfg.Interfaces()), strings.Split(strings.Trim(r.URL.Path[len(instancePath):], "/"), "/"))
	if !ok {
		instanceForm.write(w, problem{Status: http.StatusNotFound, Text: "Not found"})
		return
	}
	if format == "text" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(plain(node)))
		return
	}
	writeJSON(w, http.StatusOK, node)
}

const scaleSetInstance = "Microsoft.Compute/virtualMachineScaleSets/virtualMachines"

// document is the whole of /metadata/instance. It says what is known; what Azure
// alone has is empty.
func document(i protocol.Instance, interfaces []Interface) map[string]any {
	id, err := scope.Parse(i.ResourceID)
	if err != nil {
		id = scope.ID{} // the server's word; a machine without a readable id has no names
	}
	tags, list := make([]string, 0, len(i.Tags)), make([]any, 0, len(i.Tags))
	for _, name := range slices.Sorted(maps.Keys(i.Tags)) {
		tags = append(tags, name+":"+i.Tags[name])
		list = append(list, map[string]any{"name": name, "value": i.Tags[name]})
	}
	set := ""
	if up, ok := id.Parent(); ok && strings.EqualFold(id.Type(), scaleSetInstance) {
		set = up.Name()
	}
	environment := i.Environment
	if environment == "" {
		environment = cloud.Of(cloud.Global).Environment
	}
	compute := map[string]any{"azEnvironment": environment, "location": i.Location, "name": protocol.MachineName(i.ResourceID), "offer": "", "osType": "Linux", "publisher": "", "sku": "", "version": "", "zone": "",
		"provider": "Microsoft.Compute", "resourceGroupName": id.ResourceGroupName(), "resourceId": i.ResourceID, "subscriptionId": id.SubscriptionID(), "vmId": i.MachineID, "vmSize": i.Size, "vmScaleSetName": set,
		"tags": strings.Join(tags, ";"), "tagsList": list,
		"osProfile": map[string]any{"adminUsername": i.AdminName, "computerName": i.Hostname, "disablePasswordAuthentication": strconv.FormatBool(!i.Passwords)}}
	return map[string]any{"compute": compute, "network": map[string]any{"interface": network(interfaces)}}
}

func network(interfaces []Interface) []any {
	out := []any{}
	for _, i := range interfaces {
		four, subnets, six := []any{}, []any{}, []any{}
		for _, p := range i.IPv4 {
			four = append(four, map[string]any{"privateIpAddress": p.Address, "publicIpAddress": ""})
			subnets = append(subnets, map[string]any{"address": p.Network, "prefix": strconv.Itoa(p.Bits)})
		}
		for _, a := range i.IPv6 {
			six = append(six, map[string]any{"privateIpAddress": a})
		}
		out = append(out, map[string]any{"ipv4": map[string]any{"ipAddress": four, "subnet": subnets}, "ipv6": map[string]any{"ipAddress": six}, "macAddress": strings.ToUpper(i.MAC)})
	}
	return out
}

// walk goes down a document by names, in any case, and by numbers.
func walk(node any, path []string) (any, bool) {
	for _, name := range path {
		if name == "" {
			continue
		}
		switch n := node.(type) {
		case map[string]any:
			found := false
			for key, value := range n {
				if strings.EqualFold(key, name) {
					node, found = value, true
				}
			}
			if !found {
				return nil, false
			}
		case []any:
			at, err := strconv.ParseUint(name, 10, 16)
			if err != nil || int(at) >= len(n) {
				return nil, false
			}
			node = n[at]
		default:
			return nil, false
		}
	}
	return node, true
}

// plain is a node as text.
func plain(node any) string {
	var lines []string
	switch n := node.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(n)) {
			lines = append(lines, name+slash(n[name]))
		}
	case []any:
		for i := range n {
			lines = append(lines, strconv.Itoa(i)+slash(n[i]))
		}
	case string:
		return n
	default:
		b, err := json.Marshal(n)
		if err != nil {
			return fmt.Sprint(n)
		}
		return string(b)
	}
	return strings.Join(lines, "\n")
}

func slash(node any) string {
	if _, leaf := node.(string); leaf {
		return ""
	}
	return "/"
}
