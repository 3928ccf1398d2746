package signin

import (
	"context"
	"net/http"

	"sallyport/internal/audit"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/signin"
)

// Consents decides who may agree to what, and records it; directory.Service
// satisfies it.
type Consents interface {
	AsPerson(by audit.By, u directory.User) audit.By
	MayConsent(by audit.By, c directory.Consent) (self, all bool)
	Agree(ctx context.Context, by audit.By, c directory.Consent) error
}

func consentOf(a signin.Ask) directory.Consent {
	return directory.Consent{AppID: a.AppID, ResourceID: a.Resource, Values: a.Values}
}

// ask shows what a client asks for, to the account that is signed in: with the
// choice, or with the way to an administrator where the person has none. The
// form is bound to the account that it was shown to.
func (h *Handler) ask(c *httpd.Call, f signin.Flow, text string) error {
	session, user, err := h.current(c)
	if err != nil {
		return err
	}
	if session == nil {
		return h.render(c, http.StatusOK, f, text, page{Kind: "password", Title: "Sign in"})
	}
	token, err := h.csrf(c, text+session.ID)
	if err != nil {
		return err
	}
	p := page{Kind: "consent", Title: "Permissions requested", Client: f.Client, User: user.UPN, Flow: text, CSRF: token, AppID: f.Ask.AppID, Resource: f.Ask.Resource, Address: f.Origin}
	for _, v := range f.Ask.Values {
		permission, _ := directory.PermissionOf(f.Ask.Resource, v)
		p.Fields = append(p.Fields, field{v, permission.Text})
	}
	p.Agree, p.ForAll = h.cfg.Consents.MayConsent(h.cfg.Consents.AsPerson(c.By, user), consentOf(*f.Ask))
	if !p.Agree {
		p.Title = "Approval needed"
	}
	return h.pages.show(c, http.StatusOK, p, f.Origin)
}

// consent takes the answer of the page and goes back to the dispatcher, which
// looks at what is granted now.
func (h *Handler) consent(c *httpd.Call) error {
	form, err := c.Form()
	if err != nil {
		return err
	}
	text := form.Get("flow")
	f, err := h.openFlow(c, text)
	if err != nil {
		return err
	}
	session, user, err := h.current(c)
	if err != nil {
		return err
	}
	if session == nil || f.Ask == nil {
		return h.render(c, http.StatusUnauthorized, f, text, page{Kind: "password", Title: "Sign in", Problem: fault.Sentence("You are no longer signed in.")})
	}
	if err := h.checkForm(c, text+session.ID, form.Get("csrf")); err != nil {
		return err
	}
	if form.Get("decision") != "accept" {
		return h.proven(c, f, signin.StepDeclined, session.ID, c.By.At)
	}
	agreed := consentOf(*f.Ask)
	agreed.ForAll = form.Get("all") == "yes"
	if err := h.cfg.Consents.Agree(c.R.Context(), h.cfg.Consents.AsPerson(c.By, user), agreed); err != nil {
		return err
	}
	return h.proven(c, f, signin.StepConsent, session.ID, c.By.At)
}
