package arm

import (
	"net/http"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/scope"
)

// mountManagementGroups: what is done with one, and with the subscriptions in it.
func (h *Handler) mountManagementGroups(m *httpd.Mux) {
	a := h.cfg.Accounts
	handle := func(row string, f func(c *httpd.Call, id scope.ID) error) {
		m.Handle("arm."+row, func(c *httpd.Call) error {
			id, err := scope.Parse(scope.ManagementGroup(c.Var("name")).String()) // again: its name came from a stranger
			if err != nil {
				return err
			}
			return f(c, id)
		})
	}
	handle("managementGroups.get", h.managementGroup)
	handle("managementGroups.put", func(c *httpd.Call, id scope.ID) error {
		body, err := c.Body()
		if err != nil {
			return err
		}
		return answer(c, http.StatusOK)(a.PutManagementGroup(c.R.Context(), c.By, id, body))
	})
	handle("managementGroups.patch", func(c *httpd.Call, id scope.ID) error {
		body, err := c.Body()
		if err != nil {
			return err
		}
		return answer(c, http.StatusOK)(a.PatchManagementGroup(c.R.Context(), c.By, id, body))
	})
	handle("managementGroups.delete", func(c *httpd.Call, id scope.ID) error {
		if err := a.DeleteManagementGroup(c.R.Context(), c.By, id); err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	})
	handle("managementGroupSubscriptions.list", func(c *httpd.Call, id scope.ID) error {
		return h.values(c)(a.SubscriptionsUnder(c.R.Context(), c.By, id))
	})
	with := func(row string, f func(c *httpd.Call, id, sub scope.ID) error) {
		handle("managementGroupSubscriptions."+row, func(c *httpd.Call, id scope.ID) error {
			sub, err := scope.Parse("/subscriptions/" + c.Var("subscription"))
			if err != nil {
				return err
			}
			return f(c, id, sub)
		})
	}
	show := func(c *httpd.Call, id, sub scope.ID) error {
		return answer(c, http.StatusOK)(a.SubscriptionUnder(c.R.Context(), c.By, id, sub))
	}
	with("get", show)
	with("put", func(c *httpd.Call, id, sub scope.ID) error {
		if err := a.MoveSubscription(c.R.Context(), c.By, id, sub); err != nil {
			return err
		}
		body, err := a.SubscriptionUnder(c.R.Context(), c.By, id, sub)
		if err != nil {
			return c.NoContent(http.StatusNoContent) // it is done; who may do it need not be able to see it
		}
		return c.JSON(http.StatusOK, body)
	})
	with("delete", func(c *httpd.Call, id, sub scope.ID) error {
		if err := a.RemoveSubscription(c.R.Context(), c.By, id, sub); err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	})
	h.mountManagementGroupTree(m)
}

func (h *Handler) mountManagementGroupTree(m *httpd.Mux) {
	a := h.cfg.Accounts
	m.Handle("arm.managementGroups.checkName", func(c *httpd.Call) error {
		body, err := c.Body()
		if err != nil {
			return err
		}
		return answer(c, http.StatusOK)(a.NameAvailable(c.R.Context(), body))
	})
	m.Handle("arm.managementGroups.entities", func(c *httpd.Call) error {
		list, err := a.Entities(c.R.Context(), c.By)
		if err != nil {
			return err
		}
		out := h.page(c, list, "")
		out["count"] = len(list)
		return c.JSON(http.StatusOK, out)
	})
}

// managementGroup shows one, with its children where they are asked for.
func (h *Handler) managementGroup(c *httpd.Call, id scope.ID) error {
	q := c.R.URL.Query()
	expand, recurse := strings.ToLower(q.Get("$expand")), strings.ToLower(q.Get("$recurse"))
	if recurse != "" && recurse != "true" && recurse != "false" || recurse == "true" && expand == "" {
		return fault.New(fault.Invalid, "InvalidParameter", "$recurse is true or false, and goes with $expand=children").WithTarget("$recurse")
	}
	switch expand {
	case "":
		return answer(c, http.StatusOK)(h.cfg.Accounts.ManagementGroup(c.R.Context(), c.By, id))
	case "children":
		return answer(c, http.StatusOK)(h.cfg.Accounts.ManagementGroupWithChildren(c.R.Context(), c.By, id, recurse == "true"))
	}
	return fault.New(fault.Invalid, "InvalidParameter", "a management group can be shown with $expand=children").WithTarget("$expand")
}
