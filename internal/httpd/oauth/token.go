package oauth

import (
	"net/http"
	"net/url"

	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/oauth"
)

// request reads a form and HTTP Basic credentials.
func (h *Handler) request(c *httpd.Call) (oauth.Request, error) {
	a, err := h.authority(c)
	if err != nil {
		return oauth.Request{}, err
	}
	form, err := c.Form()
	if err != nil {
		return oauth.Request{}, err
	}
	r := oauth.Request{Authority: a, Form: form}
	id, key, ok := c.R.BasicAuth()
	if !ok {
		if c.R.Header.Get("Authorization") != "" {
			return r, fault.New(fault.Invalid, "InvalidRequestContent", "the Authorization header of a token request can only be Basic")
		}
		return r, nil
	}
	// RFC 6749 section 2.3.1: both parts are form-encoded.
	r.Basic = true
	if r.BasicID, err = url.QueryUnescape(id); err == nil {
		r.BasicKey, err = url.QueryUnescape(key)
	}
	if err != nil {
		return r, fault.New(fault.Invalid, "InvalidRequestContent", "the Authorization header is malformed")
	}
	return r, nil
}

func (h *Handler) token(c *httpd.Call) error {
	r, err := h.request(c)
	if err != nil {
		return err
	}
	answer, err := h.cfg.OAuth.Token(c.R.Context(), c.By, r)
	if err != nil {
		return wire(err)
	}
	c.W.Header().Set("Pragma", "no-cache")
	return c.JSON(http.StatusOK, answer)
}
