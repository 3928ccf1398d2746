package arm

import (
	"net/http"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/resource"
	"sallyport/internal/scope"
)

// mountTags: tags at an address of their own, and the names that a subscription
// offers for them (https://learn.microsoft.com/rest/api/resources/tags).
func (h *Handler) mountTags(m *httpd.Mux) {
	handle := func(verb string, f func(c *httpd.Call, at scope.ID) (map[string]string, error)) {
		m.Handle("arm.tags."+verb, func(c *httpd.Call) error {
			at, err := scope.Parse("/" + c.Var("scope"))
			if err != nil {
				return err
			}
			tags, err := f(c, at)
			if err != nil {
				return err
			}
			if tags == nil {
				tags = map[string]string{}
			}
			return c.JSON(http.StatusOK, map[string]any{"id": at.String() + "/providers/Microsoft.Resources/tags/default", "name": "default", "type": "Microsoft.Resources/tags",
				"properties": map[string]any{"tags": tags}})
		})
	}
	change := func(c *httpd.Call, at scope.ID, how resource.TagChange) (map[string]string, error) {
		return h.cfg.Engine.ChangeTags(c.R.Context(), c.By, at, how)
	}
	handle("get", func(c *httpd.Call, at scope.ID) (map[string]string, error) {
		return h.cfg.Engine.Tags(c.R.Context(), c.By, at)
	})
	for _, verb := range []string{"put", "patch"} {
		handle(verb, func(c *httpd.Call, at scope.ID) (map[string]string, error) {
			how, err := readTags(c, verb == "patch")
			if err != nil {
				return nil, err
			}
			return change(c, at, how)
		})
	}
	handle("delete", func(c *httpd.Call, at scope.ID) (map[string]string, error) {
		return change(c, at, resource.ReplaceTags(nil))
	})
	h.mountTagNames(m)
}

// readTags reads the body of a PUT, or that of a PATCH, which says what to do.
func readTags(c *httpd.Call, operates bool) (resource.TagChange, error) {
	raw, err := c.Body()
	if err != nil {
		return nil, err
	}
	return func(have map[string]string) (map[string]string, error) {
		change, err := parseTags(raw, operates) // only when the caller may change them
		if err != nil {
			return nil, err
		}
		return change(have)
	}, nil
}

func parseTags(raw []byte, operates bool) (resource.TagChange, error) {
	var in struct {
		ID, Name, Type any    // what clients echo
		Operation      string `json:"operation"`
		Properties     struct {
			Tags map[string]string `json:"tags"`
		} `json:"properties"`
	}
	if err := resource.Strict(raw, &in, "tags"); err != nil {
		return nil, err
	}
	switch op := in.Operation; {
	case !operates && op == "", operates && strings.EqualFold(op, "Replace"):
		return resource.ReplaceTags(in.Properties.Tags), nil
	case operates && strings.EqualFold(op, "Merge"):
		return resource.MergeTags(in.Properties.Tags), nil
	case operates && strings.EqualFold(op, "Delete"):
		return resource.DeleteTags(in.Properties.Tags), nil
	}
	return nil, fault.New(fault.Invalid, "InvalidRequestContent", "the operation %q is none of Merge, Replace and Delete", in.Operation).
		WithRemedy("Name one of them in a PATCH, and none in a PUT.").WithTarget("operation")
}

// mountTagNames: a value is inside its name.
func (h *Handler) mountTagNames(m *httpd.Mux) {
	a := h.cfg.Accounts
	m.Handle("arm.tagNames.list", func(c *httpd.Call) error {
		at, err := under(c, "")
		if err != nil {
			return err
		}
		return h.values(c)(a.TagNames(c.R.Context(), c.By, at))
	})
	for row, inside := range map[string]bool{"tagNames": false, "tagValues": true} {
		value := func(c *httpd.Call) *string {
			if v := c.Var("child"); inside {
				return &v
			}
			return nil
		}
		m.Handle("arm."+row+".put", func(c *httpd.Call) error {
			at, err := scope.Parse("/subscriptions/" + c.Var("subscription"))
			if err != nil {
				return err
			}
			shown, fresh, err := a.OfferTag(c.R.Context(), c.By, at, c.Var("name"), value(c))
			if fresh {
				return answer(c, http.StatusCreated)(shown, err)
			}
			return answer(c, http.StatusOK)(shown, err)
		})
		m.Handle("arm."+row+".delete", func(c *httpd.Call) error {
			at, err := scope.Parse("/subscriptions/" + c.Var("subscription"))
			if err != nil {
				return err
			}
			if err := a.WithdrawTag(c.R.Context(), c.By, at, c.Var("name"), value(c)); err != nil {
				return err
			}
			return c.NoContent(http.StatusNoContent)
		})
	}
}
