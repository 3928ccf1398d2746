package graph

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"sallyport/internal/fault"
	"sallyport/internal/guid"
	"sallyport/internal/httpd"
)

// kind is the type of a property, for filters.
type kind uint8

const (
	other kind = iota // shown, not filtered by
	text
	boolean
	list
)

// entity describes one kind of object on the wire.
type entity struct {
	set      string          // "users", for @odata.context
	odata    string          // "#microsoft.graph.user"
	schema   map[string]kind // every property that can be selected
	defaults []string        // shown without $select; nil for all
}

const (
	defaultPage = 100
	maxPage     = 999
)

// query is the parsed query options of a list or a show.
type query struct {
	filter filter
	search string
	top    int
	after  string // object id behind which the page begins
	fields []string
	count  bool
	values url.Values
}

// parseQuery reads the OData options of a request. One that is not known is
// refused.
func parseQuery(c *httpd.Call, e entity) (query, error) {
	values, err := url.ParseQuery(c.R.URL.RawQuery)
	if err != nil {
		return query{}, badQuery("the query string cannot be read.")
	}
	q := query{top: defaultPage, fields: e.defaults, values: url.Values{}}
	for key, given := range values {
		if key = system(key); len(given) != 1 || q.values.Has(key) {
			return query{}, badQuery("the query option '%s' is given more than once.", bounded(key))
		}
		if c.Counted() && strings.HasPrefix(key, "$") && key != "$filter" && key != "$search" {
			return query{}, unsupported("the query option '%s' has no meaning for a number.", bounded(key))
		}
		q.values[key] = given
		if err := q.option(key, given[0], e); err != nil {
			return query{}, err
		}
	}
	q.count = q.count || c.Counted()
	return q, nil
}

// system is the name of a query option. Those of OData go without their dollar, too
// (OData 4.01 URL Conventions, section 5.1): not to read them would answer another
// question than was asked.
func system(key string) string {
	if slices.Contains([]string{"filter", "search", "top", "skip", "skiptoken", "select", "expand", "orderby", "count", "format", "apply", "compute"}, key) {
		return "$" + key
	}
	return key
}

// unasked refuses the query options of a write, which nobody reads.
func unasked(c *httpd.Call) error {
	values, err := url.ParseQuery(c.R.URL.RawQuery)
	if err != nil {
		return badQuery("the query string cannot be read.")
	}
	for key := range values {
		if strings.HasPrefix(system(key), "$") {
			return unsupported("the query option '%s' is not supported here.", bounded(key))
		}
	}
	return nil
}

func (q *query) option(key, value string, e entity) (err error) {
	switch key {
	case "$filter":
		q.filter, err = parseFilter(value, e.schema)
	case "$search":
		q.search, err = parseSearch(value)
	case "$top":
		if q.top, err = strconv.Atoi(value); err != nil || q.top < 1 || q.top > maxPage {
			err = badQuery("invalid page size specified: '%s'. Must be between 1 and %d inclusive.", bounded(value), maxPage)
		}
	case "$skiptoken", "$skipToken":
		raw, bad := base64.RawURLEncoding.DecodeString(value)
		id, ok := guid.Parse(string(raw))
		if bad != nil || !ok {
			return badQuery("the $skiptoken is not one that this server gave.")
		}
		q.after = id
	case "$select":
		q.fields, err = parseSelect(value, e)
	case "$count":
		if value != "true" && value != "false" {
			return badQuery("$count is true or false.")
		}
		q.count = value == "true"
	default:
		if strings.HasPrefix(key, "$") {
			return unsupported("the query option '%s' is not supported here.", bounded(key))
		}
	}
	return err
}

func badQuery(format string, args ...any) error {
	return fault.New(fault.Invalid, "Request_BadRequest", format, args...).WithRemedy("See the Microsoft Graph documentation of query parameters.")
}

func parseSelect(value string, e entity) ([]string, error) {
	var fields []string
	for _, f := range strings.Split(value, ",") {
		if f = strings.TrimSpace(f); f == "*" {
			return nil, nil
		}
		if _, ok := e.schema[f]; !ok {
			return nil, fault.New(fault.Invalid, "BadRequest", "parsing OData Select and Expand failed: could not find a property named '%s' on type '%s'.", bounded(f), strings.TrimPrefix(e.odata, "#")).
				WithTarget("$select").WithRemedy("Leave it out.")
		}
		if !slices.Contains(fields, f) { // thousands of times the same one would be shown as often, of each object
			fields = append(fields, f)
		}
	}
	return fields, nil
}

