package arm

import (
	"net/http"

	"sallyport/internal/httpd"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/scope"
)

// mountDeployments: template deployments into a resource group.
func (h *Handler) mountDeployments(m *httpd.Mux) {
	d := types.Deployments{Engine: h.cfg.Engine, Authorization: h.cfg.Authorization, Tenant: h.cfg.Tenant}
	m.Handle("arm.deployments.get", h.get(types.Deployment))
	m.Handle("arm.deployments.delete", h.remove(types.Deployment))
	m.Handle("arm.deployments.listInGroup", h.list(types.Deployment))
	m.Handle("arm.deployments.head", func(c *httpd.Call) error {
		id, err := itemID(c, types.Deployment)
		if err == nil {
			_, err = h.cfg.Engine.Find(c.R.Context(), c.By, id)
		}
		if err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	})
	m.Handle("arm.deployments.operations", h.deploymentOperations)
	m.Handle("arm.deployments.operationsOf", h.deploymentOperations)
	m.Handle("arm.deployments.put", func(c *httpd.Call) error {
		req, err := request(c, types.Deployment)
		if err != nil {
			return err
		}
		if req.Body, err = c.Body(); err != nil {
			return err
		}
		result, err := d.Start(c.R.Context(), c.By, req)
		if err != nil {
			return err
		}
		h.operationHeaders(c, result.Operation)
		if result.Created {
			return c.JSON(http.StatusCreated, result.Body)
		}
		return c.JSON(http.StatusOK, result.Body)
	})
	m.Handle("arm.deployments.validate", func(c *httpd.Call) error {
		req, err := request(c, types.Deployment)
		if err != nil {
			return err
		}
		if req.Body, err = c.Body(); err != nil {
			return err
		}
		return answer(c, http.StatusOK)(d.Validate(c.R.Context(), c.By, req))
	})
}

// deploymentOperations is what a deployment has written, one operation each, as
// those resources are now.
func (h *Handler) deploymentOperations(c *httpd.Call) error {
	id, err := itemID(c, types.Deployment)
	if err != nil {
		return err
	}
	r, err := h.cfg.Engine.Find(c.R.Context(), c.By, id)
	if err != nil {
		return err
	}
	var p struct {
		OutputResources []struct {
			ID string `json:"id"`
		} `json:"outputResources"`
		Error *resource.Failure `json:"error"`
	}
	if err := r.ReadProperties(&p); err != nil {
		return err
	}
	list := []map[string]any{}
	for _, made := range p.OutputResources {
		target, err := scope.Parse(made.ID)
		if err != nil {
			continue
		}
		properties := map[string]any{"provisioningOperation": "Create", "provisioningState": resource.Succeeded, "timestamp": r.CreatedAt.UTC().Format("2006-01-02T15:04:05Z"),
			"targetResource": map[string]any{"id": target.String(), "resourceName": target.Name(), "resourceType": target.Type()}}
		if x, err := h.cfg.Engine.Find(c.R.Context(), c.By, target); err == nil {
			properties["provisioningState"] = x.State
			if x.Error != nil {
				properties["statusMessage"] = map[string]any{"status": "Failed", "error": x.Error}
			}
		}
		name := target.Name()
		list = append(list, map[string]any{"id": id.String() + "/operations/" + name, "operationId": name, "properties": properties})
	}
	if p.Error != nil {
		for _, cause := range p.Error.Details {
			properties := map[string]any{"provisioningOperation": "Create", "provisioningState": resource.Failed, "timestamp": r.CreatedAt.UTC().Format("2006-01-02T15:04:05Z"), "statusMessage": map[string]any{"status": "Failed", "error": cause}}
			if target, err := scope.Parse(cause.Target); err == nil {
				properties["targetResource"] = map[string]any{"id": target.String(), "resourceName": target.Name(), "resourceType": target.Type()}
			}
			list = append(list, map[string]any{"id": id.String() + "/operations/refused", "operationId": "refused", "properties": properties})
		}
	}
	return c.JSON(http.StatusOK, h.page(c, list, ""))
}
