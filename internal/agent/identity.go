package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/agent/control"
	"sallyport/internal/agent/imds"
	"sallyport/internal/agent/linklocal"
	"sallyport/internal/agent/root"
	"sallyport/internal/machine/protocol"
)

// attachRetry is how long after the root part went away it is looked for again.
const attachRetry = time.Second

// identity answers whom the root part hands over.
func (a *Agent) identity(ctx context.Context, _ *pause) {
	if a.cfg.Callers == nil {
		return
	}
	service := imds.New(imds.Config{Server: asker{a}, Tenant: a.cfg.Pins.Tenant, Interfaces: a.cfg.Interfaces, Now: a.cfg.Now, Log: a.cfg.Log})
	go service.Run(ctx)
	said := ""
	for ctx.Err() == nil {
		err := a.cfg.Callers(ctx, service.Take)
		if ctx.Err() != nil {
			return
		}
		// The root part starts together with this one, and is restarted too.
		if err != nil && err.Error() != said && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, net.ErrClosed) {
			said = err.Error()
			a.cfg.Log("identity service: %v", err)
		}
		a.cfg.Wait(ctx, attachRetry)
	}
}

// asker asks the server with the machine's key.
type asker struct{ agent *Agent }

func (s asker) call(ctx context.Context, method, path string, in, out any) error {
	_, c, _, err := s.agent.status(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return c.call(ctx, method, path, in, out)
}

// IdentityToken asks for an access token.
func (s asker) IdentityToken(ctx context.Context, r protocol.IdentityTokenRequest) (protocol.IdentityToken, error) {
	var t protocol.IdentityToken
	err := s.call(ctx, "POST", "/machine/v1/token", r, &t)
	return t, err
}

// IdentityCertificate asks for a certificate.
func (s asker) IdentityCertificate(ctx context.Context, r protocol.IdentityCertificateRequest) (protocol.IdentityToken, error) {
	var t protocol.IdentityToken
	err := s.call(ctx, "POST", "/machine/v1/certificate", r, &t)
	return t, err
}

// Instance asks what the machine's resource says.
func (s asker) Instance(ctx context.Context) (protocol.Instance, error) {
	var i protocol.Instance
	err := s.call(ctx, "GET", "/machine/v1/instance", nil, &i)
	return i, err
}

// identityEndpoint is where the root part serves the identity.
func identityEndpoint() *linklocal.Endpoint {
	return linklocal.New(linklocal.Config{Root: "/", Addresses: linklocal.Interfaces, Dial: (&net.Dialer{}).DialContext,
		Run: func(ctx context.Context, argv ...string) ([]byte, error) { return run(ctx, root.Command{Argv: argv}) }})
}

// interfaces lists the machine's network interfaces without loopback.
func interfaces() []imds.Interface {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var list []imds.Interface
	for _, i := range all {
		if i.Flags&net.FlagLoopback != 0 || i.Flags&net.FlagUp == 0 || len(i.HardwareAddr) == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		out := imds.Interface{MAC: strings.ReplaceAll(i.HardwareAddr.String(), ":", "")}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			switch {
			case !ok || n.IP.IsLinkLocalUnicast():
			case n.IP.To4() != nil:
				bits, _ := n.Mask.Size()
				out.IPv4 = append(out.IPv4, imds.Prefix{Address: n.IP.String(), Network: n.IP.Mask(n.Mask).String(), Bits: bits})
			default:
				out.IPv6 = append(out.IPv6, n.IP.String())
			}
		}
		list = append(list, out)
	}
	return list
}

func identityCommand() *cobra.Command {
	c := &cobra.Command{Use: "identity", Short: "Decide who on this machine may use its managed identity", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(&cobra.Command{Use: "list", Short: "List who may, besides root and members of a local group sallyport-identity", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		answer, err := ask(c.Context(), control.Request{Op: control.OpMembers})
		for _, name := range answer.Names {
			fmt.Fprintln(c.OutOrStdout(), name)
		}
		return err
	}})
	change := func(use, short string, op control.Op) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
			_, err := ask(c.Context(), control.Request{Op: op, Name: args[0]})
			return err
		}}
	}
	c.AddCommand(change("allow USER", "Let a user of this machine use its managed identity", control.OpAllow), change("deny USER", "Take that back", control.OpDeny))
	return c
}
