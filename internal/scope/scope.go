package scope

import (
	"strings"

	"sallyport/internal/fault"
)

// ID is a parsed Resource Manager id. The zero ID is invalid. Two ids name the
// same thing exactly when their Keys are equal: ARM ignores case.
type ID struct {
	text string // as it should be shown: canonical keywords, names as given
	key  string // lower case
}

const (
	providers        = "providers"
	subscriptions    = "subscriptions"
	resourceGroups   = "resourceGroups"
	managementPrefix = "/providers/Microsoft.Management/managementGroups/"
	managementKey    = "/providers/microsoft.management/managementgroups/" // the same as a key
	maxLength        = 2048
)

// Root is "/", the parent of every management group.
func Root() ID { return ID{text: "/", key: "/"} }

// Directory is the scope at which directory roles are assigned. It is no ARM
// scope: nothing inherits from it and it inherits from nothing.
func Directory() ID { return ID{text: "/microsoft.directory", key: "/microsoft.directory"} }

// ManagementGroup returns the id of a management group.
func ManagementGroup(name string) ID { return of(managementPrefix + name) }

// Subscription returns the id of a subscription.
func Subscription(id string) ID { return of("/subscriptions/" + id) }

// ResourceGroup returns the id of a resource group.
func ResourceGroup(subscription, name string) ID {
	return of("/subscriptions/" + subscription + "/resourceGroups/" + name)
}

func of(text string) ID { return ID{text: text, key: strings.ToLower(text)} }

// Parse reads an id: "/", a management group, subscription, resource group,
// resource, child resource, or an extension resource at any of these.
// Keywords are rewritten to their canonical case, names stay as given.
// The error is fault.Invalid with code InvalidResourceId.
func Parse(text string) (ID, error) {
	text = strings.TrimSuffix(text, "/")
	if text == "" {
		return Root(), nil
	}
	if strings.EqualFold(text, Directory().key) {
		return Directory(), nil
	}
	if len(text) > maxLength || text[0] != '/' {
		return ID{}, invalid(text)
	}
	parts := strings.Split(text[1:], "/")
	for i, p := range parts {
		if !validSegment(p) {
			return ID{}, invalid(text)
		}
		parts[i] = p
	}
	if !canonical(parts) {
		return ID{}, invalid(text)
	}
	return of("/" + strings.Join(parts, "/")), nil
}

func invalid(text string) error {
	if len(text) > 120 {
		text = text[:120] + "..."
	}
	return fault.New(fault.Invalid, "InvalidResourceId", "%q is not a Resource Manager id", text).
		WithRemedy("An id looks like /subscriptions/ID/resourceGroups/NAME/providers/Microsoft.Compute/virtualMachines/NAME.")
}

// validSegment holds ARM's alphabet for names: letters, digits and - _ . ( ).
func validSegment(s string) bool {
	if s == "" || len(s) > 260 || s == "." || s == ".." {
		return false
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		case r == '-', r == '_', r == '.', r == '(', r == ')':
		default:
			return false
		}
	}
	return true
}

// canonical checks the shape and rewrites keywords in place. No name is
// "providers": an id that holds it as a name could be read as another id.
func canonical(p []string) bool {
	i := 0
	if strings.EqualFold(p[0], subscriptions) {
		if len(p) < 2 || strings.EqualFold(p[1], providers) {
			return false
		}
		p[0] = subscriptions
		i = 2
		if len(p) > 2 && strings.EqualFold(p[2], resourceGroups) {
			if len(p) < 4 || strings.EqualFold(p[3], providers) {
				return false
			}
			p[2] = resourceGroups
			i = 4
		}
	}
	for i < len(p) {
		if !strings.EqualFold(p[i], providers) || len(p) < i+4 {
			return false
		}
		p[i] = providers
		if strings.EqualFold(p[i+1], providers) {
			return false
		}
		i += 2 // providers, namespace
		n := 0
		for i+1 < len(p) && !strings.EqualFold(p[i], providers) {
			if strings.EqualFold(p[i+1], providers) {
				return false
			}
			i += 2
			n++
		}
		if n == 0 || (i < len(p) && !strings.EqualFold(p[i], providers)) {
			return false
		}
	}
	return true
}

// String returns the id as it is shown to people and programs.
func (id ID) String() string { return id.text }

// Key returns the lower-cased id: the form to compare, index and store.
func (id ID) Key() string { return id.key }

// IsZero reports whether the id was never set.
func (id ID) IsZero() bool { return id.key == "" }

