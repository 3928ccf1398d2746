package oauth_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkCertificate issues certificates over HTTPS by the refresh grant, each
// with its durable record, from 16 clients per processor.
func BenchmarkCertificate(b *testing.B) {
	w := newWorld(b)
	body := certForm(b, w.login(armScope).str("refresh_token")).Encode()
	transport, ok := w.server.Client().Transport.(*http.Transport)
	if !ok {
		b.Fatal("no transport")
	}
	transport.MaxIdleConnsPerHost = 64
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			res, err := w.server.Client().Post(w.server.URL+"/adfs/oauth2/token", "application/x-www-form-urlencoded", strings.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			if res.StatusCode != 200 {
				b.Error(res.Status)
			}
			_, _ = io.Copy(io.Discard, res.Body) // so that the connection is used again
			_ = res.Body.Close()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "certificates/s")
}
