package graph

import (
	"time"

	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/httpd"
)

func userEntity() entity {
	return entity{
		set: "users", odata: "#microsoft.graph.user",
		schema: map[string]kind{
			"id": text, "userPrincipalName": text, "displayName": text, "givenName": text, "surname": text, "mail": text, "jobTitle": text, "mailNickname": text, "mobilePhone": text,
			"accountEnabled": boolean, "businessPhones": list, "officeLocation": text, "preferredLanguage": text, "userType": text, "createdDateTime": other, "signInSessionsValidFromDateTime": other,
		},
		defaults: []string{"businessPhones", "displayName", "givenName", "jobTitle", "mail", "mobilePhone", "officeLocation", "preferredLanguage", "surname", "userPrincipalName", "id"},
	}
}

func userObject(u directory.User) object {
	from := u.NotBefore
	if from.IsZero() {
		from = u.CreatedAt
	}
	return object{
		"id": u.ID, "userPrincipalName": u.UPN, "displayName": u.DisplayName, "givenName": nullable(u.GivenName), "surname": nullable(u.Surname), "mail": nullable(u.Mail),
		"jobTitle": nullable(u.JobTitle), "mailNickname": nullable(u.MailNickname), "mobilePhone": nullable(u.MobilePhone), "accountEnabled": u.Enabled,
		"businessPhones": []string{}, "officeLocation": nil, "preferredLanguage": nil, "userType": "Member",
		"createdDateTime": u.CreatedAt.UTC().Format(time.RFC3339), "signInSessionsValidFromDateTime": from.UTC().Format(time.RFC3339),
	}
}

func (h *Handler) listUsers(c *httpd.Call) error {
	if err := h.mayRead(c, ""); err != nil {
		return err
	}
	q, err := parseQuery(c, userEntity())
	if err != nil {
		return err
	}
	p := &page{q: q}
	switch q.filter.property {
	case "userPrincipalName", "id":
		u, ok := h.index().UserByUPN(q.filter.equal)
		if q.filter.property == "id" {
			u, ok = h.index().User(q.filter.equal)
		}
		if ok {
			p.add(u.ID, userObject(u))
		}
	default:
		h.index().UsersAfter(q.start(), func(u directory.User) bool { return p.add(u.ID, userObject(u)) })
	}
	return h.answer(c, "users", p)
}

func (h *Handler) getUser(c *httpd.Call) error {
	id := h.subject(c)
	if err := h.mayRead(c, id); err != nil {
		return err
	}
	u, ok := h.index().User(id)
	if !ok && c.Var("id") == "" {
		return fault.New(fault.Invalid, "Request_BadRequest", "/me request is only valid with delegated authentication flow: the caller is no user.").WithRemedy("Sign in as a person, or show the service principal: sally ad sp show --id ID.")
	}
	if !ok {
		return directory.NotFound(c.Var("id"))
	}
	return h.show(c, userEntity(), userObject(u))
}

// passwordProfile is how Graph carries a new password.
type passwordProfile struct {
	Password        string
	Change, WithMFA *bool
}

func (p passwordProfile) mustChange() bool { return p.Change == nil || *p.Change }

// profile takes the passwordProfile property.
func (b *body) profile() *passwordProfile {
	o, there := b.object("passwordProfile", "passwordProfile")
	if !there {
		return nil
	}
	p := &passwordProfile{Password: value(o.text("password")), Change: o.boolean("forceChangePasswordNextSignIn"), WithMFA: o.boolean("forceChangePasswordNextSignInWithMfa")}
	b.within(o)
	switch {
	case p.Password == "":
		b.fail(badBody("passwordProfile needs a password: to demand a change without setting one is not supported.").WithTarget("passwordProfile"))
	case p.WithMFA != nil && *p.WithMFA:
		b.fail(badBody("forceChangePasswordNextSignInWithMfa is not supported.").WithTarget("passwordProfile"))
	}
	return p
}

// userChange takes the properties that can be set on a user. A few properties
// that clients send with fixed values are accepted with those.
func (b *body) userChange() directory.UserChange {
	ch := directory.UserChange{
		UPN: b.text("userPrincipalName"), DisplayName: b.text("displayName"), GivenName: b.text("givenName"), Surname: b.text("surname"),
		Mail: b.text("mail"), JobTitle: b.text("jobTitle"), MailNickname: b.text("mailNickname"), MobilePhone: b.text("mobilePhone"), Enabled: b.boolean("accountEnabled"),
	}
	b.fixed("userType", "every user is a member", `"Member"`)
	b.fixed("passwordPolicies", "one policy holds for all", `"None"`, "null")
	for _, p := range []string{"businessPhones", "officeLocation", "preferredLanguage", "onPremisesImmutableId", "usageLocation"} {
		b.fixed(p, "it is not kept")
	}
	return ch
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (h *Handler) createUser(c *httpd.Call) error {
	b, err := readBody(c, "User")
	if err != nil {
		return err
	}
	p, ch := b.profile(), b.userChange()
	b.require("accountEnabled", ch.Enabled != nil)
	b.require("displayName", ch.DisplayName != nil)
	b.require("userPrincipalName", ch.UPN != nil)
	b.require("passwordProfile", p != nil)
	if err := b.finish(); err != nil {
		return err
	}
	u, err := h.cfg.Credentials.CreateUser(c.R.Context(), c.By, directory.NewUser{
		UPN: value(ch.UPN), DisplayName: value(ch.DisplayName), GivenName: value(ch.GivenName), Surname: value(ch.Surname), Mail: value(ch.Mail),
		JobTitle: value(ch.JobTitle), MailNickname: value(ch.MailNickname), MobilePhone: value(ch.MobilePhone), Enabled: *ch.Enabled,
	}, p.Password, p.mustChange())
	if err != nil {
		return err
	}
	return h.created(c, userEntity(), userObject(u))
}

func (h *Handler) updateUser(c *httpd.Call) error {
	b, err := readBody(c, "User")
	if err != nil {
		return err
	}
	id := h.subject(c)
	p, ch := b.profile(), b.userChange()
	b.key(id)
	if err := b.finish("createdDateTime", "signInSessionsValidFromDateTime"); err != nil {
		return err
	}
	// The password first: it is the part that is likelier to be refused.
	if p != nil {
		if err := h.cfg.Credentials.ResetPassword(c.R.Context(), c.By, id, p.Password, p.mustChange()); err != nil {
			return err
		}
	}
	if ch != (directory.UserChange{}) || p == nil { // whoever changes nothing has the right to, too
		if err := h.cfg.Directory.UpdateUser(c.R.Context(), c.By, id, ch); err != nil {
			return err
		}
	}
	return c.NoContent(204)
}

func (h *Handler) deleteUser(c *httpd.Call) error {
	if err := h.cfg.Directory.DeleteUser(c.R.Context(), c.By, h.subject(c)); err != nil {
		return err
	}
	return c.NoContent(204)
}

func (h *Handler) revokeSessions(c *httpd.Call) error {
	if err := withoutBody(c); err != nil {
		return err
	}
	if err := h.cfg.Directory.RevokeSessions(c.R.Context(), c.By, h.subject(c)); err != nil {
		return err
	}
	return c.JSON(200, object{"@odata.context": h.context("Edm.Boolean"), "value": true})
}
