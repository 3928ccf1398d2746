package route

// Door says who may knock. A row without a door is not served.
type Door uint8

// The doors. Zero is closed on purpose.
const (
	Closed  Door = iota
	Public       // anybody: discovery, sign-in pages, health
	Client       // an OAuth client that authenticates in the request itself
	Caller       // a bearer access token for the row's surface
	Machine      // mutual TLS with a joined machine's key; never a bearer token
)

// Surface selects the wire's error shape and, for callers, the token audience.
type Surface uint8

// The surfaces.
const (
	Page  Surface = iota // HTML for people
	OAuth                // RFC 6749 errors with Entra's extra fields
	ARM                  // Resource Manager: {"error":{"code","message"}}
	Graph                // Microsoft Graph: {"error":{"code","message","innerError"}}
	Agent                // the machine protocol
)

// Row is one wire operation.
type Row struct {
	// ID names the operation, unique: "arm.virtualMachines.put".
	ID string
	// Method is the HTTP method.
	Method string
	// Pattern is a path of literal segments, {name} for one segment and
	// {name...} for one or more, anywhere in the path. Literals on the ARM
	// surface match in any case, elsewhere exactly.
	Pattern string
	Door    Door
	Surface Surface
	// Action is the RBAC action (ARM) or directory action (Graph) that the
	// engine behind the handler enforces; empty means any authenticated caller,
	// and Why says why that is right.
	Action string
	Why    string
	// Scope is, on the Graph surface, the directory action that the permissions of
	// the caller's token must cover, whoever the caller is.
	Scope string
	// Limiter names the limiter class: "login", "device", "token", "read", "write",
	// "package" for what is downloaded slowly, "poll" for what waits on purpose, or "report" for what may fill many rows.
	Limiter string
	// Request and Response are zero values of the body types, for OpenAPI; nil
	// where there is no body.
	Request, Response any
}

// All returns every row, in the order: OAuth, pages, Resource Manager, Graph,
// machines, operations.
func All() []Row {
	var rows []Row
	rows = append(rows, oauthRows()...)
	rows = append(rows, pageRows()...)
	rows = append(rows, armRows()...)
	rows = append(rows, graphRows()...)
	rows = append(rows, machineRows()...)
	rows = append(rows, operationsRows()...)
	return rows
}
