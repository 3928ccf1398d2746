package arm

import (
	"context"
	"net/http"

	"sallyport/internal/audit"
	"sallyport/internal/httpd"
	"sallyport/internal/scope"
)

// mountAccounts: tenants, subscriptions, management groups.
func (h *Handler) mountAccounts(m *httpd.Mux) {
	a := h.cfg.Accounts
	m.Handle("arm.tenants.list", func(c *httpd.Call) error { return c.JSON(http.StatusOK, h.page(c, a.Tenants(), "")) })
	m.Handle("arm.subscriptions.list", func(c *httpd.Call) error { return h.values(c)(a.Subscriptions(c.R.Context(), c.By)) })
	m.Handle("arm.subscriptions.get", func(c *httpd.Call) error {
		return h.one(c, scope.Subscription(c.Var("subscription")), a.Subscription)
	})
	m.Handle("arm.locations.list", func(c *httpd.Call) error {
		id, err := under(c, "")
		if err != nil {
			return err
		}
		return h.values(c)(a.Locations(c.R.Context(), c.By, id))
	})
	m.Handle("arm.managementGroups.list", func(c *httpd.Call) error { return h.values(c)(a.ManagementGroups(c.R.Context(), c.By)) })
}

func (h *Handler) values(c *httpd.Call) func([]map[string]any, error) error {
	return func(list []map[string]any, err error) error {
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, h.page(c, list, ""))
	}
}

// one parses an id again, because its variable part came from a stranger.
func (h *Handler) one(c *httpd.Call, id scope.ID, get func(context.Context, audit.By, scope.ID) (map[string]any, error)) error {
	id, err := scope.Parse(id.String())
	if err != nil {
		return err
	}
	body, err := get(c.R.Context(), c.By, id)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, body)
}

// mountAuthorization: role definitions and assignments at {scope...} and at "/".
func (h *Handler) mountAuthorization(m *httpd.Mux) {
	a := h.cfg.Authorization
	for _, suffix := range []string{"", "AtRoot"} {
		handle := func(id string, f func(*httpd.Call, scope.ID, string) error) {
			m.Handle("arm."+id+suffix, func(c *httpd.Call) error {
				at, err := scope.Parse("/" + c.Var("scope"))
				if err != nil {
					return err
				}
				return f(c, at, c.Var("name"))
			})
		}
		handle("roleDefinitions.list", func(c *httpd.Call, at scope.ID, _ string) error {
			return h.values(c)(a.Definitions(c.R.Context(), c.By, at, c.R.URL.Query().Get("$filter")))
		})
		handle("roleDefinitions.get", func(c *httpd.Call, at scope.ID, name string) error {
			return answer(c, http.StatusOK)(a.Definition(c.R.Context(), c.By, at, name))
		})
		handle("roleDefinitions.put", func(c *httpd.Call, at scope.ID, name string) error {
			body, err := c.Body()
			if err != nil {
				return err
			}
			return answer(c, http.StatusCreated)(a.PutDefinition(c.R.Context(), c.By, at, name, body))
		})
		handle("roleDefinitions.delete", func(c *httpd.Call, at scope.ID, name string) error {
			was, gone, err := a.DeleteDefinition(c.R.Context(), c.By, at, name)
			if err == nil && gone {
				return c.NoContent(http.StatusNoContent)
			}
			return answer(c, http.StatusOK)(was, err)
		})
		handle("roleAssignments.list", func(c *httpd.Call, at scope.ID, _ string) error {
			return h.values(c)(a.ListAssignments(c.R.Context(), c.By, at, c.R.URL.Query().Get("$filter")))
		})
		handle("roleAssignments.get", func(c *httpd.Call, at scope.ID, name string) error {
			return answer(c, http.StatusOK)(a.Assignment(c.R.Context(), c.By, at, name))
		})
		handle("roleAssignments.put", func(c *httpd.Call, at scope.ID, name string) error {
			body, err := c.Body()
			if err != nil {
				return err
			}
			// 201 also on a repeat: az takes nothing else.
			return answer(c, http.StatusCreated)(a.PutAssignment(c.R.Context(), c.By, at, name, body))
		})
		handle("roleAssignments.delete", func(c *httpd.Call, at scope.ID, name string) error {
			was, gone, err := a.DeleteAssignment(c.R.Context(), c.By, at, name)
			if err == nil && gone {
				return c.NoContent(http.StatusNoContent)
			}
			return answer(c, http.StatusOK)(was, err)
		})
	}
}

func answer(c *httpd.Call, status int) func(map[string]any, error) error {
	return func(body map[string]any, err error) error {
		if err != nil {
			return err
		}
		return c.JSON(status, body)
	}
}
