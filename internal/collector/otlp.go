package collector

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/audit"
)

// OTLP sends records as OpenTelemetry logs: OTLP/HTTP 1 with JSON bodies
// (opentelemetry.io/docs/specs/otlp, and the JSON mapping of
// opentelemetry-proto: lower camel case, 64-bit integers as texts).
type OTLP struct {
	url    string
	header http.Header
	client *http.Client
	// rejected is told of records that the collector took the request for and
	// did not keep.
	rejected func(n int64, why string)
}

// maxAnswer bounds what is read of a collector's answer.
const maxAnswer = 64 << 10

// NewOTLP checks the address, an https (or loopback http) URL such as
// https://collector:4318/v1/logs. header is sent with each request, for the
// collector's own authentication.
func NewOTLP(address string, header http.Header, roots *x509.CertPool, rejected func(n int64, why string)) (*OTLP, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !(u.Scheme == "http" && (u.Hostname() == "127.0.0.1" || u.Hostname() == "::1" || u.Hostname() == "localhost")) {
		return nil, errors.New("it is no https URL such as https://collector:4318/v1/logs; http reaches this computer only")
	}
	return &OTLP{url: u.String(), header: header, rejected: rejected, client: &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the header is for this address
	}}, nil
}

// refusal is an answer that is no success.
type refusal struct{ status int }

func (r refusal) Error() string {
	return fmt.Sprintf("the collector answered with status %d", r.status)
}

// Send posts the records. A request that the collector calls malformed or too
// large is sent in halves; a single record that it refuses so is counted as
// rejected, because no repetition would change its mind. Any other failure is
// an error, and the records wait.
func (o *OTLP) Send(ctx context.Context, records []audit.Record) error {
	err := o.post(ctx, records)
	var r refusal
	if !errors.As(err, &r) || r.status != http.StatusBadRequest && r.status != http.StatusRequestEntityTooLarge {
		return err
	}
	if len(records) == 1 {
		o.rejected(1, fmt.Sprintf("record %s/%d: %v", records[0].Writer, records[0].Sequence, err))
		return nil
	}
	half := len(records) / 2
	if err := o.Send(ctx, records[:half]); err != nil {
		return err
	}
	return o.Send(ctx, records[half:])
}

func (o *OTLP) post(ctx context.Context, records []audit.Record) error {
	body, err := encodeLogs(records)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	maps.Copy(req.Header, o.header)
	req.Header.Set("Content-Type", "application/json")
	res, err := o.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return refusal{res.StatusCode}
	}
	var partial struct {
		PartialSuccess struct {
			Rejected json.RawMessage `json:"rejectedLogRecords"` // a text or a number
			Message  string          `json:"errorMessage"`
		} `json:"partialSuccess"`
	}
	if json.Unmarshal(answer, &partial) == nil {
		if n, err := strconv.ParseInt(strings.Trim(string(partial.PartialSuccess.Rejected), `"`), 10, 64); err == nil && n > 0 {
			o.rejected(n, partial.PartialSuccess.Message)
		}
	}
	return nil
}

// The messages of opentelemetry/proto/logs/v1/logs.proto that are used here.
type (
	logsRequest struct {
		ResourceLogs []resourceLogs `json:"resourceLogs"`
	}
	resourceLogs struct {
		Resource  resource    `json:"resource"`
		ScopeLogs []scopeLogs `json:"scopeLogs"`
	}
	resource struct {
		Attributes []keyValue `json:"attributes"`
	}
	scopeLogs struct {
		Scope      scopeName   `json:"scope"`
		LogRecords []logRecord `json:"logRecords"`
	}
	scopeName struct {
		Name string `json:"name"`
	}
	logRecord struct {
		TimeUnixNano         string     `json:"timeUnixNano"`
		ObservedTimeUnixNano string     `json:"observedTimeUnixNano"`
		SeverityNumber       int        `json:"severityNumber"`
		SeverityText         string     `json:"severityText"`
		Body                 anyValue   `json:"body"`
		Attributes           []keyValue `json:"attributes"`
		EventName            string     `json:"eventName"`
	}
	keyValue struct {
		Key   string   `json:"key"`
		Value anyValue `json:"value"`
	}
	anyValue struct {
		Text    string  `json:"stringValue,omitempty"`
		Integer *string `json:"intValue,omitempty"`
	}
)

func text(key, value string) keyValue { return keyValue{Key: key, Value: anyValue{Text: value}} }

// encodeLogs makes the body of a request: the record as JSON is the body of the
// log record, so that a chain can be verified from what was collected; what
// people search by is beside it.
func encodeLogs(records []audit.Record) ([]byte, error) {
	out := scopeLogs{Scope: scopeName{Name: "sallyport.audit"}, LogRecords: make([]logRecord, 0, len(records))}
	for _, r := range records {
		body, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		at, sequence := strconv.FormatInt(r.Time.UnixNano(), 10), strconv.FormatInt(r.Sequence, 10)
		l := logRecord{TimeUnixNano: at, ObservedTimeUnixNano: at, SeverityNumber: 9, SeverityText: "INFO", Body: anyValue{Text: string(body)}, EventName: r.Type}
		switch r.Outcome {
		case audit.Denied:
			l.SeverityNumber, l.SeverityText = 13, "WARN"
		case audit.Failure:
			l.SeverityNumber, l.SeverityText = 17, "ERROR"
		case audit.Success:
		}
		for _, kv := range []keyValue{text("sallyport.type", r.Type), text("sallyport.outcome", string(r.Outcome)), text("sallyport.correlation_id", r.CorrelationID), text("sallyport.target", r.Target),
			text("user.id", r.Principal), text("user.name", r.PrincipalName), text("client.address", r.Address), text("sallyport.writer", r.Writer)} {
			if kv.Value.Text != "" {
				l.Attributes = append(l.Attributes, kv)
			}
		}
		l.Attributes = append(l.Attributes, keyValue{Key: "sallyport.sequence", Value: anyValue{Integer: &sequence}})
		for _, k := range slices.Sorted(maps.Keys(r.Detail)) {
			if v := r.Detail[k]; v != "" {
				l.Attributes = append(l.Attributes, text("sallyport.detail."+k, v))
			}
		}
		out.LogRecords = append(out.LogRecords, l)
	}
	return json.Marshal(logsRequest{ResourceLogs: []resourceLogs{{Resource: resource{Attributes: []keyValue{text("service.name", "sallyport")}}, ScopeLogs: []scopeLogs{out}}}})
}
