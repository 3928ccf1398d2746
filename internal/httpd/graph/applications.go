package graph

import (
	"encoding/hex"
	"strings"
	"time"

	"sallyport/internal/credential"
	"sallyport/internal/directory"
	"sallyport/internal/httpd"
)

func applicationEntity() entity {
	return entity{set: "applications", odata: "#microsoft.graph.application", schema: map[string]kind{
		"id": text, "appId": text, "displayName": text, "signInAudience": text, "identifierUris": list, "publisherDomain": text, "isFallbackPublicClient": boolean, "description": text, "tags": list,
		"createdDateTime": other, "deletedDateTime": other, "web": other, "publicClient": other, "spa": other, "passwordCredentials": other, "keyCredentials": other,
		"requiredResourceAccess": other, "appRoles": other, "api": other,
	}}
}

func (h *Handler) applicationObject(a directory.Application) object {
	web, public := a.RedirectURIs, []string(nil)
	if a.Public {
		web, public = nil, a.RedirectURIs
	}
	domain := ""
	if d := h.index().Tenant().Domains; len(d) > 0 {
		domain = d[0]
	}
	return object{
		"id": a.ID, "appId": a.AppID, "displayName": a.DisplayName, "signInAudience": "AzureADMyOrg", "identifierUris": []string{}, "publisherDomain": domain, "isFallbackPublicClient": a.Public,
		"description": nil, "tags": []string{}, "createdDateTime": a.CreatedAt.UTC().Format(time.RFC3339), "deletedDateTime": nil,
		"web":          object{"homePageUrl": nil, "logoutUrl": nil, "redirectUris": listOf(web), "implicitGrantSettings": object{"enableAccessTokenIssuance": false, "enableIdTokenIssuance": false}},
		"publicClient": object{"redirectUris": listOf(public)}, "spa": object{"redirectUris": []string{}},
		"passwordCredentials": []object{}, "keyCredentials": []object{}, "requiredResourceAccess": []object{}, "appRoles": []object{}, "api": object{"oauth2PermissionScopes": []object{}},
	}
}

// withCredentials adds what proves the application or service principal,
// without anything secret.
func (h *Handler) withCredentials(c *httpd.Call, ownerID string, o object) (object, error) {
	secrets, certificates, err := h.cfg.Credentials.Credentials(c.R.Context(), ownerID)
	if err != nil {
		return nil, err
	}
	passwords, keys := []object{}, []object{}
	for _, s := range secrets {
		passwords = append(passwords, secretObject(s))
	}
	for _, k := range certificates {
		thumb, err := hex.DecodeString(k.SHA1)
		if err != nil {
			return nil, err
		}
		keys = append(keys, object{
			"keyId": k.ID, "displayName": nullable(k.DisplayName), "type": "AsymmetricX509Cert", "usage": "Verify", "key": nil, "customKeyIdentifier": strings.ToUpper(hex.EncodeToString(thumb)),
			"startDateTime": k.Start.UTC().Format(time.RFC3339), "endDateTime": k.End.UTC().Format(time.RFC3339),
		})
	}
	o["passwordCredentials"], o["keyCredentials"] = passwords, keys
	return o, nil
}

func secretObject(s credential.Secret) object {
	return object{
		"keyId": s.ID, "displayName": nullable(s.DisplayName), "hint": s.Hint, "secretText": nil, "customKeyIdentifier": nil,
		"startDateTime": s.Start.UTC().Format(time.RFC3339), "endDateTime": s.End.UTC().Format(time.RFC3339),
	}
}

func (h *Handler) listApplications(c *httpd.Call) error {
	if err := h.mayRead(c, ""); err != nil {
		return err
	}
	q, err := parseQuery(c, applicationEntity())
	if err != nil {
		return err
	}
	p := &page{q: q}
	h.index().ApplicationsAfter(q.start(), func(a directory.Application) bool {
		o := h.applicationObject(a)
		if !q.matches(o) {
			return p.look(a.ID)
		}
		if o, err = h.withCredentials(c, a.ID, o); err != nil {
			return false
		}
		return p.add(a.ID, o)
	})
	if err != nil {
		return err
	}
	return h.answer(c, "applications", p)
}

