package signin

import (
	"net/http"

	"sallyport/internal/httpd"
)

// logout asks before it ends the session: another site's link alone signs
// nobody out.
func (h *Handler) logout(c *httpd.Call) error {
	if _, err := h.cfg.OAuth.Authority(c.Var("tenant")); err != nil {
		return sentence(err)
	}
	session, user, err := h.current(c)
	if err != nil {
		return err
	}
	if session == nil {
		return h.pages.show(c, http.StatusOK, page{Title: "You are signed out", Notice: "Nobody is signed in in this browser."}, "")
	}
	token, err := h.csrf(c, "signout"+session.ID)
	if err != nil {
		return err
	}
	return h.pages.show(c, http.StatusOK, page{Kind: "signout", Title: "Sign out", User: user.UPN, CSRF: token}, "")
}

func (h *Handler) signout(c *httpd.Call) error {
	form, err := c.Form()
	if err != nil {
		return err
	}
	session, _, err := h.current(c)
	if err != nil {
		return err
	}
	if session != nil {
		if err := h.checkForm(c, "signout"+session.ID, form.Get("csrf")); err != nil {
			return err
		}
		cookie, err := c.R.Cookie(sessionCookie)
		if err != nil {
			return err
		}
		if err := h.cfg.SignIn.End(c.R.Context(), c.By, cookie.Value); err != nil {
			return err
		}
	}
	setCookie(c, sessionCookie, "", -1)
	return h.pages.show(c, http.StatusOK, page{Title: "You are signed out", Notice: "Programs that you signed in keep their sign-in; sign out in them, too."}, "")
}
