package arm

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/audit/proof"
	"sallyport/internal/fault"
	"sallyport/internal/httpd"
	"sallyport/internal/resource/types"
	"sallyport/internal/scope"
)

// Auditor reads the audit records and checks their chains.
type Auditor interface {
	// Records returns records, newest first.
	Records(ctx context.Context, f audit.Filter) ([]audit.Record, error)
	// Follow returns records behind a cursor, oldest first, and moves it; it waits
	// for the first one at most that long. caughtUp: there were no more.
	Follow(ctx context.Context, f audit.Filter, c audit.Cursor, wait time.Duration) (records []audit.Record, caughtUp bool, err error)
	// Heads returns the ends of all chains.
	Heads(ctx context.Context) ([]audit.Head, error)
	// Proof returns the evidence that belongs to the records.
	Proof(ctx context.Context) (proof.Proof, error)
	// Verify walks all chains; one that is not whole is an *audit.Broken.
	Verify(ctx context.Context) (audit.Verdict, error)
}

// Retention is how long audit records are kept.
type Retention interface {
	// Retention returns the days; 0: for ever.
	Retention(ctx context.Context) (days int, err error)
	// SetRetention changes them. The caller may do that, and it is audited.
	SetRetention(ctx context.Context, by audit.By, days int) error
}

const (
	// keepAudit is outside Sallyport.Access on purpose: Contributor may do nothing
	// in Microsoft.Authorization, and history is not his to delete.
	keepAudit = "Microsoft.Authorization/auditRetention/write"
	// leastDays is how long records are kept at least: whoever has taken over an
	// owner's account cannot make his own traces go.
	leastDays, mostDays = 30, 36_500
	readAudit           = "Sallyport.Access/auditRecords/read"
	// longestFollow is how long an answer may wait for records; followSlack is what
	// the answer may take beyond that.
	longestFollow = 30 * time.Second
	followSlack   = time.Minute
	// mostRecords is how many records one page has at most.
	mostRecords = 1000
)

func (h *Handler) mountAudit(m *httpd.Mux) {
	m.Handle("arm.auditRecords.list", h.auditReader(h.auditRecords))
	m.Handle("arm.auditRecords.follow", h.auditReader(h.followAudit))
	m.Handle("arm.auditRecords.proof", h.auditReader(h.auditProof))
	m.Handle("arm.auditRecords.verify", h.auditReader(h.verifyAudit))
	m.Handle("arm.auditRetention.get", h.auditReader(h.auditRetention))
	m.Handle("arm.auditRetention.put", h.setAuditRetention)
}

// auditScope is the root management group, above everything that is recorded:
// reading the audit is granted there.
func (h *Handler) auditScope() scope.ID { return scope.ManagementGroup(h.cfg.Tenant().ID) }

// auditReader lets those in who may read the audit log.
func (h *Handler) auditReader(next httpd.HandlerFunc) httpd.HandlerFunc {
	return func(c *httpd.Call) error {
		if err := h.cfg.Engine.Authorize(c.R.Context(), c.By, readAudit, h.auditScope()); err != nil {
			return err
		}
		return next(c)
	}
}

func (h *Handler) auditRecords(c *httpd.Call) error {
	values := c.R.URL.Query()
	f, err := auditFilter(values)
	if err != nil {
		return err
	}
	if token := values.Get("$skipToken"); token != "" {
		if f.Before, err = audit.ParsePlace(token); err != nil {
			return badSkipToken()
		}
	}
	records, err := h.cfg.Audit.Records(c.R.Context(), f)
	if err != nil {
		return err
	}
	next := ""
	if len(records) == f.Limit {
		next = audit.Token(records[len(records)-1].Place())
	}
	return c.JSON(http.StatusOK, h.page(c, shown(records), next))
}

func shown(records []audit.Record) []audit.Record {
	if records == nil {
		return []audit.Record{}
	}
	return records
}

func badSkipToken() error {
	return fault.New(fault.Invalid, "InvalidParameter", "$skipToken: it is not one that this server gave").WithTarget("$skipToken").WithRemedy("Give back what the last answer said, unchanged, or leave it out.")
}

// auditFilter reads $filter, the times and $top.
func auditFilter(values url.Values) (audit.Filter, error) {
	f := audit.Filter{Limit: 100}
	terms, err := types.ParseFilter(values.Get("$filter"))
	if err != nil {
		return f, err
	}
	outcome := ""
	fields := map[string]*string{"correlationid": &f.CorrelationID, "principalid": &f.Principal, "type": &f.Type, "outcome": &outcome, "target": &f.Target}
	for _, t := range terms {
		field := fields[t.Name]
		if field == nil || t.Call || *field != "" || t.Value == "" {
			return f, fault.New(fault.Invalid, "InvalidFilter", "audit records cannot be filtered by %q", t.Name).
				WithRemedy("They filter by correlationId, principalId, type, outcome and target, each once, with eq '...'.").WithTarget("$filter")
		}
		*field = t.Value
	}
	switch f.Outcome = audit.Outcome(outcome); f.Outcome {
	case "", audit.Success, audit.Denied, audit.Failure:
	default:
		return f, fault.New(fault.Invalid, "InvalidFilter", "the outcome is none of success, denied and failure").WithTarget("$filter")
	}
	for name, at := range map[string]*time.Time{"startTime": &f.Since, "endTime": &f.Until} {
		text := values.Get(name)
		if text == "" {
			continue
		}
		if *at, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return f, fault.New(fault.Invalid, "InvalidParameter", "%s is no time such as 2026-11-22T12:00:00Z", name).WithTarget(name)
		}
	}
	top, err := readTop(values)
	if top > 0 {
		f.Limit = min(top, mostRecords)
	}
	return f, err
}

