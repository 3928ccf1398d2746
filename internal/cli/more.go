package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
)

func (a *app) restCommand() *cobra.Command {
	cmd := leafFor("rest", "Send a request of your own.", []flag{
		{name: "method", short: "m", def: "get", usage: "get, put, post, patch, delete, head or options"},
		{name: "url", short: "u", required: true, usage: "Path on the server, or an address of it. {subscriptionId} stands for the current one", aliases: "uri"},
		{name: "body", short: "b", usage: "Body; @FILE reads a file"},
		{name: "headers", kind: 'l', usage: "Space-separated headers: KEY=VALUE"},
		{name: "uri-parameters", kind: 'l', usage: "Space-separated query parameters: KEY=VALUE", aliases: "url-parameters"},
		{name: "skip-authorization-header", kind: 'b', usage: "Send no token"},
		{name: "output-file", usage: "File for the answer"},
	}, a.rest)
	cmd.Example = "  sally rest --url /subscriptions?api-version=2022-12-01\n  sally rest --method post --url /v1.0/groups --body @group.json"
	return cmd
}

func (a *app) rest(ctx context.Context, in values) error {
	s, err := a.session(ctx)
	if err != nil {
		return err
	}
	c, err := restCall(s, in)
	if err != nil {
		return err
	}
	answer, err := s.Send(ctx, c)
	if err != nil {
		return err
	}
	if path := in.text("output-file"); path != "" {
		return client.WriteFile(path, answer.Body, 0o600)
	}
	if !json.Valid(answer.Body) {
		_, err := a.cfg.Stdout.Write(answer.Body)
		return err
	}
	a.raw = true
	return a.print(json.RawMessage(answer.Body))
}

func restCall(s *client.Session, in values) (client.Call, error) {
	method := strings.ToUpper(in.text("method"))
	switch method {
	case http.MethodGet, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions:
	default:
		return client.Call{}, usageError{"argument --method: '" + in.text("method") + "' is not a method"}
	}
	c := client.Call{Method: method, Path: in.text("url"), Header: http.Header{}, Query: map[string][]string{}}
	c.Path = strings.ReplaceAll(c.Path, "{subscriptionId}", s.Account().ID)
	if !strings.HasPrefix(c.Path, "/") && !strings.Contains(c.Path, "://") {
		c.Path = "/" + c.Path
	}
	if path := strings.TrimPrefix(c.Path, s.Server().URL()); strings.HasPrefix(path, "/v1.0/") {
		c.Surface, c.Path = client.Graph, strings.TrimPrefix(path, "/v1.0")
	}
	if in.on("skip-authorization-header") {
		c.Surface = client.Anonymous
		if strings.HasPrefix(in.text("url"), "/v1.0/") {
			c.Path = "/v1.0" + c.Path
		}
	}
	if body := in.text("body"); body != "" {
		c.Body = json.RawMessage(body)
	}
	for _, h := range in.list("headers") {
		k, v, ok := strings.Cut(h, "=")
		if !ok || k == "" {
			return c, usageError{"argument --headers: '" + h + "' is not KEY=VALUE"}
		}
		c.Header.Set(k, v)
	}
	for _, q := range in.list("uri-parameters") {
		k, v, ok := strings.Cut(q, "=")
		if !ok || k == "" {
			return c, usageError{"argument --uri-parameters: '" + q + "' is not KEY=VALUE"}
		}
		c.Query[k] = append(c.Query[k], v)
	}
	return c, nil
}

func (a *app) groupExists() *cobra.Command {
	return leafFor("exists", "Say whether a resource group exists.", []flag{groupName()}, func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		path, err := fillURL(groupURL, s, in)
		if err != nil {
			return err
		}
		_, err = s.Send(ctx, client.Call{Method: http.MethodHead, Path: path})
		if err != nil && !client.IsNotFound(err) {
			return err
		}
		return a.print(err == nil)
	})
}

// builtIn describes the one extension there is.
func (a *app) builtIn() map[string]any {
	path, err := os.Executable()
	if err != nil {
		path = a.cfg.Executable
	}
	return map[string]any{"extensionType": "built-in", "name": "ssh", "path": path, "preview": false, "experimental": false, "version": a.cfg.Version}
}

func extensionName() flag {
	return flag{name: "name", short: "n", required: true, usage: "Name of the extension"}
}

func unknownExtension(name string) error {
	return &client.APIError{Status: http.StatusNotFound, Code: "ExtensionNotFound", Message: "The extension " + name + " is not known. Only 'ssh' exists, and it is built in."}
}

func (a *app) extensionAdd() *cobra.Command {
	return leafFor("add", "Add an extension: ssh is built in.", []flag{extensionName(), {name: "upgrade", kind: 'b', usage: "Accepted for az's sake"}, {name: "yes", short: "y", kind: 'b', usage: "Accepted for az's sake"}},
		func(_ context.Context, in values) error {
			if in.text("name") != "ssh" {
				return unknownExtension(in.text("name"))
			}
			a.warn("Extension 'ssh' " + a.cfg.Version + " is built in. There is nothing to install.")
			return nil
		})
}

func (a *app) extensionShow() *cobra.Command {
	return leafFor("show", "Show an extension.", []flag{extensionName()}, func(_ context.Context, in values) error {
		if in.text("name") != "ssh" {
			return unknownExtension(in.text("name"))
		}
		return a.print(a.builtIn(), columns("Name=name", "Version=version", "Type=extensionType")...)
	})
}

func (a *app) extensionList() *cobra.Command {
	return leafFor("list", "List extensions.", nil, func(context.Context, values) error {
		return a.print([]any{a.builtIn()}, columns("Name=name", "Version=version", "Type=extensionType")...)
	})
}
