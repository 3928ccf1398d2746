package route

// Health is the answer of GET /healthz.
type Health struct {
	Status string `json:"status"` // "ok"
}

// Readiness is the answer of GET /readyz. Checks holds "ok" or what is missing,
// by the name of the check.
type Readiness struct {
	Status string            `json:"status"` // "ready" or "unready"
	Checks map[string]string `json:"checks"`
}

// File is the answer of a row that hands out a file, of the file's own media type
// and in parts where they are asked for (RFC 9110 section 14).
type File struct{}

// operationsRows are for whoever runs the server: load balancers, service
// managers, and programs that want the description of the wire.
func operationsRows() []Row {
	const probe = "a probe has no identity; the answer holds no data of the directory"
	return []Row{
		{ID: "operations.health", Method: "GET", Pattern: "/healthz", Door: Public, Surface: Agent, Why: probe, Limiter: "read", Response: Health{}},
		{ID: "operations.ready", Method: "GET", Pattern: "/readyz", Door: Public, Surface: Agent, Why: probe, Limiter: "read", Response: Readiness{}},
		{ID: "operations.openapi", Method: "GET", Pattern: "/openapi.json", Door: Public, Surface: Agent, Why: "the description of the wire is the same for everybody; it is long, hence the slow class", Limiter: "login"},
		{ID: "operations.repository", Method: "GET", Pattern: "/repository/{path...}", Door: Public, Surface: Agent, Limiter: "package",
			Why: "packages and their signed indexes hold no secret; whoever installs them verifies the signature", Response: File{}},
	}
}
