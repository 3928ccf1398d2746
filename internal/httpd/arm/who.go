package arm

import (
	"net/http"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/machine"
	"sallyport/internal/resource/types"
	"sallyport/internal/scope"
)

// Access says who gets in where, and why; machine.Access does.
type Access interface {
	WhoCanLogIn(at scope.ID) []machine.Entrant
	Explain(machine.Question) (machine.Explanation, error)
}

const readAssignments = types.RoleAssignment + "/read"

// mountWho: the questions about access that Azure leaves to its readers.
func (h *Handler) mountWho(m *httpd.Mux) {
	m.Handle("arm.access.who", h.whoCanLogIn)
	m.Handle("arm.access.whoAtRoot", h.whoCanLogIn)
	m.Handle("arm.access.explain", h.explain)
}

// whoCanLogIn lists who may log in at a scope and through which assignment. Who
// may read the assignments there could find out by himself.
func (h *Handler) whoCanLogIn(c *httpd.Call) error {
	at, err := scope.Parse("/" + c.Var("scope"))
	if err != nil {
		return err
	}
	if at == scope.Directory() {
		return fault.New(fault.Invalid, "InvalidScope", "nobody logs in to the directory")
	}
	if err := h.cfg.Engine.Authorize(c.R.Context(), c.By, readAssignments, at); err != nil {
		return err
	}
	if at != scope.Root() {
		// A mistyped machine would answer with what it would inherit.
		if _, err := h.cfg.Engine.Find(c.R.Context(), c.By, at); fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return c.JSON(http.StatusOK, h.page(c, h.cfg.Access.WhoCanLogIn(at), ""))
}

// explain answers about the caller itself for who may read the machine, and
// about others for who may read the machine's role assignments too.
func (h *Handler) explain(c *httpd.Call) error {
	id, err := scope.Parse("/" + c.Var("scope"))
	if err != nil {
		return err
	}
	vm, err := h.cfg.Engine.Find(c.R.Context(), c.By, id)
	if err != nil {
		return err
	}
	f, ok := types.FactsOf(vm)
	if !ok {
		return fault.New(fault.Invalid, "NotAMachine", "'%s' is no machine", id.Name())
	}
	who := c.R.URL.Query().Get("principal")
	if who == "" || strings.EqualFold(who, c.By.Name) {
		who = c.By.Principal
	}
	if who != c.By.Principal {
		if err := h.cfg.Engine.Authorize(c.R.Context(), c.By, readAssignments, vm.ID); err != nil {
			return err
		}
	}
	e, err := h.cfg.Access.Explain(machine.Question{Who: who, MachineID: f.MachineID, ResourceID: vm.ID, Asker: c.By,
		Visible: func(at scope.ID) bool {
			return who == c.By.Principal || h.cfg.Engine.Allowed(c.By, readAssignments, at)
		}})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"id": vm.ID.String() + "/providers/Sallyport.Access/explain", "name": e.Principal.ID, "type": "Sallyport.Access/explain", "properties": e})
}
