package signin

import (
	"net/http"
	"net/url"

	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/oauth"
)

// Sentences of the pages.
const (
	leftSignedIn = "Programs that you signed in keep their sign-in; sign out in them, too."
	staysHere    = "The program asked to lead you to an address that is not registered for it, so you stay here."
)

// logout asks before it ends the session: another site's link alone signs nobody
// out. A program that shows the id token of this very sign-in is not asked.
func (h *Handler) logout(c *httpd.Call) error {
	if _, err := h.cfg.OAuth.Authority(c.Var("tenant")); err != nil {
		return sentence(err)
	}
	q, err := url.ParseQuery(c.R.URL.RawQuery)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "InvalidRequest", "The address of this page is malformed.").WithRemedy("Go back to the program that sent you here and start again.")
	}
	out := h.cfg.OAuth.ParseSignOut(q)
	session, user, err := h.current(c)
	if err != nil {
		return err
	}
	if session == nil {
		return h.signedOut(c, out, fault.Sentence("Nobody is signed in in this browser."))
	}
	if out.Session != "" && out.Session == session.ID {
		return h.end(c, out)
	}
	token, err := h.csrf(c, "signout"+session.ID)
	if err != nil {
		return err
	}
	p := page{Kind: "signout", Title: "Sign out", User: user.UPN, CSRF: token, Address: out.Origin}
	for name, v := range out.Parameters() {
		p.Fields = append(p.Fields, field{name, v[0]})
	}
	if out.Stays {
		p.Problem = fault.Sentence(staysHere)
	}
	return h.pages.show(c, http.StatusOK, p, out.Origin)
}

func (h *Handler) signout(c *httpd.Call) error {
	form, err := c.Form()
	if err != nil {
		return err
	}
	out := h.cfg.OAuth.ParseSignOut(form)
	session, _, err := h.current(c)
	if err != nil {
		return err
	}
	if session == nil {
		return h.signedOut(c, out, fault.Sentence("Nobody is signed in in this browser."))
	}
	if err := h.checkForm(c, "signout"+session.ID, form.Get("csrf")); err != nil {
		return err
	}
	return h.end(c, out)
}

// end ends the session of this browser.
func (h *Handler) end(c *httpd.Call, out oauth.SignOut) error {
	cookie, err := c.R.Cookie(sessionCookie)
	if err != nil {
		return err
	}
	if err := h.cfg.SignIn.End(c.R.Context(), c.By, cookie.Value); err != nil {
		return err
	}
	return h.signedOut(c, out, fault.Sentence(leftSignedIn))
}

// signedOut leads back to the program, or says that it is over.
func (h *Handler) signedOut(c *httpd.Call, out oauth.SignOut, notice string) error {
	setCookie(c, sessionCookie, "", -1)
	if out.Return != "" {
		return seeOther(c, out.Return)
	}
	p := page{Title: "You are signed out", Notice: notice}
	if out.Stays {
		p.Problem = fault.Sentence(staysHere)
	}
	return h.pages.show(c, http.StatusOK, p, "")
}
