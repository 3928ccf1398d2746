package oauth

import (
	"slices"
	"strings"

	"sallyport/internal/cloud"
	"sallyport/internal/directory"
)

// Resource is what a token is for.
type Resource uint8

// The resources. Own is the client itself: a token that only shows who signed in.
const (
	NoResource Resource = iota
	ARM
	Graph
	SSH
	Own
)

// Well-known client ids of the resources, which policies name.
const (
	armAppID   = directory.ARMAppID
	graphAppID = directory.GraphAppID
)

// Scope is a parsed scope parameter.
type Scope struct {
	Text     string // as requested, single spaces: the client's cache key
	Resource Resource
	Audience string
	Offline  bool
	OpenID   bool
	// Permissions are those that were asked for by name; Default says that all
	// that were consented to are meant ("/.default").
	Permissions []string
	Default     bool
}

// AppID is the resource's client id, for policies.
func (sc Scope) AppID() string {
	switch sc.Resource {
	case ARM:
		return armAppID
	case Graph:
		return graphAppID
	case SSH:
		return directory.LinuxSignIn
	default:
		return sc.Audience
	}
}

// again is the scope of a sign-in that satisfies policy for the same resource.
func (sc Scope) again() string {
	return sc.Audience + "/" + defaultScope
}

// Audiences lists the names of a resource: those at this server, those of the
// deployment's cloud, and its application id. Another cloud's are nobody's.
func (s *Service) Audiences(r Resource) []string { return s.audiences[r] }

// audiencesOf makes the lists of Audiences.
func audiencesOf(url string, c cloud.Cloud) map[Resource][]string {
	list := func(id string, names ...string) []string {
		var out []string
		for _, name := range names {
			out = append(out, name, name+"/")
		}
		return append(out, id)
	}
	return map[Resource][]string{
		ARM:   list(armAppID, append([]string{url + "/arm"}, c.Management...)...),
		Graph: list(graphAppID, append([]string{url, url + "/graph"}, c.Graph...)...),
		SSH:   {c.SSH},
	}
}

// sshLike reports whether a text means the SSH resource in any spelling, so that
// no variant of it slips through as something else.
func sshLike(text string) bool {
	t := strings.ToLower(text)
	return strings.Contains(t, "checkmyaccess") || strings.Contains(t, directory.LinuxSignIn) || strings.Contains(t, "//pas.") || strings.Contains(t, "//pasff.")
}

func (s *Service) classify(audience, client string) Resource {
	for _, r := range []Resource{ARM, Graph, SSH} {
		if slices.Contains(s.Audiences(r), audience) {
			return r
		}
	}
	if strings.EqualFold(audience, client) || strings.EqualFold(audience, "api://"+client) {
		return Own
	}
	return NoResource
}

// parseScope reads a scope parameter. The audience is the text before
// "/.default", as it stands (a resource that ends in a slash gives two). Names
// of single Graph permissions mean Graph.
func (s *Service) parseScope(text, client string) (Scope, error) {
	words := strings.Fields(text)
	sc := Scope{Text: strings.Join(words, " ")}
	if len(text) > 4096 {
		return Scope{}, refuse("invalid_scope", 70011, "The scope is too long.")
	}
	for _, w := range words {
		switch w {
		case "openid", "profile", "email":
			sc.OpenID = true
			continue
		case "offline_access":
			sc.Offline = true
			continue
		}
		audience, permission := s.splitScope(w)
		r := s.classify(audience, client)
		if r == NoResource {
			return Scope{}, s.unknownResource(audience)
		}
		if r != SSH && sshLike(w) {
			return Scope{}, s.unknownResource(w)
		}
		if sc.Resource != NoResource && (sc.Resource != r || sc.Audience != audience) {
			return Scope{}, refuse("invalid_scope", 28000, "The scope names more than one resource. Ask for one resource at a time.")
		}
		sc.Resource, sc.Audience = r, audience
		if err := sc.ask(client, permission); err != nil {
			return Scope{}, err
		}
	}
	if sc.Default && len(sc.Permissions) > 0 {
		return Scope{}, refuse("invalid_scope", 70011, "The scope names permissions beside /.default. Ask for the one or the other.")
	}
	if sc.Resource == NoResource {
		sc.Resource, sc.Audience = Own, client
	}
	return sc, nil
}

func (s *Service) unknownResource(audience string) *Error {
	if sshLike(audience) {
		return refuse("invalid_scope", 70011, "The scope '%s' is not valid. The scope for SSH certificates is %s in this cloud, which is %s.", show(audience), s.cfg.Cloud.Scope(), s.cfg.Cloud.Name)
	}
	return refuse("invalid_resource", 500011, "The resource principal named '%s' was not found in the tenant. Ask for %s.", show(audience), "Resource Manager (URL/arm/.default) or Microsoft Graph")
}

// ask adds one permission of a scope.
func (sc *Scope) ask(client, permission string) error {
	if sc.Resource != ARM && sc.Resource != Graph || permission == "" || permission == defaultScope {
		sc.Default = true
		return nil
	}
	name, err := sc.named(client, permission)
	if err == nil && !slices.Contains(sc.Permissions, name) {
		sc.Permissions = append(sc.Permissions, name)
	}
	return err
}

// defaultScope means all that was consented to.
const defaultScope = ".default"

// splitScope cuts the permission off a scope: what follows the last slash of the
// audience. A name without a slash is one of Microsoft Graph's.
func (s *Service) splitScope(word string) (audience, permission string) {
	if a, ok := strings.CutSuffix(word, "/"+defaultScope); ok {
		return a, defaultScope
	}
	if a, ok := strings.CutSuffix(word, "/"+directory.UserImpersonation); ok {
		return a, directory.UserImpersonation
	}
	if !strings.Contains(word, "/") { // "User.Read"
		return s.cfg.Cloud.Graph[0], word
	}
	for _, base := range s.Audiences(Graph) {
		if rest, ok := strings.CutPrefix(word, strings.TrimSuffix(base, "/")+"/"); ok && !strings.Contains(rest, "/") && strings.Contains(rest, ".") {
			return base, rest
		}
	}
	return word, ""
}

// show bounds foreign text before it is quoted back.
func show(text string) string {
	if len(text) > 120 {
		text = text[:120] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, text)
}
