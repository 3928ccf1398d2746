package operations

import (
	"context"
	"net/http"
	"strings"

	"sallyport/internal/httpd"
	"sallyport/internal/route"
)

// Config is what a Handler stands on.
type Config struct {
	// Rows is what the server answers, for the OpenAPI document.
	Rows []route.Row
	// URL is the server's own, for the OpenAPI document.
	URL string
	// Ready runs the checks and returns for each its public state: OK, or
	// what is missing.
	Ready func(context.Context) map[string]string
	// Packages finds what stands at a path of the package repositories.
	Packages Packages
}

// Handler answers probes and describes the wire.
type Handler struct {
	ready    func(context.Context) map[string]string
	document []byte
	packages Packages
}

// New makes a Handler. It fails when the rows cannot be described.
func New(cfg Config) (*Handler, error) {
	document, err := Document(cfg.Rows, cfg.URL)
	if err != nil {
		return nil, err
	}
	return &Handler{ready: cfg.Ready, document: document, packages: cfg.Packages}, nil
}

// Mount sets the handlers of every operations row.
func (h *Handler) Mount(m *httpd.Mux) {
	m.Handle("operations.health", h.health)
	m.Handle("operations.ready", h.readiness)
	m.Handle("operations.openapi", h.openapi)
	m.Handle("operations.repository", h.repository)
}

// health says that the process answers, and nothing of what it stands on: who
// restarts a server for a slow disk makes it worse.
func (h *Handler) health(c *httpd.Call) error {
	return c.JSON(http.StatusOK, route.Health{Status: OK})
}

// OK is the state of a check that found nothing wrong.
const OK = "ok"

// Well says whether a check is passed: its state is OK, or "ok; " and what to
// look after before it fails.
func Well(state string) bool { return state == OK || strings.HasPrefix(state, OK+"; ") }

// readiness is 503 when any check is not OK: a load balancer then sends
// requests elsewhere.
func (h *Handler) readiness(c *httpd.Call) error {
	answer, status := route.Readiness{Status: "ready", Checks: h.ready(c.R.Context())}, http.StatusOK
	for _, state := range answer.Checks {
		if !Well(state) {
			answer.Status, status = "unready", http.StatusServiceUnavailable
		}
	}
	return c.JSON(status, answer)
}

func (h *Handler) openapi(c *httpd.Call) error {
	c.W.Header().Set("Content-Type", "application/json; charset=utf-8")
	c.W.WriteHeader(http.StatusOK)
	_, err := c.W.Write(h.document)
	return err
}