// followAudit answers with what is behind a cursor, oldest first. Without one
// it begins at the first record, or with from=end behind the last, and shows
// the $top records before that.
func (h *Handler) followAudit(c *httpd.Call) error {
	values := c.R.URL.Query()
	f, err := auditFilter(values)
	if err != nil {
		return err
	}
	patience := time.Duration(0)
	if text := values.Get("wait"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 0 {
			return fault.New(fault.Invalid, "InvalidParameter", "wait is a number of seconds").WithTarget("wait")
		}
		patience = min(time.Duration(seconds)*time.Second, longestFollow)
	}
	cursor := audit.Cursor{}
	switch token := values.Get("$skipToken"); {
	case token != "":
		if cursor, err = audit.ParseCursor(token); err != nil {
			return badSkipToken()
		}
	case values.Get("from") == "end":
		return h.auditEnd(c, f, values.Get("$top") != "")
	case values.Get("from") != "":
		return fault.New(fault.Invalid, "InvalidParameter", "from can be end alone").WithTarget("from")
	}
	// An answer that waits outlives the server's write timeout. A writer without
	// deadlines (a test's) says so with an error, which changes nothing.
	_ = http.NewResponseController(c.W).SetWriteDeadline(c.By.At.Add(patience + followSlack))
	records, caughtUp, err := h.cfg.Audit.Follow(c.R.Context(), f, cursor, patience)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"value": shown(records), "skipToken": audit.Token(cursor), "caughtUp": caughtUp})
}

// auditEnd is the cursor behind the last record, and the records before it. The
// heads are read first: what is written between the two reads is shown by the
// next answer and left out of this one.
func (h *Handler) auditEnd(c *httpd.Call, f audit.Filter, last bool) error {
	heads, err := h.cfg.Audit.Heads(c.R.Context())
	if err != nil {
		return err
	}
	cursor := audit.Cursor{}
	for _, head := range heads {
		cursor[head.Writer] = head.Sequence
	}
	records := []audit.Record{}
	if last {
		newest, err := h.cfg.Audit.Records(c.R.Context(), f)
		if err != nil {
			return err
		}
		for i := len(newest) - 1; i >= 0; i-- {
			if r := newest[i]; r.Sequence <= cursor[r.Writer] {
				records = append(records, r)
			}
		}
	}
	return c.JSON(http.StatusOK, map[string]any{"value": records, "skipToken": audit.Token(cursor), "caughtUp": true})
}

func (h *Handler) auditProof(c *httpd.Call) error {
	p, err := h.cfg.Audit.Proof(c.R.Context())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, p)
}

// verifyAudit walks the whole chain. A broken chain is an answer, not an error:
// the caller asked whether it holds.
func (h *Handler) verifyAudit(c *httpd.Call) error {
	verdict, err := h.cfg.Audit.Verify(c.R.Context())
	var broken *audit.Broken
	if err != nil && !errors.As(err, &broken) {
		return err
	}
	out := map[string]any{"ok": err == nil, "records": verdict.Records, "writer": "", "head": "", "message": "every record is in its place and unaltered",
		"chains": verdict.Heads, "witnessed": verdict.Compared, "notes": verdict.Notes}
	var starts []map[string]any
	for _, s := range verdict.Starts {
		starts = append(starts, map[string]any{"writer": s.Writer, "firstRecord": s.Sequence, "checkpoint": s.Checkpoint.Sequence, "deletedBefore": s.Checkpoint.Before, "checkpointTime": s.Checkpoint.Time})
	}
	out["startsAt"] = starts
	if broken != nil {
		out["message"], out["firstBad"] = broken.Error(), map[string]any{"writer": broken.Writer, "sequence": broken.Sequence}
	}
	if n := len(verdict.Heads); n > 0 {
		out["writer"], out["head"] = verdict.Heads[n-1].Writer, verdict.Heads[n-1].Hash
	}
	return c.JSON(http.StatusOK, out)
}

func (h *Handler) auditRetention(c *httpd.Call) error {
	days, err := h.cfg.Retention.Retention(c.R.Context())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"days": days, "forEver": days == 0})
}

func (h *Handler) setAuditRetention(c *httpd.Call) error {
	if err := h.cfg.Engine.Authorize(c.R.Context(), c.By, keepAudit, h.auditScope()); err != nil {
		return err
	}
	var body struct {
		Days    *int  `json:"days"`
		ForEver *bool `json:"forEver"` // an echo
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	if body.Days == nil || *body.Days != 0 && (*body.Days < leastDays || *body.Days > mostDays) {
		return fault.New(fault.Invalid, "InvalidRetention", "audit records are kept for ever (0) or for %d to %d days", leastDays, mostDays).WithTarget("days")
	}
	if body.ForEver != nil && *body.ForEver != (*body.Days == 0) {
		return fault.New(fault.Invalid, "InvalidRetention", "forEver says something other than days, where 0 is for ever").WithTarget("forEver")
	}
	if err := h.cfg.Retention.SetRetention(c.R.Context(), c.By, *body.Days); err != nil {
		return err
	}
	return h.auditRetention(c)
}
