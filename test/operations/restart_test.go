//go:build e2e

package operations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestRestart_LosesNoRequest restarts a server whose socket is the service
// manager's under load: over HTTP/1.1 and HTTP/2, with connections that are
// kept and with a new one for each request, reads and sign-ins. Every request is
// answered with what it is answered with otherwise.
func TestRestart_LosesNoRequest(t *testing.T) {
	p := newProcess(t, "../../out/sally", "")
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
	if err != nil {
		t.Fatal(err)
	}
	if p.socket, err = l.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	_ = l.Close() // the copy stays
	t.Cleanup(func() { _ = p.socket.Close() })
	p.start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var load sync.WaitGroup
	var answered [3]atomic.Int64
	var mu sync.Mutex
	wrong := map[string]int{}
	for worker := range 12 {
		load.Go(func() {
			kind := worker % 3 // HTTP/1.1, HTTP/2, HTTP/1.1 with a new connection each
			c := client(1 + kind%2)
			c.Transport.(*http.Transport).DisableKeepAlives = kind == 2
			for n := 0; ctx.Err() == nil; n++ {
				if err := ask(c, p.url, (worker+n)%4 == 0); err != nil {
					mu.Lock()
					wrong[fmt.Sprintf("kind %d: %v", kind, err)]++
					mu.Unlock()
				}
				answered[kind].Add(1)
			}
		})
	}
	for range 3 {
		from := answered[0].Load() + answered[1].Load() + answered[2].Load()
		if err := until(20*time.Second, func() error {
			if answered[0].Load()+answered[1].Load()+answered[2].Load() < from+300 {
				return errors.New("the load does not run")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		p.stop(t)
		p.start(t)
	}
	cancel()
	load.Wait()
	for what, n := range wrong {
		t.Errorf("%d times %s", n, what)
	}
	t.Logf("answered over three restarts: HTTP/1.1 %d, HTTP/2 %d, new connections %d", answered[0].Load(), answered[1].Load(), answered[2].Load())
	for kind := range answered {
		if answered[kind].Load() < 30 {
			t.Errorf("kind %d was hardly tried", kind)
		}
	}
}

// ask sends one request; any answer but the usual one is an error.
func ask(c *http.Client, base string, signIn bool) error {
	var res *http.Response
	var err error
	want, word := http.StatusOK, "manifestKey"
	if signIn {
		want, word = http.StatusBadRequest, "AADSTS"
		res, err = c.PostForm(base+"/organizations/oauth2/v2.0/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {"04b07795-8ddb-461a-bbee-02f9e1bf7b46"}, "refresh_token": {"unknown"}, "scope": {"openid"}})
	} else {
		res, err = c.Get(base + "/.well-known/sallyport/manifest")
	}
	if err != nil {
		return errors.Unwrap(err) // without the address
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != want || !strings.Contains(string(body), word) {
		return fmt.Errorf("%d %.200s", res.StatusCode, body)
	}
	return nil
}