// Name returns the last segment.
func (id ID) Name() string { return id.text[strings.LastIndexByte(id.text, '/')+1:] }

// SubscriptionID returns the subscription's id in lower case, or "".
func (id ID) SubscriptionID() string { return id.after("/subscriptions/", id.key) }

// ResourceGroupName returns the resource group's name as given, or "".
func (id ID) ResourceGroupName() string {
	k := strings.Index(id.key, "/resourcegroups/")
	if k < 0 {
		return ""
	}
	rest := id.text[k+len("/resourcegroups/"):]
	name, _, _ := strings.Cut(rest, "/")
	return name
}

func (id ID) after(prefix, s string) string {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// Type returns the resource type, "Microsoft.Compute/virtualMachines/extensions"
// for example, in the case given; "Microsoft.Resources/resourceGroups",
// "Microsoft.Resources/subscriptions" for those, "" for the root.
func (id ID) Type() string {
	k := strings.LastIndex(id.key, "/providers/")
	if k < 0 {
		switch {
		case id.key == "/" || id.IsZero():
			return ""
		case strings.Contains(id.key, "/resourcegroups/"):
			return "Microsoft.Resources/resourceGroups"
		default:
			return "Microsoft.Resources/subscriptions"
		}
	}
	parts := strings.Split(id.text[k+len("/providers/"):], "/")
	t := []string{parts[0]}
	for i := 1; i < len(parts); i += 2 {
		t = append(t, parts[i])
	}
	return strings.Join(t, "/")
}

// Parent returns the enclosing scope inside the id itself: the parent resource,
// else the resource group, else the subscription. What encloses a subscription
// or a management group is data, see Tree. ok is false there and at the root.
func (id ID) Parent() (ID, bool) {
	if strings.HasPrefix(id.key, managementKey) && strings.Count(id.key, "/") == 4 {
		return ID{}, false
	}
	n := strings.Count(id.key, "/")
	if id.key == "/" || id.IsZero() || id.key == Directory().key || (n == 2 && strings.HasPrefix(id.key, "/subscriptions/")) {
		return ID{}, false
	}
	cut := strings.LastIndexByte(id.key, '/')
	cut = strings.LastIndexByte(id.key[:cut], '/')
	// A top-level resource also drops "/providers/Namespace".
	if k := strings.LastIndex(id.key[:cut], "/providers/"); k >= 0 && !strings.Contains(id.key[k+len("/providers/"):cut], "/") {
		cut = k
	}
	if cut <= 0 {
		return Root(), true
	}
	return ID{text: id.text[:cut], key: id.key[:cut]}, true
}

// Enclosing appends the id and every scope that encloses it inside the id
// itself, nearest first: what repeated calls of Parent return, in one pass and
// without a copy.
func (id ID) Enclosing(buf []ID) []ID {
	k := id.key
	if k == "" || k == "/" || id == Directory() {
		return append(buf, id)
	}
	var ends [32]int
	n, i := 0, 0
	end := func(at int) { ends[n], n, i = at, n+1, at }
	top := strings.HasPrefix(k, "/subscriptions/")
	if top {
		end(segment(k, len("/subscriptions")))
		if strings.HasPrefix(k[i:], "/resourcegroups/") {
			end(segment(k, i+len("/resourcegroups")))
		}
	}
	for i < len(k) {
		i = segment(k, segment(k, i)) // "/providers/NAMESPACE"
		for i < len(k) && !strings.HasPrefix(k[i:], "/providers/") {
			if n == len(ends) {
				return id.climb(buf)
			}
			end(segment(k, segment(k, i))) // "/type/name"
		}
	}
	for n--; n >= 0; n-- {
		buf = append(buf, ID{text: id.text[:ends[n]], key: k[:ends[n]]})
	}
	if top || strings.HasPrefix(k, managementKey) {
		return buf
	}
	return append(buf, Root())
}

// climb is Enclosing for ids of more parts than anybody uses.
func (id ID) climb(buf []ID) []ID {
	for ok := true; ok; id, ok = id.Parent() {
		buf = append(buf, id)
	}
	return buf
}

// segment returns where the segment ends whose slash is at i.
func segment(s string, i int) int {
	if i >= len(s) {
		return len(s)
	}
	if n := strings.IndexByte(s[i+1:], '/'); n >= 0 {
		return i + 1 + n
	}
	return len(s)
}

// Tree knows what encloses subscriptions and management groups. Implementations
// answer from memory and are safe for concurrent use.
type Tree interface {
	// Above returns the scope that encloses a subscription or management group.
	Above(ID) (ID, bool)
}
