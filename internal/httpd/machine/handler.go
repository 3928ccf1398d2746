package machine

import (
	"context"
	"net/http"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/httpd"
	"sallyport/internal/machine/protocol"
)

// Machines is the domain behind the handler. *machine.Service satisfies it.
type Machines interface {
	Join(ctx context.Context, by audit.By, r protocol.JoinRequest, thumbprint string) (protocol.JoinAnswer, error)
	Poll(ctx context.Context, by audit.By, r protocol.PollRequest) (protocol.PollAnswer, error)
	Report(ctx context.Context, by audit.By, r protocol.Report) error
	HostCertificate(ctx context.Context, by audit.By, r protocol.HostCertificateRequest) (protocol.HostCertificateAnswer, error)
	Leave(ctx context.Context, by audit.By) error
	Inventory(ctx context.Context, by audit.By, i protocol.Inventory) error
}

// Identities gives machines what their managed identity and their resource say.
// by.Principal is the machine.
type Identities interface {
	IdentityToken(ctx context.Context, by audit.By, r protocol.IdentityTokenRequest) (protocol.IdentityToken, error)
	IdentityCertificate(ctx context.Context, by audit.By, r protocol.IdentityCertificateRequest) (protocol.IdentityToken, error)
	Instance(ctx context.Context, by audit.By) (protocol.Instance, error)
}

// Devices has people approve logins on a web page. by.Principal is the machine.
type Devices interface {
	Device(ctx context.Context, by audit.By, r protocol.DeviceRequest) (protocol.DeviceAnswer, error)
	DevicePoll(ctx context.Context, by audit.By, r protocol.DevicePoll) (protocol.DeviceState, error)
}

// Config is what a Handler stands on.
type Config struct {
	Machines   Machines
	Identities Identities
	Devices    Devices
}

// Handler answers the machine protocol.
type Handler struct {
	machines   Machines
	identities Identities
	devices    Devices
}

// New makes a Handler.
func New(cfg Config) *Handler {
	return &Handler{machines: cfg.Machines, identities: cfg.Identities, devices: cfg.Devices}
}

// Mount sets the handlers of every machine row.
func (h *Handler) Mount(m *httpd.Mux) {
	m.Handle("machine.join", h.join)
	m.Handle("machine.poll", h.poll)
	m.Handle("machine.report", h.report)
	m.Handle("machine.hostcertificate", h.hostCertificate)
	m.Handle("machine.leave", h.leave)
	m.Handle("machine.inventory", h.inventory)
	m.Handle("machine.token", h.token)
	m.Handle("machine.certificate", h.certificate)
	m.Handle("machine.instance", h.instance)
	m.Handle("machine.device", h.device)
	m.Handle("machine.device.poll", h.devicePoll)
}

func (h *Handler) join(c *httpd.Call) error {
	var r protocol.JoinRequest
	if err := c.Decode(&r); err != nil {
		return err
	}
	answer, err := h.machines.Join(c.R.Context(), c.By, r, c.MachineThumbprint())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, answer)
}

// pollSlack is what a long poll may take beyond its longest wait.
const pollSlack = 90 * time.Second

func (h *Handler) poll(c *httpd.Call) error {
	var r protocol.PollRequest
	if err := c.Decode(&r); err != nil {
		return err
	}
	return c.Later(func() error {
		// A poll outlives the server's write timeout. A writer without deadlines
		// (one that waits apart, a test's) says so with an error, which changes
		// nothing.
		_ = http.NewResponseController(c.W).SetWriteDeadline(c.By.At.Add(pollSlack))
		answer, err := h.machines.Poll(c.R.Context(), c.By, r)
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, answer)
	})
}

func (h *Handler) report(c *httpd.Call) error {
	var r protocol.Report
	if err := c.Decode(&r); err != nil {
		return err
	}
	if err := h.machines.Report(c.R.Context(), c.By, r); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (h *Handler) hostCertificate(c *httpd.Call) error {
	var r protocol.HostCertificateRequest
	if err := c.Decode(&r); err != nil {
		return err
	}
	answer, err := h.machines.HostCertificate(c.R.Context(), c.By, r)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, answer)
}

func (h *Handler) leave(c *httpd.Call) error {
	if err := h.machines.Leave(c.R.Context(), c.By); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (h *Handler) inventory(c *httpd.Call) error {
	var i protocol.Inventory
	if err := c.Decode(&i); err != nil {
		return err
	}
	if err := h.machines.Inventory(c.R.Context(), c.By, i); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (h *Handler) token(c *httpd.Call) error {
	var r protocol.IdentityTokenRequest
	if err := c.Decode(&r); err != nil {
		return err
	}
	answer, err := h.identities.IdentityToken(c.R.Context(), c.By, r)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, answer)
}

func (h *Handler) certificate(c *httpd.Call) error {
	var r protocol.IdentityCertificateRequest
	if err := c.Decode(&r); err != nil {
		return err
	}
	answer, err := h.identities.IdentityCertificate(c.R.Context(), c.By, r)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, answer)
}

func (h *Handler) instance(c *httpd.Call) error {
	answer, err := h.identities.Instance(c.R.Context(), c.By)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, answer)
}

func (h *Handler) device(c *httpd.Call) error {
	var r protocol.DeviceRequest
	if err := c.Decode(&r); err != nil {
		return err
	}
	answer, err := h.devices.Device(c.R.Context(), c.By, r)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, answer)
}

func (h *Handler) devicePoll(c *httpd.Call) error {
	var r protocol.DevicePoll
	if err := c.Decode(&r); err != nil {
		return err
	}
	answer, err := h.devices.DevicePoll(c.R.Context(), c.By, r)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, answer)
}