func (h *Handler) getApplication(c *httpd.Call) error {
	if err := h.mayRead(c, ""); err != nil {
		return err
	}
	a, ok := h.index().ApplicationByID(c.Var("id"))
	if !ok {
		return directory.NotFound(c.Var("id"))
	}
	o, err := h.withCredentials(c, a.ID, h.applicationObject(a))
	if err != nil {
		return err
	}
	return h.show(c, applicationEntity(), o)
}

// redirects takes one of web, publicClient and spa: its redirect URIs, nil for none
// named.
func (b *body) redirects(property string) *[]string {
	b.present(property)
	o, there := b.object(property, property+"Application")
	if !there {
		return nil
	}
	var uris *[]string
	o.present("redirectUris", "implicitGrantSettings")
	o.take("redirectUris", &uris)
	o.fixed("redirectUriSettings", "it is not kept")
	if property == "web" {
		o.fixed("homePageUrl", "it is not kept")
		o.fixed("logoutUrl", "nobody is sent there")
		grant, _ := o.object("implicitGrantSettings", "implicitGrantSettings")
		for _, token := range []string{"enableAccessTokenIssuance", "enableIdTokenIssuance"} {
			if on := grant.optional(token); on != nil && *on {
				b.fail(badBody("the implicit grant is not supported: it puts tokens into addresses.").WithTarget("web").WithRemedy("Use the authorization code grant with PKCE."))
			}
		}
		o.within(grant)
	}
	b.within(o)
	return uris
}

// applicationChange takes the properties that can be set on an application. One
// list of redirect URIs is kept: an application is a public client or it is
// not, and a list for each kind would let a public client use a redirect that
// was meant for one with a secret.
func (b *body) applicationChange() (directory.ApplicationChange, *[]key) {
	ch := directory.ApplicationChange{DisplayName: b.text("displayName"), Public: b.optional("isFallbackPublicClient")}
	web, public, spa := b.redirects("web"), b.redirects("publicClient"), b.redirects("spa")
	filled := func(uris *[]string) bool { return uris != nil && len(*uris) > 0 }
	switch {
	case filled(spa):
		b.fail(badBody("redirect URIs of single-page applications are not supported.").WithTarget("spa"))
	case filled(web) && (filled(public) || ch.Public != nil && *ch.Public):
		b.fail(badBody("an application is either a public client, with publicClient.redirectUris, or has a secret, with web.redirectUris.").WithTarget("publicClient"))
	case filled(public):
		yes := true
		ch.Public, ch.RedirectURIs = &yes, public
	case filled(web):
		no := false
		ch.Public, ch.RedirectURIs = &no, web
	case web != nil || public != nil: // the list of the other kind stays
		ch.RedirectURIs = &[]string{}
		if of := public != nil; web == nil || public == nil {
			ch.Of = &of
		}
	}
	keys := b.keys()
	b.fixed("signInAudience", "an application belongs to this tenant", `"AzureADMyOrg"`)
	b.fixed("passwordCredentials", "secrets are made by the server: use addPassword")
	for _, p := range []string{"identifierUris", "requiredResourceAccess", "appRoles", "optionalClaims", "tags", "description"} {
		b.fixed(p, "it is not kept")
	}
	b.fixed("api", "an application of this tenant offers no scopes", `{"oauth2PermissionScopes":[]}`, "{}")
	return ch, keys
}

func (h *Handler) createApplication(c *httpd.Call) error {
	b, err := readBody(c, "Application")
	if err != nil {
		return err
	}
	ch, keys := b.applicationChange()
	b.require("displayName", ch.DisplayName != nil)
	if err := b.finish(); err != nil {
		return err
	}
	_, added, err := h.changed(c, "applications", "", keys)
	if err != nil {
		return err
	}
	n := directory.NewApplication{DisplayName: value(ch.DisplayName), Public: ch.Public != nil && *ch.Public}
	if ch.RedirectURIs != nil {
		n.RedirectURIs = *ch.RedirectURIs
	}
	a, err := h.cfg.Directory.CreateApplication(c.R.Context(), c.By, n)
	if err != nil {
		return err
	}
	if len(added) > 0 {
		if _, err := h.cfg.Credentials.ChangeCertificates(c.R.Context(), c.By, a.ID, nil, added); err != nil {
			return err
		}
	}
	o, err := h.withCredentials(c, a.ID, h.applicationObject(a))
	if err != nil {
		return err
	}
	return h.created(c, applicationEntity(), o)
}

