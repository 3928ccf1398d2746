package arm

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/scope"
)

// mountScaleSets: what scale sets have beside the rows of every resource.
func (h *Handler) mountScaleSets(m *httpd.Mux) {
	m.Handle("arm.scaleSets.instanceView", h.setView)
	m.Handle("arm.scaleSets.networkInterfaces", h.setInterfaces)
	m.Handle("arm.scaleSetExtensions.list", h.modelExtensions)
	m.Handle("arm.scaleSetExtensions.get", h.modelExtension)
	m.Handle("arm.scaleSetExtensions.put", h.changeModel)
	m.Handle("arm.scaleSetExtensions.delete", h.changeModel)
	m.Handle("arm.scaleSetInstances.list", h.list(types.ScaleSetInstance))
	m.Handle("arm.scaleSetInstances.get", h.get(types.ScaleSetInstance))
	m.Handle("arm.scaleSetInstances.delete", h.remove(types.ScaleSetInstance))
	m.Handle("arm.scaleSetInstances.instanceView", h.instanceView(types.ScaleSetInstance))
	m.Handle("arm.scaleSetInstances.networkInterfaces", h.instanceInterfaces)
	m.Handle("arm.scaleSetInstances.networkInterface", h.instanceInterface)
	m.Handle("arm.scaleSetInstanceExtensions.list", h.instanceExtensions)
	m.Handle("arm.scaleSetInstanceExtensions.get", h.get(types.ScaleSetExtension))
	m.Handle("arm.scaleSets.manualupgradeInstances", h.act(types.ScaleSet, "manualupgrade"))
	m.Handle("arm.scaleSets.deleteInstances", h.act(types.ScaleSet, "delete"))
	for _, verb := range []string{"start", "powerOff", "deallocate", "restart"} {
		m.Handle("arm.scaleSets."+verb, h.act(types.ScaleSet, verb))
		m.Handle("arm.scaleSetInstances."+verb, h.act(types.ScaleSetInstance, verb))
	}
}

// setView sums up the instances: how many are in which state.
func (h *Handler) setView(c *httpd.Call) error {
	id, err := itemID(c, types.ScaleSet)
	if err != nil {
		return err
	}
	set, err := h.cfg.Engine.Find(c.R.Context(), c.By, id)
	if err != nil {
		return err
	}
	list, err := h.cfg.Engine.Each(c.R.Context(), c.By, resource.Query{Under: id, Type: types.ScaleSetInstance})
	if err != nil {
		return err
	}
	count := map[string]int{}
	for _, r := range list {
		count["ProvisioningState/"+strings.ToLower(r.State)]++
	}
	summary := []map[string]any{}
	for code, n := range count {
		summary = append(summary, map[string]any{"code": code, "count": n})
	}
	status := map[string]any{"code": "ProvisioningState/" + strings.ToLower(set.State), "level": "Info", "displayStatus": "Provisioning " + strings.ToLower(set.State), "time": set.ChangedAt}
	if set.State == resource.Failed && set.Error != nil {
		status["level"], status["message"] = "Error", set.Error.Message
	}
	return c.JSON(http.StatusOK, map[string]any{"virtualMachine": map[string]any{"statusesSummary": sortedBy(summary, "code")}, "extensions": []any{}, "statuses": []any{status}})
}

// setInterfaces lists the network interfaces of the instances that the caller may
// read.
func (h *Handler) setInterfaces(c *httpd.Call) error {
	id, err := itemID(c, types.ScaleSet)
	if err != nil {
		return err
	}
	list, err := h.cfg.Engine.Each(c.R.Context(), c.By, resource.Query{Under: id, Type: types.ScaleSetInstance})
	if err != nil {
		return err
	}
	out := []map[string]any{}
	for _, r := range list {
		nics, err := types.InstanceInterfaces(r)
		if err != nil {
			return err
		}
		out = append(out, nics...)
	}
	return c.JSON(http.StatusOK, h.page(c, out, ""))
}

// interfacesOf reads those of the instance that the request names.
func (h *Handler) interfacesOf(c *httpd.Call) ([]map[string]any, error) {
	id, err := itemID(c, types.ScaleSetInstance)
	if err != nil {
		return nil, err
	}
	r, err := h.cfg.Engine.Find(c.R.Context(), c.By, id)
	if err != nil {
		return nil, err
	}
	return types.InstanceInterfaces(r)
}

func (h *Handler) instanceInterfaces(c *httpd.Call) error {
	list, err := h.interfacesOf(c)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, h.page(c, list, ""))
}

func (h *Handler) instanceInterface(c *httpd.Call) error {
	list, err := h.interfacesOf(c)
	if err != nil {
		return err
	}
	i := named(list, c.Var("interface"))
	if i < 0 {
		return fault.New(fault.NotFound, "ResourceNotFound", "The instance has no network interface '%.80s'.", c.Var("interface"))
	}
	return c.JSON(http.StatusOK, list[i])
}

