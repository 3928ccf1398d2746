package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/audit"
	"sallyport/internal/cli/client"
	"sallyport/internal/cli/output"
	"sallyport/internal/fault"
)

const (
	auditURL  = "/providers/Sallyport.Access/auditRecords"
	auditPage = 1000
)

// auditFlags select records, in every verb that shows some.
func auditFlags(more ...flag) []flag {
	return append([]flag{
		{name: "correlation-id", usage: "Only records of this correlation id"},
		{name: "user", usage: "Only what this user did, or what machines say about the user: object id or user principal name", aliases: "principal"},
		{name: "type", usage: "Only events of this type, such as certificate.issue (docs/audit-events.md)"},
		{name: "result", usage: "Only events that ended so: success, denied or failure", aliases: "outcome"},
		{name: "resource", usage: "Only events about this resource or object, by id", aliases: "machine target"},
		{name: "start-time", usage: "Only events since then: 2026-11-22 or 2026-11-22T12:00:00Z"},
		{name: "end-time", usage: "Only events until then"},
	}, more...)
}

func auditColumns() []output.Column {
	return columns("Time=time", "Type=type", "Outcome=outcome", "Who=principalName", "Target=target", "CorrelationId=correlationId")
}

// auditQuery makes the query of the flags.
func (a *app) auditQuery(ctx context.Context, s *client.Session, in values) (url.Values, error) {
	q := url.Values{}
	user, err := a.auditUser(ctx, s, in.text("user"))
	if err != nil {
		return nil, err
	}
	var terms []string
	for _, t := range [][2]string{{"correlationId", in.text("correlation-id")}, {"principalId", user}, {"type", in.text("type")}, {"outcome", strings.ToLower(in.text("result"))}, {"target", in.text("resource")}} {
		if t[1] != "" {
			terms = append(terms, t[0]+" eq '"+strings.ReplaceAll(t[1], "'", "''")+"'")
		}
	}
	if len(terms) > 0 {
		q.Set("$filter", strings.Join(terms, " and "))
	}
	for name, member := range map[string]string{"start-time": "startTime", "end-time": "endTime"} {
		text := in.text(name)
		if text == "" {
			continue
		}
		at, err := parseTime(text)
		if err != nil {
			return nil, usageError{"argument --" + name + ": '" + text + "' is no time such as 2026-11-22 or 2026-11-22T12:00:00Z"}
		}
		q.Set(member, at.UTC().Format(time.RFC3339Nano))
	}
	return q, nil
}

func parseTime(text string) (at time.Time, err error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"} {
		if at, err = time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return at, err
}

// auditUser turns a user principal name into an object id: records hold ids,
// because names may pass on. A deleted user is found by the record of the
// deletion.
func (a *app) auditUser(ctx context.Context, s *client.Session, name string) (string, error) {
	if !strings.Contains(name, "@") {
		return strings.ToLower(name), nil
	}
	var found struct {
		ID string `json:"id"`
	}
	err := do(ctx, s, client.Call{Surface: client.Graph, Method: http.MethodGet, Path: "/users/" + url.PathEscape(name)}, &found)
	if err == nil || !client.IsNotFound(err) {
		return found.ID, err
	}
	query := url.Values{"$filter": {"type eq 'user.delete'"}}
	for {
		page, next, err := a.auditPage(ctx, s, query, auditPage)
		if err != nil {
			return "", err
		}
		for _, raw := range page {
			var r audit.Record
			if err := json.Unmarshal(raw, &r); err == nil && strings.EqualFold(r.Detail["userPrincipalName"], name) {
				return r.Target, nil
			}
		}
		if next == "" {
			return "", fault.New(fault.NotFound, "UserNotFound", "there is no user %s, and no record of one that was deleted", name).WithRemedy("Give the object id with --user.")
		}
		query.Set("$skipToken", next)
	}
}

// auditPage reads one page; next is the token of the one after it.
func (a *app) auditPage(ctx context.Context, s *client.Session, query url.Values, size int) (records []json.RawMessage, next string, err error) {
	query.Set("$top", strconv.Itoa(size))
	var page struct {
		Value    []json.RawMessage `json:"value"`
		NextLink string            `json:"nextLink"`
	}
	if err := do(ctx, s, client.Call{Method: http.MethodGet, Path: auditURL, Query: query}, &page); err != nil {
		return nil, "", err
	}
	link, err := url.Parse(page.NextLink)
	if err != nil {
		return nil, "", fault.Wrap(err, fault.Unavailable, "BadAnswer", "the server's answer cannot be read")
	}
	return page.Value, link.Query().Get("$skipToken"), nil
}

