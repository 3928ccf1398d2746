package signin

import (
	"net/http"
	"net/url"

	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/signin"
)

// openFlow reads a sealed flow, and refuses one that began in another browser
// where that matters.
func (h *Handler) openFlow(c *httpd.Call, text string) (signin.Flow, error) {
	f, err := h.cfg.SignIn.Open(text, c.By.At)
	if err != nil || f.Browser == "" {
		return f, err
	}
	return f, h.checkForm(c, deviceFlow, f.Browser)
}

// open reads the flow of a page and, for a submitted form, checks its token.
func (h *Handler) open(c *httpd.Call) (url.Values, signin.Flow, string, error) {
	form, err := c.Form()
	if err != nil {
		return nil, signin.Flow{}, "", err
	}
	text := form.Get("flow")
	f, err := h.openFlow(c, text)
	if err != nil {
		return nil, f, "", err
	}
	return form, f, text, h.checkForm(c, text, form.Get("csrf"))
}

// render shows a page of a flow.
func (h *Handler) render(c *httpd.Call, status int, f signin.Flow, text string, p page) error {
	token, err := h.csrf(c, text)
	if err != nil {
		return err
	}
	p.Flow, p.CSRF, p.Client = text, token, f.Client
	if f.Foreign {
		p.Address = f.Origin
	}
	if p.Hint == "" {
		p.Hint = f.Hint
	}
	return h.pages.show(c, status, p, f.Origin)
}

// show is the first page of a flow: the account that is signed in, or the
// password form.
func (h *Handler) show(c *httpd.Call) error {
	text := c.R.URL.Query().Get("flow")
	f, err := h.openFlow(c, text)
	if err != nil {
		return err
	}
	if f.Ask != nil {
		return h.ask(c, f, text)
	}
	if f.Pick {
		session, user, err := h.current(c)
		if err != nil {
			return err
		}
		if session != nil {
			return h.render(c, http.StatusOK, f, text, page{Kind: "account", Title: "Choose an account", User: user.UPN})
		}
	}
	return h.render(c, http.StatusOK, f, text, page{Kind: "password", Title: "Sign in"})
}

// password is the password step.
func (h *Handler) password(c *httpd.Call) error {
	form, f, text, err := h.open(c)
	if err != nil {
		return err
	}
	name := form.Get("username")
	user, remember, err := h.cfg.SignIn.CheckBrowser(c.R.Context(), c.By, name, form.Get("password"), known(c))
	if err != nil {
		problem := fault.As(err)
		switch {
		case problem.Kind == fault.Forbidden && problem.Code == signin.ErrMustChange().Code && problem.Text == signin.ErrMustChange().Text:
			return h.render(c, http.StatusOK, f, text, page{Kind: "change", Title: "Change your password", Hint: name})
		case problem.Kind == fault.Unauthenticated, problem.Kind == fault.Forbidden:
			return h.render(c, http.StatusUnauthorized, f, text, page{Kind: "password", Title: "Sign in", Problem: problem.Public(), Hint: name})
		}
		return err
	}
	cookie, session, err := h.cfg.SignIn.Begin(c.R.Context(), c.By, user, signin.Password)
	if err != nil {
		return err
	}
	setCookie(c, sessionCookie, cookie, 0)
	setCookie(c, knownCookie, remember, 365*24*60*60)
	return h.proven(c, f, signin.StepPassword, session.ID, c.By.At)
}

// account is the step of choosing the account that is signed in, or another.
func (h *Handler) account(c *httpd.Call) error {
	form, f, text, err := h.open(c)
	if err != nil {
		return err
	}
	session, _, err := h.current(c)
	if err != nil {
		return err
	}
	if session == nil || form.Get("use") != "this" {
		f.Hint = ""
		return h.render(c, http.StatusOK, f, text, page{Kind: "password", Title: "Sign in"})
	}
	return h.proven(c, f, signin.StepAccount, session.ID, c.By.At)
}

// change is the forced change of a password. Afterwards the person signs in with
// the new one: the change ended everything before it.
func (h *Handler) change(c *httpd.Call) error {
	form, f, text, err := h.open(c)
	if err != nil {
		return err
	}
	name := form.Get("username")
	again := func(problem string) error {
		return h.render(c, http.StatusBadRequest, f, text, page{Kind: "change", Title: "Change your password", Problem: problem, Hint: name})
	}
	if form.Get("new") != form.Get("again") {
		return again(fault.Sentence("The two new passwords differ. Type the same one twice."))
	}
	if err := h.cfg.SignIn.ChangePassword(c.R.Context(), c.By, name, form.Get("password"), form.Get("new")); err != nil {
		if fault.KindOf(err) == fault.Internal {
			return err
		}
		return again(fault.As(err).Public())
	}
	return h.render(c, http.StatusOK, f, text, page{Kind: "password", Title: "Sign in", Notice: "The password was changed. Sign in with the new one.", Hint: name})
}
