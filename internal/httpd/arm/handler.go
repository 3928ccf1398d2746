package arm

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"sallyport/internal/audit"
	"sallyport/internal/cloud"
	"sallyport/internal/directory"
	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/resource"
	"sallyport/internal/resource/types"
	"sallyport/internal/scope"
)

// Config is what the handler stands on.
type Config struct {
	URL           string      // of this server, "https://host", for absolute links
	Cloud         cloud.Cloud // what the deployment presents itself as; the zero value is the global one
	Engine        *resource.Engine
	Accounts      types.Accounts
	Authorization types.Authorization
	Backend       types.Backend
	Agents        types.Agents
	Machines      Wants
	Access        Access
	Keys          Keys
	Audit         Auditor
	Restores      Restores
	Retention     Retention
	Tenant        func() directory.Tenant
	SignIns       SignIns
	Sessions      MachineSessions
	Joins         Joins
	Inventories   Inventories
	Certificates  Certificates
	Revocations   Revocations
	Upgrades      Upgrades
	People        func(upn string) (objectID string, found bool)
	Principals    Principals
	IdentityOf    func(objectID string) (resource scope.ID, found bool) // of a managed identity
}

// Wants knows what machines are wanted to be; *types.Machines does.
type Wants interface {
	Want(machineID string) (types.Want, bool)
}

// Handler answers the rows whose id begins with "arm.".
type Handler struct{ cfg Config }

// New returns a handler.
func New(cfg Config) *Handler {
	cfg.URL = strings.TrimSuffix(cfg.URL, "/")
	if cfg.Cloud.Name == "" {
		cfg.Cloud = cloud.Of(cloud.Global)
	}
	return &Handler{cfg: cfg}
}

// Mount gives every row its handler.
func (h *Handler) Mount(m *httpd.Mux) {
	h.mountAccounts(m)
	h.mountManagementGroups(m)
	h.mountCatalog(m)
	h.mountTags(m)
	h.mountAuthorization(m)
	h.mountAccess(m)
	h.mountJoin(m)
	h.mountAudit(m)
	h.mountWho(m)
	h.mountKeys(m)
	h.mountSignIns(m)
	h.mountSessions(m)
	h.mountCertificates(m)
	h.mountRevocations(m)
	h.mountUpgrades(m)
	h.mountRestore(m)
	h.mountDeployments(m)
	for row, kind := range map[string]string{
		"resourceGroups": resource.TypeGroup, "virtualNetworks": types.VirtualNetwork, "networkSecurityGroups": types.SecurityGroup,
		"publicIPAddresses": types.PublicIP, "networkInterfaces": types.NetworkInterface, "virtualMachines": types.VirtualMachine, "extensions": types.Extension,
		"hybridMachines": types.HybridMachine, "hybridExtensions": types.HybridExtension, "scaleSets": types.ScaleSet,
		"userAssignedIdentities": types.UserIdentity,
	} {
		m.Handle("arm."+row+".get", h.get(kind))
		m.Handle("arm."+row+".put", h.write(kind, (*resource.Engine).Put))
		m.Handle("arm."+row+".patch", h.write(kind, (*resource.Engine).Patch))
		m.Handle("arm."+row+".delete", h.remove(kind))
		m.Handle("arm."+row+".list", h.list(kind))
		if row != "resourceGroups" && row != "extensions" && row != "hybridExtensions" {
			m.Handle("arm."+row+".listInGroup", h.list(kind))
		}
	}
	m.Handle("arm.resourceGroups.head", func(c *httpd.Call) error {
		id, err := itemID(c, resource.TypeGroup)
		if err == nil {
			_, err = h.cfg.Engine.Find(c.R.Context(), c.By, id)
		}
		if err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	})
	m.Handle("arm.resources.list", h.list(""))
	m.Handle("arm.resources.listInGroup", h.list(""))
	m.Handle("arm.resources.move", h.move(false))
	m.Handle("arm.resources.validateMove", h.move(true))
	m.Handle("arm.virtualMachines.instanceView", h.instanceView(types.VirtualMachine))
	for _, verb := range []string{"start", "powerOff", "deallocate", "restart"} {
		m.Handle("arm.virtualMachines."+verb, h.act(types.VirtualMachine, verb))
	}
	h.mountScaleSets(m)
	m.Handle("arm.hybridMachines.quarantine", h.act(types.HybridMachine, "quarantine"))
	m.Handle("arm.operations.status", h.operationStatus)
	m.Handle("arm.operations.result", h.operationResult)
}

// itemID is the id that a row's variables name, with the type's own spelling.
func itemID(c *httpd.Call, kind string) (scope.ID, error) {
	id := "/subscriptions/" + c.Var("subscription") + "/resourceGroups/" + c.Var("group")
	if kind == resource.TypeGroup {
		return scope.Parse(id)
	}
	parts := strings.Split(kind, "/")
	id += "/providers/" + parts[0]
	for i, name := range []string{c.Var("name"), c.Var("child"), c.Var("extension")} {
		if i+1 < len(parts) {
			id += "/" + parts[i+1] + "/" + name
		}
	}
	return scope.Parse(id)
}