// auditList lists records, newest first.
func (a *app) auditList() *cobra.Command {
	flags := auditFlags(flag{name: "max-items", usage: "How many records at most; without it all", aliases: "top"}, flag{name: "next-token", usage: "Go on behind an earlier list, with the token that it ended with"})
	cmd := leafFor("list", "List audit records, newest first.", flags, func(ctx context.Context, in values) error {
		most := -1
		if text := in.text("max-items"); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				return usageError{"argument --max-items: '" + text + "' is not a number from 1"}
			}
			most = n
		}
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		query, err := a.auditQuery(ctx, s, in)
		if err != nil {
			return err
		}
		next := in.text("next-token")
		records := []json.RawMessage{}
		for {
			if next != "" {
				query.Set("$skipToken", next)
			}
			size := auditPage
			if most >= 0 {
				size = min(size, most-len(records))
			}
			var page []json.RawMessage
			if page, next, err = a.auditPage(ctx, s, query, size); err != nil {
				return err
			}
			if records = append(records, page...); next == "" || len(records) == most {
				break
			}
		}
		if err := a.print(records, auditColumns()...); err != nil {
			return err
		}
		if next != "" {
			a.warn("There are more records. Go on with: --next-token " + next)
		}
		return nil
	})
	cmd.Example = "  sally audit list --user alice@corp.example --result denied --start-time 2026-11-22\n  sally audit list --correlation-id CORRELATION-ID -o table"
	return cmd
}

// followed is an answer of the server to somebody who follows.
type followed struct {
	Value     []json.RawMessage `json:"value"`
	SkipToken string            `json:"skipToken"`
	CaughtUp  bool              `json:"caughtUp"`
}

const (
	// followWait is how long the server may wait for a record.
	followWait = 20
	// followRetry is the pause after a failure: a server that starts again is
	// there in seconds.
	followRetry = 2 * time.Second
)

// auditTail shows the newest records, oldest first, and with -f those to come.
// The cursor is the client's, so that a server that starts again, or another
// one, goes on at the same place.
func (a *app) auditTail() *cobra.Command {
	flags := auditFlags(flag{name: "follow", short: "f", kind: 'b', usage: "Wait for more until interrupted"}, flag{name: "lines", short: "n", def: "10", usage: "How many records to begin with"})
	cmd := leafFor("tail", "Show the newest audit records, one on a line, and follow.", flags, func(ctx context.Context, in values) error {
		lines, err := strconv.Atoi(in.text("lines"))
		if err != nil || lines < 0 || lines > auditPage {
			return usageError{"argument --lines: '" + in.text("lines") + "' is not a number up to " + strconv.Itoa(auditPage)}
		}
		s, err := a.session(ctx)
		if err != nil {
			return err
		}
		query, err := a.auditQuery(ctx, s, in)
		if err != nil {
			return err
		}
		first := cloneValues(query)
		first.Set("from", "end")
		if lines > 0 {
			first.Set("$top", strconv.Itoa(lines))
		}
		var page followed
		if err := do(ctx, s, client.Call{Method: http.MethodGet, Path: auditURL + "/follow", Query: first}, &page); err != nil {
			return err
		}
		for {
			for _, r := range page.Value {
				if err := a.printLine(r); err != nil {
					return err
				}
			}
			if !in.on("follow") {
				return nil
			}
			query.Set("$skipToken", page.SkipToken)
			if page, err = a.followMore(ctx, s, query); err != nil {
				return err
			}
		}
	})
	cmd.Example = "  sally audit tail -f --result denied\n  sally audit tail -f -o tsv"
	return cmd
}

func cloneValues(v url.Values) url.Values {
	out := url.Values{}
	for k, l := range v {
		out[k] = append([]string(nil), l...)
	}
	return out
}

// followMore asks until the server answers. A server that is away is waited
// for; one that refuses is not.
func (a *app) followMore(ctx context.Context, s *client.Session, query url.Values) (followed, error) {
	query.Set("wait", strconv.Itoa(followWait))
	told := false
	for {
		var page followed
		err := do(ctx, s, client.Call{Method: http.MethodGet, Path: auditURL + "/follow", Query: query}, &page)
		if err == nil && page.SkipToken == "" {
			err = fault.New(fault.Unavailable, "BadAnswer", "the server's answer cannot be read")
		}
		if err == nil || ctx.Err() != nil || !client.IsAway(err) {
			return page, err
		}
		if !told {
			a.warn("The server does not answer: " + sentence(err) + " Following goes on when it does.")
			told = true
		}
		if err := a.cfg.Wait(ctx, followRetry); err != nil {
			return followed{}, err
		}
	}
}

// printLine prints one record on one line: JSON, or with -o tsv and -o table the
// columns of the list.
func (a *app) printLine(raw json.RawMessage) error {
	if a.format == "table" || a.format == "tsv" {
		var r audit.Record
		if err := json.Unmarshal(raw, &r); err != nil {
			return fault.Wrap(err, fault.Unavailable, "BadAnswer", "the server's answer cannot be read")
		}
		cells := []string{r.Time.Format(time.RFC3339), r.Type, string(r.Outcome), r.PrincipalName, r.Target, r.CorrelationID}
		for i := range cells {
			cells[i] = output.Clean(cells[i])
		}
		_, err := a.cfg.Stdout.Write([]byte(strings.Join(cells, "\t") + "\n"))
		return err
	}
	_, err := a.cfg.Stdout.Write(append(raw, '\n'))
	return err
}
