package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/cli/client"
	"sallyport/internal/cli/output"
	"sallyport/internal/fault"
)

const (
	machineSessionsURL = "/providers/Sallyport.Access/machineSessions"
	// endPatience is how long an end is waited for, asked about every endPause. A
	// machine whose processors a session's processes keep busy takes its time.
	endPatience = time.Minute
	endPause    = 150 * time.Millisecond
)

// machineFlags name a machine in the ways that there are.
func machineFlags(more ...flag) []flag {
	return append([]flag{
		{name: "machine", usage: "A machine, by its id or its resource id"},
		{name: "name", short: "n", usage: "Name of a machine, with its resource group"}, {name: "resource-group", short: "g", usage: "Name of the resource group"}, flagMachineIDs(), flagInstance(),
	}, more...)
}

// namedMachine is the machine that the flags name; "" for none.
func (a *app) namedMachine(ctx context.Context, s *client.Session, in values) (string, error) {
	name, rg, machine := in.text("name"), in.text("resource-group"), in.text("machine")
	switch {
	case (name == "") != (rg == ""):
		return "", usageError{"--name and --resource-group belong together"}
	case machine != "" && (name != "" || in.given("ids")):
		return "", usageError{"give --machine, or --name with --resource-group, or --ids"}
	case name != "" || in.given("ids"):
		return a.machineScope(ctx, s, in, "name")
	}
	return machine, nil
}

func sessionColumns() []output.Column {
	return columns("User=properties.principalName", "Machine=properties.machine", "Since=properties.since", "From=properties.from", "Kind=properties.kind", "TTY=properties.tty",
		"Elevated=properties.elevatedProcesses", "State=properties.state", "Certificate=properties.certificate.keyId", "CorrelationId=properties.correlationId", "Id=name")
}

// withID lets a command take its id as the one word that follows it.
func withID(cmd *cobra.Command) *cobra.Command {
	cmd.Use += " [ID]"
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > 1 || len(args) == 1 && cmd.Flags().Changed("id"):
			return usageError{"unrecognized arguments: " + strings.Join(args, " ")}
		case len(args) == 1:
			return cmd.Flags().Set("id", args[0])
		}
		return nil
	}
	return cmd
}

func (a *app) machineSessionList() *cobra.Command {
	cmd := leafFor("list", "List the sessions that are open on machines.", machineFlags(flag{name: "user", usage: "Only sessions of this user: user principal name or object id"}), func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		call := client.Call{Method: http.MethodGet, Path: machineSessionsURL, Query: url.Values{}}
		machine, err := a.namedMachine(ctx, s, in)
		if err != nil {
			return err
		}
		for name, value := range map[string]string{"machine": machine, "principal": in.text("user")} {
			if value != "" {
				call.Query.Set(name, value)
			}
		}
		items, err := s.List(ctx, call)
		if err != nil {
			return err
		}
		return a.print(items, sessionColumns()...)
	})
	cmd.Long = "Lists your own sessions, and those on machines where you have Sallyport.Access/machineSessions/read, as Owner, Contributor and Reader have.\nThe machines' agents tell of them: what is shown is a machine's word, as old as its last report."
	return cmd
}

// oneSession is the call for one session.
func (a *app) oneSession(ctx context.Context, s *client.Session, in values, method, suffix string) (client.Call, error) {
	id := in.text("id")
	if id == "" || strings.ContainsAny(id, "/?#%\\.") {
		return client.Call{}, usageError{"give the id of a session, as the list shows it"}
	}
	c := client.Call{Method: method, Path: machineSessionsURL + "/" + url.PathEscape(id) + suffix, Query: url.Values{}}
	machine, err := a.namedMachine(ctx, s, in)
	if machine != "" {
		c.Query.Set("machine", machine)
	}
	return c, err
}

func sessionID() flag { return flag{name: "id", usage: "Id of the session, as the list shows it"} }

func (a *app) machineSessionShow() *cobra.Command {
	return withID(leafFor("show", "Show a session, open or ended lately.", machineFlags(sessionID()), func(ctx context.Context, in values) error {
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		call, err := a.oneSession(ctx, s, in, http.MethodGet, "")
		if err != nil {
			return err
		}
		body, err := s.Do(ctx, call)
		if err != nil {
			return err
		}
		return a.print(json.RawMessage(body), sessionColumns()...)
	}))
}

func (a *app) machineSessionEnd() *cobra.Command {
	flags := machineFlags(sessionID(), flag{name: "no-wait", kind: 'b', usage: "Do not wait until the machine has ended it"})
	cmd := withID(leafFor("end", "End a session on a machine: a message, then everything that runs in it.", flags, a.endMachineSession))
	cmd.Long = "Ends one session and no other of the same person. Your own sessions you may always end; those of others need\nSallyport.Access/machineSessions/end/action on the machine, which Owner and Contributor have. The person may connect again: to keep\nsomebody out, take the role away, disable the account, or run: sally account session revoke --all --user NAME."
	return cmd
}

func (a *app) endMachineSession(ctx context.Context, in values) error {
	s, err := a.session(ctx)
	if err != nil {
		return err
	}
	call, err := a.oneSession(ctx, s, in, http.MethodPost, "/end")
	if err != nil {
		return err
	}
	body, err := s.Do(ctx, call)
	if err != nil {
		return err
	}
	look := call
	look.Method, look.Path = http.MethodGet, strings.TrimSuffix(call.Path, "/end")
	stop := a.progress("Ending")
	body, state, err := a.awaitEnd(ctx, s, look, body, in.on("no-wait"))
	stop()
	if err != nil {
		return err
	}
	if err := a.print(json.RawMessage(body), sessionColumns()...); err != nil {
		return err
	}
	if state != "Ended" && !in.on("no-wait") {
		return fault.New(fault.Unavailable, "SessionNotEndedYet", "the machine has not said that the session is gone; it is told as soon as it asks").
			WithRemedy("Look when it was last seen: sally session show --id %s", in.text("id"))
	}
	return nil
}

// awaitEnd asks until the machine says that the session is gone, and warns of
// what goes on running.
func (a *app) awaitEnd(ctx context.Context, s *client.Session, look client.Call, body []byte, once bool) (last []byte, state string, err error) {
	var n struct {
		Properties struct {
			State  string `json:"state"`
			Ending struct {
				Left string `json:"left"`
			} `json:"ending"`
		} `json:"properties"`
	}
	for until := a.cfg.Now().Add(endPatience); ; {
		if err := json.Unmarshal(body, &n); err != nil {
			return nil, "", fault.Wrap(err, fault.Unavailable, "BadAnswer", "the server's answer cannot be read")
		}
		state = n.Properties.State
		if state == "Ended" && n.Properties.Ending.Left != "" {
			a.warn("Still running: " + n.Properties.Ending.Left)
		}
		if state == "Ended" || once || a.cfg.Now().After(until) {
			return body, state, nil
		}
		if err := a.cfg.Wait(ctx, endPause); err != nil {
			return nil, state, err
		}
		if body, err = s.Do(ctx, look); err != nil {
			return nil, state, err
		}
	}
}