// parseSearch reads "displayName:TEXT" in double quotes; it is the one form of
// $search that Graph documents for directory objects.
func parseSearch(value string) (string, error) {
	inner, ok := strings.CutPrefix(value, `"displayName:`)
	inner, ok2 := strings.CutSuffix(inner, `"`)
	if !ok || !ok2 || inner == "" || len(inner) > 256 || strings.Contains(inner, `"`) {
		return "", fault.New(fault.Invalid, "Request_UnsupportedQuery", "this $search is not supported.").WithTarget("$search").WithRemedy(`Search like this: $search="displayName:TEXT"`)
	}
	return strings.ToLower(inner), nil
}

func (q *query) matches(o object) bool {
	if q.search != "" {
		s, _ := o["displayName"].(string)
		if !strings.Contains(strings.ToLower(s), q.search) {
			return false
		}
	}
	return q.filter.holds == nil || q.filter.holds(o)
}

// project keeps the wanted properties.
func (q *query) project(o object) object {
	if q.fields == nil {
		return o
	}
	out := object{}
	for _, f := range q.fields {
		if v, ok := o[f]; ok {
			out[f] = v
		}
	}
	if t, ok := o["@odata.type"]; ok {
		out["@odata.type"] = t
	}
	return out
}

// context is the @odata.context of an answer.
func (h *Handler) context(suffix string) string {
	return h.cfg.URL + "/v1.0/$metadata#" + suffix
}

// created answers a POST.
func (h *Handler) created(c *httpd.Call, e entity, o object) error {
	q := query{fields: e.defaults}
	out := q.project(o)
	out["@odata.context"] = h.context(e.set + "/$entity")
	return c.JSON(201, out)
}

// show answers with one object.
func (h *Handler) show(c *httpd.Call, e entity, o object) error {
	if c.Counted() || c.Cast() != "" {
		return c.Nothing()
	}
	q, err := parseQuery(c, e)
	if err != nil {
		return err
	}
	for key := range q.values {
		if strings.HasPrefix(key, "$") && key != "$select" {
			return unsupported("the query option '%s' has no meaning for a single object.", bounded(key))
		}
	}
	out := q.project(o)
	out["@odata.context"] = h.context(e.set + "/$entity")
	return c.JSON(200, out)
}

// page collects one page out of objects that come in the order of their ids.
type page struct {
	q     query
	items []object
	total int
	last  string
	more  bool
	cast  string // the type that it holds, "" for whatever the list does
	spent int    // of costOfPage
	seen  string // the id of the object that was looked at last
}

// What a page may cost: a term of a filter for one object is one, and an object without
// any is some. A directory of a hundred thousand is looked through in one page with
// a filter of twenty terms; with the longest one, in some more pages.
const (
	costOfObject = 12
	costOfPage   = 3_200_000
)

// look pays for the next object, and reports whether it may be looked at.
func (p *page) look(id string) bool {
	if p.spent += costOfObject + p.q.filter.cost; p.spent > costOfPage {
		p.more, p.last = true, p.seen
		return false
	}
	p.seen = id
	return true
}

// add takes the next object and reports whether more are wanted.
func (p *page) add(id string, o object) bool {
	if !p.look(id) {
		return false
	}
	if !p.q.matches(o) {
		return true
	}
	p.total++
	if id <= p.q.after {
		return true
	}
	if len(p.items) == p.q.top {
		p.more = true
		return p.q.count // go on only to count
	}
	p.items, p.last = append(p.items, p.q.project(o)), id
	return true
}

// refused is why there is no answer: a number cannot go on in another page.
func (p *page) refused() error {
	if p.spent <= costOfPage || !p.q.count {
		return nil
	}
	return fault.New(fault.Invalid, "Request_UnsupportedQuery", "a filter of %d terms is too much work for a number over so many objects.", p.q.filter.cost).WithTarget("$filter").
		WithRemedy("Use fewer terms, or ask for the list without $count: it comes in pages.")
}

// start is where a walk may begin: counting needs everything.
func (q *query) start() string {
	if q.count {
		return ""
	}
	return q.after
}

// answer writes a page.
func (h *Handler) answer(c *httpd.Call, set string, p *page) error {
	if c.Cast() != p.cast {
		return c.Nothing()
	}
	if err := p.refused(); err != nil {
		return err
	}
	if c.Counted() {
		c.W.Header().Set("Content-Type", "text/plain")
		_, err := c.W.Write(strconv.AppendInt(nil, int64(p.total), 10))
		return err
	}
	out := object{"@odata.context": h.context(set), "value": p.items}
	if p.items == nil {
		out["value"] = []object{}
	}
	if p.q.count {
		out["@odata.count"] = p.total
	}
	if p.more {
		v := url.Values{}
		for key, given := range p.q.values {
			if key != "$skipToken" {
				v[key] = slices.Clone(given)
			}
		}
		v.Set("$skiptoken", base64.RawURLEncoding.EncodeToString([]byte(p.last)))
		out["@odata.nextLink"] = h.cfg.URL + c.R.URL.EscapedPath() + "?" + v.Encode()
	}
	return c.JSON(200, out)
}
