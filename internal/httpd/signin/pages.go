package signin

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strings"

	"sallyport/internal/cloud"
	"sallyport/internal/httpd"
)

//go:embed page.html page.css submit.js
var assets embed.FS

// page is what the one template shows. Kind selects the part.
type page struct {
	Kind    string
	Cloud   string // of Azure's, where it is not the global one
	Title   string
	Problem string
	Notice  string
	ID      string // correlation id
	Flow    string
	CSRF    string
	Client  string
	User    string
	Hint    string
	Code    string
	Address string // where a device asked from, or where the answer for a foreign client goes
	Asked   string // when a device asked
	// Elsewhere says that the device is at another address than the browser.
	Elsewhere bool
	Machine   string // that a person connects to
	Login     string // the login name there
	NotYours  bool   // it belongs to somebody else
	Action    string
	Fields    []field // of a form, or permissions with what they mean
	// The consent page: the client and the resource by their ids, and what the
	// person may do.
	AppID    string
	Resource string
	Agree    bool
	ForAll   bool
	Style    template.CSS
	Script   template.JS
}

type field struct{ Name, Value string }

// renderer holds the parsed template and the hashes that the policy names.
type renderer struct {
	page   *template.Template
	style  template.CSS
	script template.JS
	cloud  string // that the pages name
	hashes [2]string
}

func newRenderer(shown cloud.Cloud) (*renderer, error) {
	read := func(name string) string {
		b, err := assets.ReadFile(name)
		if err != nil {
			return ""
		}
		return string(b)
	}
	t, err := template.New("page").Parse(read("page.html"))
	if err != nil {
		return nil, fmt.Errorf("sign-in pages: %w", err)
	}
	style, script := read("page.css"), read("submit.js")
	r := &renderer{page: t, style: template.CSS(style), script: template.JS(script)} //nolint:gosec // embedded files of this package
	if shown.Name != cloud.Global {
		r.cloud = shown.Name
	}
	for i, text := range []string{style, script} {
		sum := sha256.Sum256([]byte(text))
		r.hashes[i] = "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return r, nil
}

// show writes a page under a policy that allows its style, its forms and
// nothing else. origin is where a form may lead besides this server.
func (r *renderer) show(c *httpd.Call, status int, p page, origin string) error {
	p.Style, p.ID, p.Cloud = r.style, c.By.CorrelationID, r.cloud
	policy := []string{"default-src 'none'", "style-src " + r.hashes[0], "base-uri 'none'", "frame-ancestors 'none'", "form-action 'self'"}
	if safeOrigin(origin) {
		policy[4] += " " + origin
	}
	if p.Kind == "post" {
		p.Script = r.script
		policy = append(policy, "script-src "+r.hashes[1])
	}
	var b strings.Builder
	if err := r.page.Execute(&b, p); err != nil {
		return err
	}
	h := c.W.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", strings.Join(policy, "; "))
	h.Set("X-Frame-Options", "DENY")
	c.W.WriteHeader(status)
	_, err := c.W.Write([]byte(b.String()))
	return err
}

// safeOrigin keeps anything but an origin out of the policy header.
func safeOrigin(s string) bool {
	rest, ok := strings.CutPrefix(s, "https://")
	if !ok {
		rest, ok = strings.CutPrefix(s, "http://")
	}
	return ok && rest != "" && !strings.ContainsFunc(rest, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-:[]", r)
	})
}

// seeOther sends the browser on with GET.
func seeOther(c *httpd.Call, to string) error {
	c.W.Header().Set("Location", to)
	c.W.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	return c.NoContent(http.StatusSeeOther)
}
