package signin

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sallyport/internal/address"
	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/signin"
)

// deviceForm names the device forms for their tokens.
const deviceForm = "device"

// deviceFlow names the token that binds the way from a typed code through the
// sign-in and back to the browser in which it was typed.
const deviceFlow = "device flow"

// toDeviceSignIn is toSignIn for a flow that comes back with a device's code.
func (h *Handler) toDeviceSignIn(c *httpd.Call, f signin.Flow, code string) error {
	token, err := h.csrf(c, deviceFlow)
	if err != nil {
		return err
	}
	f.Return, f.Browser = "/device?"+url.Values{"code": {code}}.Encode(), token
	return h.toSignIn(c, f)
}

func (h *Handler) codePage(c *httpd.Call, status int, problem string) error {
	token, err := h.csrf(c, deviceForm)
	if err != nil {
		return err
	}
	return h.pages.show(c, status, page{Kind: "code", Title: "Sign in on a device", Problem: problem, CSRF: token}, "")
}

// device shows the code form. A code in the address counts only when it comes
// from the sign-in that deviceCode started: a link that somebody sends cannot
// fill it in (RFC 8628 section 5.4).
func (h *Handler) device(c *httpd.Call) error {
	q := c.R.URL.Query()
	proof, code := q.Get(stepParameter), q.Get("code")
	q.Del(stepParameter)
	session, user, err := h.current(c)
	if err != nil {
		return err
	}
	if session == nil || code == "" {
		return h.codePage(c, http.StatusOK, "")
	}
	if step, _, ok := h.cfg.SignIn.Proven(proof, request(c.R.URL.Path, q), session.ID, c.By.At); !ok || step == signin.StepDeclined {
		return h.codePage(c, http.StatusOK, "")
	}
	return h.confirm(c, *session, user.UPN, code)
}

// deviceCode takes a typed code: from who is not signed in, to the sign-in
// first, so that codes cannot be tried without an account.
func (h *Handler) deviceCode(c *httpd.Call) error {
	form, err := c.Form()
	if err != nil {
		return err
	}
	if err := h.checkForm(c, deviceForm, form.Get("csrf")); err != nil {
		return err
	}
	code := form.Get("code")
	if code == "" || len(code) > 16 {
		return h.codePage(c, http.StatusBadRequest, fault.Sentence("Enter the 8 letters and digits that the device shows."))
	}
	session, user, err := h.current(c)
	if err != nil {
		return err
	}
	if session == nil {
		return h.toDeviceSignIn(c, signin.Flow{Client: "the sign-in of your device"}, code)
	}
	return h.confirm(c, *session, user.UPN, code)
}

// confirm shows who asks, or counts a wrong code.
func (h *Handler) confirm(c *httpd.Call, session signin.Session, upn, code string) error {
	d, app, ok, err := h.cfg.OAuth.PendingDevice(c.R.Context(), c.By, code)
	if err != nil {
		return err
	}
	if !ok {
		over, err := h.cfg.SignIn.Miss(c.R.Context(), c.By, session)
		if err != nil {
			return err
		}
		if over {
			setCookie(c, sessionCookie, "", -1)
			return fault.New(fault.Exhausted, "TooManyCodes", "Too many wrong codes; you were signed out.").WithRemedy("Start again on the device and type the code that it shows.")
		}
		return h.codePage(c, http.StatusBadRequest, fault.Sentence("This code is unknown or has expired. Check it, or start again on the device."))
	}
	if missing, resource := h.cfg.OAuth.DeviceAsks(d, app, session.UserID); len(missing) > 0 {
		return h.toDeviceSignIn(c, signin.Flow{Client: app.DisplayName, Ask: &signin.Ask{AppID: app.AppID, Resource: resource, Values: missing}}, d.UserCode)
	}
	if h.cfg.OAuth.DeviceWants(d, session, c.By.At) {
		return h.toDeviceSignIn(c, signin.Flow{Client: app.DisplayName, Hint: upn}, d.UserCode)
	}
	token, err := h.csrf(c, deviceForm+d.UserCode+session.ID)
	if err != nil {
		return err
	}
	p := page{Kind: "confirm", Title: "Sign in to " + app.DisplayName + "?", Client: app.DisplayName, Code: d.UserCode, Address: d.Address, Asked: asked(d.CreatedAt, c.By.At),
		Elsewhere: address.Network(d.Address) != address.Network(c.By.Address), User: upn, CSRF: token}
	if m := d.Machine; m.ID != "" {
		p.Kind, p.Title, p.Machine, p.Login, p.NotYours = "machine", "Log in to the machine "+m.Name+"?", m.Name, m.LoginName, m.UserID != session.UserID
		p.Elsewhere = p.Elsewhere && d.Address != ""
	}
	return h.pages.show(c, http.StatusOK, p, "")
}

// asked says when a device asked: a request that is older than the person's own
// is somebody else's.
func asked(when, now time.Time) string {
	ago := "less than a minute ago"
	if minutes := int(now.Sub(when) / time.Minute); minutes == 1 {
		ago = "a minute ago"
	} else if minutes > 1 {
		ago = strconv.Itoa(minutes) + " minutes ago"
	}
	return when.UTC().Format("15:04:05 MST") + ", " + ago
}

// deviceDecide records the answer.
func (h *Handler) deviceDecide(c *httpd.Call) error {
	form, err := c.Form()
	if err != nil {
		return err
	}
	session, _, err := h.current(c)
	if err != nil {
		return err
	}
	if session == nil {
		return h.codePage(c, http.StatusUnauthorized, fault.Sentence("You are no longer signed in. Enter the code again."))
	}
	code := form.Get("code")
	if err := h.checkForm(c, deviceForm+code+session.ID, form.Get("csrf")); err != nil {
		return err
	}
	d, _, ok, err := h.cfg.OAuth.PendingDevice(c.R.Context(), c.By, code)
	if err != nil {
		return err
	}
	if !ok {
		return h.codePage(c, http.StatusBadRequest, fault.Sentence("This code has expired or was used. Start again on the device."))
	}
	approve := form.Get("decision") == "approve"
	if err := h.cfg.OAuth.DecideDevice(c.R.Context(), c.By, d, *session, approve); err != nil {
		return sentence(err)
	}
	if approve && d.Machine.ID != "" {
		return h.pages.show(c, http.StatusOK, page{Title: "Approved", Notice: "Go back to the terminal and press Enter. You can close this page."}, "")
	}
	if approve {
		return h.pages.show(c, http.StatusOK, page{Title: "You are signed in", Notice: "Go back to your device. You can close this page."}, "")
	}
	return h.pages.show(c, http.StatusOK, page{Title: "Denied", Notice: "The device was not signed in. You can close this page."}, "")
}
