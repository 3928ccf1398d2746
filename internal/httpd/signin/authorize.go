package signin

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/oauth"
	"sallyport/internal/signin"
)

// request identifies a dispatcher request: path and parameters, without the
// proof of a step.
func request(path string, q url.Values) string {
	sum := sha256.Sum256([]byte(path + "?" + q.Encode()))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// authorize decides what comes next for an authorization request: a page, the
// code, or an error for the client.
func (h *Handler) authorize(c *httpd.Call) error {
	q, err := url.ParseQuery(c.R.URL.RawQuery)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "InvalidRequest", "The address of this page is malformed.").WithRemedy("Go back to the program that sent you here and start again.")
	}
	proof := q.Get(stepParameter)
	q.Del(stepParameter)
	a, err := h.cfg.OAuth.Authority(c.Var("tenant"))
	if err != nil {
		return sentence(err)
	}
	req, ok, err := h.cfg.OAuth.ParseAuthorize(a, q)
	if err != nil && !ok {
		return sentence(err)
	}
	if err != nil {
		return h.back(c, req, oauth.RedirectError(err, c.By))
	}
	session, user, err := h.current(c)
	if err != nil {
		return err
	}
	var step signin.Step
	if session != nil {
		step, _, _ = h.cfg.SignIn.Proven(proof, request(c.R.URL.Path, q), session.ID, c.By.At)
	}
	need := h.cfg.OAuth.Needs(req, session, step, c.By.At)
	if need == oauth.Nothing && step == "" && req.LoginHint != "" && !strings.EqualFold(req.LoginHint, user.UPN) {
		need = oauth.Choose // another account than the client means
	}
	switch {
	case step == signin.StepDeclined:
		return h.back(c, req, oauth.RedirectError(oauth.Denied("", need), c.By))
	case need == oauth.Nothing:
		return h.grant(c, req, *session)
	case req.Prompt == "none":
		return h.back(c, req, oauth.RedirectError(oauth.Denied("none", need), c.By))
	}
	flow := signin.Flow{Return: c.R.URL.Path + "?" + q.Encode(), Origin: req.Origin(), Client: req.Client.DisplayName, Hint: req.LoginHint, Pick: need == oauth.Choose, Foreign: req.Foreign()}
	if need == oauth.Agree {
		flow.Ask = &signin.Ask{AppID: req.Client.AppID, Resource: req.Scope.AppID(), Values: h.cfg.OAuth.Unconsented(req.Client.AppID, session.UserID, req.Scope)}
	}
	return h.toSignIn(c, flow)
}

func (h *Handler) toSignIn(c *httpd.Call, f signin.Flow) error {
	text, err := h.cfg.SignIn.Seal(f, c.By.At)
	if err != nil {
		return err
	}
	return seeOther(c, "/signin?flow="+url.QueryEscape(text))
}

func (h *Handler) grant(c *httpd.Call, req oauth.Authorize, session signin.Session) error {
	code, err := h.cfg.OAuth.Grant(c.R.Context(), c.By, req, session)
	if err != nil {
		return h.back(c, req, oauth.RedirectError(err, c.By))
	}
	v := url.Values{"code": {code}}
	if req.ClientInfo {
		if info, err := json.Marshal(map[string]string{"uid": session.UserID, "utid": h.cfg.OAuth.TenantID()}); err == nil {
			v.Set("client_info", base64.RawURLEncoding.EncodeToString(info))
		}
	}
	return h.back(c, req, v)
}

// back sends an answer to the redirect URI, in the way that the client asked for.
func (h *Handler) back(c *httpd.Call, req oauth.Authorize, v url.Values) error {
	if req.State != "" {
		v.Set("state", req.State)
	}
	if req.FormPost {
		p := page{Kind: "post", Title: "One moment", Client: req.Client.DisplayName, Action: req.RedirectURI}
		for _, name := range []string{"code", "client_info", "state", "error", "error_description", "error_codes", "error_subcode", "claims"} {
			if v.Has(name) {
				p.Fields = append(p.Fields, field{name, v.Get(name)})
			}
		}
		return h.pages.show(c, http.StatusOK, p, req.Origin())
	}
	u, err := url.Parse(req.RedirectURI)
	if err != nil {
		return err
	}
	all := u.Query()
	for name, values := range v {
		all[name] = values
	}
	u.RawQuery = all.Encode()
	return seeOther(c, u.String())
}

// proven sends the browser back to the dispatcher with the proof of a step.
func (h *Handler) proven(c *httpd.Call, f signin.Flow, step signin.Step, session string, at time.Time) error {
	u, err := url.Parse(f.Return)
	if err != nil {
		return err
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return err
	}
	proof := h.cfg.SignIn.Prove(step, request(u.Path, q), session, at)
	q.Set(stepParameter, proof)
	return seeOther(c, u.EscapedPath()+"?"+q.Encode())
}