func named(list []map[string]any, name string) int {
	return slices.IndexFunc(list, func(x map[string]any) bool {
		have, _ := x["name"].(string)
		return strings.EqualFold(have, name)
	})
}

func (h *Handler) instanceExtensions(c *httpd.Call) error {
	id, err := itemID(c, types.ScaleSetInstance)
	if err != nil {
		return err
	}
	body, err := h.cfg.Engine.Get(c.R.Context(), c.By, id, false)
	if err != nil {
		return err
	}
	list, ok := body["resources"].([]map[string]any)
	if !ok {
		list = []map[string]any{}
	}
	return c.JSON(http.StatusOK, h.page(c, list, ""))
}

// model is a scale set as its readers see it, with the extensions of its model.
type model struct {
	id         scope.ID
	body       map[string]any
	profile    map[string]any
	extensions []map[string]any
}

func (h *Handler) model(c *httpd.Call) (m model, err error) {
	if m.id, err = itemID(c, types.ScaleSet); err != nil {
		return m, err
	}
	if m.body, err = h.cfg.Engine.Get(c.R.Context(), c.By, m.id, false); err != nil {
		return m, err
	}
	properties, _ := m.body["properties"].(map[string]any)
	m.profile, _ = properties["virtualMachineProfile"].(map[string]any)
	inner, _ := m.profile["extensionProfile"].(map[string]any)
	list, _ := inner["extensions"].([]any)
	for _, x := range list {
		if one, ok := x.(map[string]any); ok {
			m.extensions = append(m.extensions, one)
		}
	}
	return m, nil
}

// show is an extension of the model at an address of its own.
func (m model) show(x map[string]any) map[string]any {
	name, _ := x["name"].(string)
	return map[string]any{"id": m.id.String() + "/extensions/" + name, "name": name, "type": types.ScaleSet + "/extensions", "properties": x["properties"]}
}

func (h *Handler) modelExtensions(c *httpd.Call) error {
	m, err := h.model(c)
	if err != nil {
		return err
	}
	out := []map[string]any{}
	for _, x := range m.extensions {
		out = append(out, m.show(x))
	}
	return c.JSON(http.StatusOK, h.page(c, out, ""))
}

func (h *Handler) modelExtension(c *httpd.Call) error {
	m, err := h.model(c)
	if err != nil {
		return err
	}
	i := named(m.extensions, c.Var("child"))
	if i < 0 {
		return fault.New(fault.NotFound, "ResourceNotFound", "The model of scale set '%s' has no extension '%.80s'.", m.id.Name(), c.Var("child"))
	}
	return c.JSON(http.StatusOK, m.show(m.extensions[i]))
}

// changeModel writes an extension into the model, or takes it out: a write of the
// set, refused when somebody else wrote it meanwhile.
func (h *Handler) changeModel(c *httpd.Call) error {
	m, err := h.model(c)
	if err != nil {
		return err
	}
	i, name := named(m.extensions, c.Var("child")), c.Var("child")
	adds, created := c.R.Method == http.MethodPut, i < 0
	switch {
	case adds:
		raw, err := c.Body()
		if err != nil {
			return err
		}
		var in struct {
			ID, Name, Type, Location any
			Properties               json.RawMessage `json:"properties"`
		}
		if err := resource.Strict(raw, &in, "extension of a scale set"); err != nil {
			return err
		}
		x := map[string]any{"name": name, "properties": in.Properties}
		if created {
			m.extensions = append(m.extensions, x)
		} else {
			m.extensions[i] = x
		}
	case created:
		return c.NoContent(http.StatusNoContent)
	default:
		m.extensions = slices.Delete(m.extensions, i, i+1)
	}
	result, err := h.writeModel(c, m)
	if err != nil {
		return err
	}
	h.operationHeaders(c, result.Operation)
	if !adds {
		return c.NoContent(http.StatusAccepted)
	}
	code := http.StatusOK
	if created {
		code = http.StatusCreated
	}
	return c.JSON(code, m.show(m.extensions[named(m.extensions, name)]))
}

func (h *Handler) writeModel(c *httpd.Call, m model) (resource.Result, error) {
	if m.extensions == nil {
		m.extensions = []map[string]any{}
	}
	etag, _ := m.body["etag"].(string)
	patch := map[string]any{"properties": map[string]any{"virtualMachineProfile": map[string]any{"extensionProfile": map[string]any{"extensions": m.extensions}}}}
	body, err := json.Marshal(patch)
	if err != nil {
		return resource.Result{}, err
	}
	return h.cfg.Engine.Patch(c.R.Context(), c.By, resource.Request{ID: m.id, Body: body, IfMatch: etag})
}