// under is the scope that a list of a kind covers.
func under(c *httpd.Call, kind string) (scope.ID, error) {
	id := "/subscriptions/" + c.Var("subscription")
	if g := c.Var("group"); g != "" {
		id += "/resourceGroups/" + g
	}
	if n := c.Var("name"); n != "" {
		id += "/providers/" + kind[:strings.LastIndexByte(kind, '/')] + "/" + n // of a child type
	}
	return scope.Parse(id)
}

// expand reads $expand where it asks for the instance view. Some clients ask for
// the user data of every machine; none has any.
func expand(c *httpd.Call) (bool, error) {
	given := c.R.URL.Query().Get("$expand")
	if given == "" || strings.EqualFold(given, "userData") {
		return false, nil
	}
	if strings.EqualFold(given, "instanceView") {
		return true, nil
	}
	return false, notExpanded(given, "instanceView, userData")
}

func notExpanded(given, known string) error {
	return fault.New(fault.Invalid, "InvalidParameter", "$expand=%.80s is not supported here", given).WithRemedy("It is: %s.", known).WithTarget("$expand")
}

func (h *Handler) get(kind string) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		id, err := itemID(c, kind)
		if err != nil {
			return err
		}
		view, err := expand(c)
		if err != nil {
			return err
		}
		body, err := h.cfg.Engine.Get(c.R.Context(), c.By, id, view)
		if err != nil {
			return err
		}
		setETag(c, body)
		return c.JSON(http.StatusOK, body)
	}
}

func setETag(c *httpd.Call, body map[string]any) {
	if tag, ok := body["etag"].(string); ok {
		c.W.Header().Set("ETag", tag)
	}
}

func (h *Handler) instanceView(kind string) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		id, err := itemID(c, kind)
		if err != nil {
			return err
		}
		body, err := h.cfg.Engine.Get(c.R.Context(), c.By, id, true)
		if err != nil {
			return err
		}
		p, _ := body["properties"].(map[string]any)
		return c.JSON(http.StatusOK, p["instanceView"])
	}
}

type writeFunc func(*resource.Engine, context.Context, audit.By, resource.Request) (resource.Result, error)

func (h *Handler) write(kind string, do writeFunc) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		req, err := request(c, kind)
		if err != nil {
			return err
		}
		if req.Body, err = c.Body(); err != nil {
			return err
		}
		result, err := do(h.cfg.Engine, c.R.Context(), c.By, req)
		if err != nil {
			return err
		}
		h.operationHeaders(c, result.Operation)
		setETag(c, result.Body)
		if result.Created {
			return c.JSON(http.StatusCreated, result.Body)
		}
		return c.JSON(http.StatusOK, result.Body)
	}
}

func request(c *httpd.Call, kind string) (resource.Request, error) {
	id, err := itemID(c, kind)
	return resource.Request{ID: id, IfMatch: c.R.Header.Get("If-Match"), IfNoneMatch: c.R.Header.Get("If-None-Match")}, err
}

func (h *Handler) remove(kind string) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		req, err := request(c, kind)
		if err != nil {
			return err
		}
		result, err := h.cfg.Engine.Delete(c.R.Context(), c.By, req)
		switch {
		case err != nil:
			return err
		case result.Gone:
			return c.NoContent(http.StatusNoContent)
		case result.Operation != nil:
			h.operationHeaders(c, result.Operation)
			return c.NoContent(http.StatusAccepted)
		}
		return c.NoContent(http.StatusOK)
	}
}

func (h *Handler) act(kind, verb string) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		id, err := itemID(c, kind)
		if err != nil {
			return err
		}
		body, err := c.Body()
		if err != nil {
			return err
		}
		result, err := h.cfg.Engine.ActWith(c.R.Context(), c.By, resource.Request{ID: id, Body: body}, verb)
		if err != nil {
			return err
		}
		h.operationHeaders(c, result.Operation)
		return c.NoContent(http.StatusAccepted)
	}
}

// move answers when the move is over: 204 is what Azure answers then.
func (h *Handler) move(validate bool) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		req, err := request(c, resource.TypeGroup)
		if err != nil {
			return err
		}
		body, err := c.Body()
		if err != nil {
			return err
		}
		if err := h.cfg.Engine.Move(c.R.Context(), c.By, resource.MoveRequest{Group: req.ID, Body: body, Validate: validate}); err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	}
}

func (h *Handler) list(kind string) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		at, err := under(c, kind)
		if err != nil {
			return err
		}
		q := resource.Query{Under: at, Type: kind}
		if err := readQuery(c, &q, kind == "" || kind == resource.TypeGroup); err != nil {
			return err
		}
		page, err := h.cfg.Engine.List(c.R.Context(), c.By, q)
		if err != nil {
			return err
		}
		if kind == "" {
			for _, item := range page.Value {
				trim(item)
			}
		}
		return c.JSON(http.StatusOK, h.page(c, page.Value, page.Next))
	}
}

