package operations

import (
	"io"
	"net/http"
	"time"

	"sallyport/internal/fault"
	"sallyport/internal/httpd"
)

// Packages finds what stands at a path of the package repositories: its bytes,
// or an open file, which the caller closes; its media type; when it was made.
// It is nil on a server that hands out none.
type Packages func(path string) (content io.ReadSeeker, mediaType string, modified time.Time, err error)

// slowest is the rate, in bytes a second, at which a package must at least be
// taken: many times a slow line's, so that a stalled reader is let go.
const slowest = 16 << 10

// repository hands out packages and their indexes. Clients verify signature and
// hashes; parts of a file may be asked for (RFC 9110 section 14).
func (h *Handler) repository(c *httpd.Call) error {
	if h.packages == nil {
		return fault.New(fault.NotFound, "NoRepository", "this server hands out no packages").WithRemedy("Its administrator gives it a folder of packages: sally server run --packages FOLDER")
	}
	content, kind, modified, err := h.packages(c.Var("path"))
	if err != nil {
		return err
	}
	if closer, ok := content.(io.Closer); ok {
		defer func() { _ = closer.Close() }()
	}
	size, err := content.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	header := c.W.Header()
	header.Set("Content-Type", kind)
	header.Set("Cache-Control", "no-cache") // what is held may be used once it was asked for
	http.ServeContent(&patient{ResponseWriter: c.W, until: time.Duration(size/slowest+1) * time.Second}, c.R, "", modified, content)
	return nil
}

// patient gives a large answer more time than others have.
type patient struct {
	http.ResponseWriter
	until time.Duration
}

// answerTime is what every answer has (package httpd).
const answerTime = time.Minute

// WriteHeader sets the time within which the whole answer must be taken.
func (p *patient) WriteHeader(status int) {
	p.ResponseWriter.WriteHeader(status)
	if p.until > answerTime {
		// A writer without deadlines (a test's) says so, which changes nothing.
		_ = http.NewResponseController(p.ResponseWriter).SetWriteDeadline(time.Now().Add(p.until))
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (p *patient) Unwrap() http.ResponseWriter { return p.ResponseWriter }
