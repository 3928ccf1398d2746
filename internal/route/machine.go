package route

import "sallyport/internal/machine/protocol"

// machineRows is the machine protocol (docs/machine-protocol.md). Join is a
// Client door: the token in its body is the proof, the TLS key what it is for.
func machineRows() []Row {
	const why = "the machine's own key is the right: every operation is about the machine that asks"
	return []Row{
		{ID: "machine.join", Method: "POST", Pattern: "/machine/v1/join", Door: Client, Surface: Agent, Limiter: "login",
			Why: "the join token in the body is the right", Request: protocol.JoinRequest{}, Response: protocol.JoinAnswer{}},
		{ID: "machine.poll", Method: "POST", Pattern: "/machine/v1/poll", Door: Machine, Surface: Agent, Limiter: "poll",
			Why: why, Request: protocol.PollRequest{}, Response: protocol.PollAnswer{}},
		{ID: "machine.report", Method: "POST", Pattern: "/machine/v1/report", Door: Machine, Surface: Agent, Limiter: "report",
			Why: why, Request: protocol.Report{}},
		{ID: "machine.hostcertificate", Method: "POST", Pattern: "/machine/v1/hostcertificate", Door: Machine, Surface: Agent, Limiter: "write",
			Why: why, Request: protocol.HostCertificateRequest{}, Response: protocol.HostCertificateAnswer{}},
		{ID: "machine.inventory", Method: "POST", Pattern: "/machine/v1/inventory", Door: Machine, Surface: Agent, Limiter: "report",
			Why: why, Request: protocol.Inventory{}},
		{ID: "machine.leave", Method: "POST", Pattern: "/machine/v1/leave", Door: Machine, Surface: Agent, Limiter: "write",
			Why: why},
		{ID: "machine.token", Method: "POST", Pattern: "/machine/v1/token", Door: Machine, Surface: Agent, Limiter: "write",
			Why: why, Request: protocol.IdentityTokenRequest{}, Response: protocol.IdentityToken{}},
		{ID: "machine.certificate", Method: "POST", Pattern: "/machine/v1/certificate", Door: Machine, Surface: Agent, Limiter: "write",
			Why: why, Request: protocol.IdentityCertificateRequest{}, Response: protocol.IdentityToken{}},
		{ID: "machine.device", Method: "POST", Pattern: "/machine/v1/device", Door: Machine, Surface: Agent, Limiter: "write", // strangers knock: not from what reports have
			Why: why, Request: protocol.DeviceRequest{}, Response: protocol.DeviceAnswer{}},
		{ID: "machine.device.poll", Method: "POST", Pattern: "/machine/v1/device/poll", Door: Machine, Surface: Agent, Limiter: "write",
			Why: why, Request: protocol.DevicePoll{}, Response: protocol.DeviceState{}},
		{ID: "machine.instance", Method: "GET", Pattern: "/machine/v1/instance", Door: Machine, Surface: Agent, Limiter: "read",
			Why: why, Response: protocol.Instance{}},
	}
}