// trim leaves what the generic list shows of a resource.
func trim(item map[string]any) {
	p, _ := item["properties"].(map[string]any)
	item["provisioningState"] = p["provisioningState"]
	delete(item, "properties")
	delete(item, "resources")
	delete(item, "etag")
}

// readQuery reads paging and, for the generic list, $filter.
func readQuery(c *httpd.Call, q *resource.Query, filters bool) error {
	values := c.R.URL.Query()
	top, err := readTop(values)
	if err != nil {
		return err
	}
	q.Top, q.After = top, values.Get("$skipToken")
	if !filters {
		if q.Expand, err = expand(c); err != nil {
			return err
		}
	} else if given := values.Get("$expand"); given != "" {
		for _, word := range strings.Split(strings.ToLower(given), ",") {
			switch word {
			case "createdtime", "changedtime":
				q.Times = true
			case "provisioningstate": // is always shown
			default:
				return notExpanded(given, "createdTime, changedTime, provisioningState")
			}
		}
	}
	terms, err := types.ParseFilter(values.Get("$filter"))
	if err != nil {
		return err
	}
	return filter(q, terms, filters)
}

func readTop(values url.Values) (int, error) {
	text := values.Get("$top")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fault.New(fault.Invalid, "InvalidParameter", "$top must be a number from 1").WithTarget("$top")
	}
	return n, nil
}

// page is a list on the wire. nextLink is the same request further on.
func (h *Handler) page(c *httpd.Call, value any, next string) map[string]any {
	out := map[string]any{"value": value}
	if next != "" {
		q := c.R.URL.Query()
		q.Set("$skipToken", next)
		out["nextLink"] = h.cfg.URL + c.R.URL.EscapedPath() + "?" + q.Encode()
	}
	return out
}

// operationHeaders tell a client where and how often to ask. Azure's clients
// wait 30 seconds between two looks without them.
func (h *Handler) operationHeaders(c *httpd.Call, op *resource.Operation) {
	if op == nil {
		return
	}
	base := h.cfg.URL + "/subscriptions/" + op.Resource.SubscriptionID() + "/providers/Microsoft.Resources/"
	version := "?api-version=" + url.QueryEscape(c.R.URL.Query().Get("api-version"))
	c.W.Header().Set("Azure-AsyncOperation", base+"operationStatuses/"+op.ID+version)
	c.W.Header().Set("Location", base+"operationResults/"+op.ID+version)
	again(c)
}

func again(c *httpd.Call) {
	c.W.Header().Set("Retry-After", "1")
	c.W.Header().Set("x-ms-retry-after-ms", "200")
}

func (h *Handler) operationStatus(c *httpd.Call) error {
	s, err := h.cfg.Engine.Operation(c.R.Context(), c.By, strings.ToLower(c.Var("operation")))
	if err != nil {
		return err
	}
	out := map[string]any{"id": c.R.URL.Path, "name": s.ID, "status": s.Status, "startTime": s.Start, "properties": map[string]any{"resourceId": s.Resource.String(), "action": s.Verb}}
	if s.Status == resource.InProgress {
		again(c)
	} else {
		out["endTime"] = s.End
	}
	if s.Error != nil {
		out["error"] = s.Error
	}
	return c.JSON(http.StatusOK, out)
}

// operationResult is the Location form: 202 while it runs, then what the write
// would have answered had it been over at once, an empty answer where there is
// nothing to show, or the error (Azure Resource Manager RPC, asynchronous
// operations: "200 with the resource" for PUT and PATCH).
func (h *Handler) operationResult(c *httpd.Call) error {
	s, err := h.cfg.Engine.Operation(c.R.Context(), c.By, strings.ToLower(c.Var("operation")))
	if err != nil {
		return err
	}
	switch s.Status {
	case resource.InProgress:
		c.W.Header().Set("Location", fmt.Sprintf("%s%s?%s", h.cfg.URL, c.R.URL.EscapedPath(), c.R.URL.RawQuery))
		again(c)
		return c.NoContent(http.StatusAccepted)
	case resource.Succeeded:
		if s.Verb != "write" {
			return c.NoContent(http.StatusNoContent)
		}
		body, err := h.cfg.Engine.Get(c.R.Context(), c.By, s.Resource, false)
		if fault.Is(err, fault.Forbidden) || fault.Is(err, fault.NotFound) { // whoever may only write; gone meanwhile
			return c.NoContent(http.StatusNoContent)
		}
		if err != nil {
			return err
		}
		setETag(c, body)
		return c.JSON(http.StatusOK, body)
	}
	return fault.New(fault.Conflict, s.Error.Code, "%s", s.Error.Message)
}