func (h *Handler) updateApplication(c *httpd.Call) error {
	b, err := readBody(c, "Application")
	if err != nil {
		return err
	}
	ch, keys := b.applicationChange()
	b.key(c.Var("id"))
	if err := b.finish("appId", "publisherDomain", "createdDateTime", "deletedDateTime"); err != nil {
		return err
	}
	a, ok := h.index().ApplicationByID(c.Var("id"))
	if !ok || keys == nil { // the rights are judged before it is said whether it is there
		if err := h.cfg.Directory.UpdateApplication(c.R.Context(), c.By, c.Var("id"), ch); err != nil {
			return err
		}
		return c.NoContent(204)
	}
	gone, added, err := h.changed(c, "applications", a.ID, keys)
	if err != nil {
		return err
	}
	change, _, err := h.cfg.Credentials.PrepareCertificates(c.R.Context(), c.By, a.ID, gone, added)
	if err != nil {
		return err
	}
	if ch == (directory.ApplicationChange{}) {
		err = h.cfg.Credentials.Do(c.R.Context(), change)
	} else {
		err = h.cfg.Directory.UpdateApplication(c.R.Context(), c.By, a.ID, ch, credential.InDirectory(change))
	}
	if err != nil {
		return err
	}
	return c.NoContent(204)
}

func (h *Handler) deleteApplication(c *httpd.Call) error {
	if err := h.cfg.Directory.DeleteApplication(c.R.Context(), c.By, c.Var("id")); err != nil {
		return err
	}
	return c.NoContent(204)
}

// addPassword makes a secret of an application or a service principal. This
// answer is the only place where its text is ever seen.
func (h *Handler) addPassword(c *httpd.Call) error {
	b, err := readBody(c, "passwordCredential")
	if err != nil {
		return err
	}
	given, _ := b.object("passwordCredential", "passwordCredential")
	name, life := given.text("displayName"), given.life()
	b.within(given)
	if err := b.finish(); err != nil {
		return err
	}
	if life.Start.After(c.By.At.Add(5 * time.Minute)) {
		return badBody("a secret begins now: startDateTime in the future is not supported.").WithTarget("startDateTime")
	}
	s, text, err := h.cfg.Credentials.AddSecret(c.R.Context(), c.By, c.Var("id"), value(name), life)
	if err != nil {
		return err
	}
	o := secretObject(s)
	o["secretText"] = text
	o["@odata.context"] = h.context("microsoft.graph.passwordCredential")
	return c.JSON(200, o)
}

func (h *Handler) removePassword(c *httpd.Call) error {
	b, err := readBody(c, "passwordCredential")
	if err != nil {
		return err
	}
	id := b.text("keyId")
	b.require("keyId", id != nil)
	if err := b.finish(); err != nil {
		return err
	}
	if err := h.cfg.Credentials.RemoveCredential(c.R.Context(), c.By, c.Var("id"), value(id)); err != nil {
		return err
	}
	return c.NoContent(204)
}

// owners lists who may add credentials without a role.
func (h *Handler) owners(c *httpd.Call) error {
	if err := h.mayRead(c, ""); err != nil {
		return err
	}
	a, ok := h.index().ApplicationByID(c.Var("id"))
	if p, isPrincipal := h.index().ServicePrincipal(c.Var("id")); isPrincipal {
		a, _ = h.index().Application(p.AppID)
		ok = true
	}
	if !ok {
		return directory.NotFound(c.Var("id"))
	}
	return h.objects(c, append([]string{}, a.Owners...))
}
