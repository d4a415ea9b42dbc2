package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// A middleware changes what a client of the registry sees. Each does one thing, and serve.go lists
// those in use: a new fault (a status, a cut body) is one more function of this type.
type middleware func(http.Handler) http.Handler

// chain puts the middlewares around the handler; the first of them sees a request first.
func chain(handler http.Handler, middlewares ...middleware) http.Handler {
	for i := len(middlewares) - 1; i >= 0; i-- {
		handler = middlewares[i](handler)
	}
	return handler
}

// === Access log ===

// An access is one line of the access log. A node is known by its address, From.
type access struct {
	Time    time.Time `json:"time"`
	From    string    `json:"from"`
	Method  string    `json:"method"`
	Path    string    `json:"path"`
	Status  int       `json:"status"`
	Bytes   int64     `json:"bytes"`
	Seconds float64   `json:"seconds"`
	Agent   string    `json:"agent"`
}

// accessLog writes a line when a request has ended, also when the client went away in the middle:
// the bytes are those that were sent.
func accessLog(out io.Writer) middleware {
	var mutex sync.Mutex
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)

	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			start := time.Now()
			counter := &countingWriter{ResponseWriter: w}
			// An aborted answer leaves by a panic, and is a request like any other.
			defer func() {
				from, _, _ := net.SplitHostPort(r.RemoteAddr)
				mutex.Lock()
				defer mutex.Unlock()
				_ = encoder.Encode(access{
					Time:    start.UTC(),
					From:    from,
					Method:  r.Method,
					Path:    r.RequestURI,
					Status:  counter.status,
					Bytes:   counter.bytes,
					Seconds: time.Since(start).Seconds(),
					Agent:   r.UserAgent(),
				})
			}()
			next.ServeHTTP(counter, r)
		})
	}
}

type countingWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *countingWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(data []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(data)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the real writer, to flush it.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// === Repositories that refuse ===

var (
	unavailableRepository = regexp.MustCompile(`^/v2/(?:.+/)?unavailable/`)
	privateRepository     = regexp.MustCompile(`^/v2/(?:.+/)?private/`)
)

// What a private repository wants to hear.
const (
	user     = "prepull"
	password = "secret"
)

// unavailable answers as a registry does that is overloaded or being restarted.
func unavailable(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if unavailableRepository.MatchString(r.URL.Path) {
			http.Error(w, "come back later", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// private asks for a password where the repository has a component of that name.
func private(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		givenUser, givenPassword, _ := r.BasicAuth()
		if privateRepository.MatchString(r.URL.Path) && (givenUser != user || givenPassword != password) {
			w.Header().Set("WWW-Authenticate", `Basic realm="prepull"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// authorized gives the password to whatever is asked, for those who fill the registry.
type authorized struct{ http.RoundTripper }

func (a authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.SetBasicAuth(user, password)
	return a.RoundTripper.RoundTrip(r)
}

// === Slow blobs ===

var slowBlob = regexp.MustCompile(`^/v2/(?:.+/)?slow-([0-9]+)s/(?:.+/)?blobs/`)

const (
	// Configs and other small blobs are let through at once: the layer alone is meant to be slow.
	largestFastBlob = 64 * 1024
	// containerd gives up on a pull that makes no progress, so the bytes must keep coming.
	slowTick = 50 * time.Millisecond
)

// slowBlobs spreads each large blob of a repository such as slow-20s/app evenly over its seconds.
func slowBlobs(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		match := slowBlob.FindStringSubmatch(r.URL.Path)
		if match == nil || r.Method != http.MethodGet {
			next.ServeHTTP(w, r)
			return
		}
		seconds, err := strconv.Atoi(match[1])
		if err != nil {
			http.Error(w, "slow-"+match[1]+"s is no number of seconds", http.StatusBadRequest)
			return
		}
		next.ServeHTTP(&pacedWriter{
			ResponseWriter: w,
			request:        r,
			duration:       time.Duration(seconds) * time.Second,
		}, r)
	})
}

// A pacedWriter keeps the bytes written in step with the clock.
type pacedWriter struct {
	http.ResponseWriter
	request  *http.Request
	duration time.Duration

	start time.Time
	total int64
	sent  int64
}

func (w *pacedWriter) Write(data []byte) (int, error) {
	if w.start.IsZero() {
		w.start = time.Now()
		w.total, _ = strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64)
	}
	if w.total <= largestFastBlob || w.duration == 0 {
		return w.ResponseWriter.Write(data)
	}

	chunk := max(1, int(w.total*int64(slowTick)/int64(w.duration)))
	written := 0
	for written < len(data) {
		n, err := w.ResponseWriter.Write(data[written:min(len(data), written+chunk)])
		written += n
		w.sent += int64(n)
		if err != nil {
			return written, err
		}
		if err := w.waitForClock(); err != nil {
			return written, err
		}
	}
	return written, nil
}

// waitForClock returns when as much time has passed as the bytes sent are worth.
func (w *pacedWriter) waitForClock() error {
	share := float64(w.sent) / float64(w.total)
	ahead := time.Until(w.start.Add(time.Duration(share * float64(w.duration))))
	if ahead < slowTick/2 {
		return nil
	}
	if err := http.NewResponseController(w.ResponseWriter).Flush(); err != nil {
		return err
	}
	select {
	case <-time.After(ahead):
		return nil
	case <-w.request.Context().Done():
		return w.request.Context().Err()
	}
}
