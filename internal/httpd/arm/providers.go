package arm

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"sallyport/internal/httpd"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/route"
)

// registered are the namespaces with their resource types, read from the rows that
// this server answers: what has no row is in no catalogue.
func registered() map[string][]string {
	out := map[string][]string{}
	for _, row := range route.All() {
		if row.Surface != route.ARM {
			continue
		}
		namespace, kind := kindOf(row.Pattern)
		if kind != "" && !slices.ContainsFunc(out[namespace], func(have string) bool { return strings.EqualFold(have, kind) }) {
			out[namespace] = append(out[namespace], kind)
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b string) int { return cmp.Compare(strings.ToLower(a), strings.ToLower(b)) })
	}
	return out
}

// kindOf is the resource type that a pattern is the address of: the words behind
// the last "providers" that a name follows each, and with none of that what lies in
// a subscription.
func kindOf(pattern string) (namespace, kind string) {
	_, path, found := cutLast(pattern, "/providers/")
	namespace = "Microsoft.Resources"
	if found {
		namespace, path, _ = strings.Cut(path, "/")
	} else {
		path = strings.TrimPrefix(pattern, "/")
	}
	words := strings.Split(path, "/")
	var names []string
	for i := 0; i+1 < len(words); i += 2 {
		name := words[i+1]
		if strings.HasPrefix(words[i], "{") || !strings.HasPrefix(name, "{") && name != "default" {
			break
		}
		names = append(names, words[i])
	}
	if !found && len(names) > 1 && strings.EqualFold(names[1], "resourceGroups") {
		names = names[1:2] // Azure knows the type by both of its names; behind it is an older address of deployments
	}
	return namespace, strings.Join(names, "/")
}

func cutLast(s, sep string) (before, after string, found bool) {
	at := strings.LastIndex(s, sep)
	if at < 0 {
		return "", s, false
	}
	return s[:at], s[at+len(sep):], true
}

func (h *Handler) showProvider(subscription, namespace string, kinds []string) map[string]any {
	list := []map[string]any{}
	for _, kind := range kinds {
		locations := []string{}
		if t, err := h.cfg.Engine.Type(namespace + "/" + kind); err == nil && t.Located {
			for _, l := range resource.Locations() {
				locations = append(locations, l.DisplayName)
			}
		}
		list = append(list, map[string]any{"resourceType": kind, "locations": locations, "apiVersions": types.Versions(namespace + "/" + kind), "capabilities": "None"})
	}
	return map[string]any{"id": "/subscriptions/" + subscription + "/providers/" + namespace, "namespace": namespace, "registrationState": "Registered", "registrationPolicy": "RegistrationFree", "resourceTypes": list}
}

func (h *Handler) providers(c *httpd.Call) error {
	out := []map[string]any{}
	for namespace, kinds := range registered() {
		out = append(out, h.showProvider(c.Var("subscription"), namespace, kinds))
	}
	return c.JSON(http.StatusOK, map[string]any{"value": sortedBy(out, "namespace")})
}

func (h *Handler) provider(c *httpd.Call) error {
	for namespace, kinds := range registered() {
		if strings.EqualFold(namespace, c.Var("namespace")) {
			return c.JSON(http.StatusOK, h.showProvider(c.Var("subscription"), namespace, kinds))
		}
	}
	if strings.EqualFold(c.Var("namespace"), "Microsoft.HybridConnectivity") { // az ssh asks for it before it connects to a hybrid machine
		return c.JSON(http.StatusOK, h.showProvider(c.Var("subscription"), "Microsoft.HybridConnectivity", nil))
	}
	return noNamespace(registered(), c.Var("namespace"))
}
