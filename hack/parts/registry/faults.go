package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A repository with a component such as fault-429 fails in that way for every node, until it has a
// tag of this name.
const mended = "mended"

var (
	faultyRepository = regexp.MustCompile(`^/v2/((?:.+/)?fault-([a-z0-9-]+)/.+)/(manifests|blobs)/`)
	tokenService     = regexp.MustCompile(`^/token/([0-9]+)$`)
)

// faultOf holds the faults by the words behind "fault-".
var faultOf = map[string]middleware{
	"401":       challenge(http.StatusOK),
	"401-token": challenge(http.StatusUnauthorized),
	"403":       status(http.StatusForbidden, "DENIED"),
	"404":       status(http.StatusNotFound, "MANIFEST_UNKNOWN"),
	"404-blobs": of(isBlob, status(http.StatusNotFound, "BLOB_UNKNOWN")),
	"429":       status(http.StatusTooManyRequests, "TOOMANYREQUESTS"),
	"429-get":   of(isGet, status(http.StatusTooManyRequests, "TOOMANYREQUESTS")),
	"500":       status(http.StatusInternalServerError, "UNKNOWN"),
	"500-token": challenge(http.StatusInternalServerError),
	"502":       status(http.StatusBadGateway, "UNKNOWN"),
	"504":       status(http.StatusGatewayTimeout, "UNKNOWN"),
	"digest":    ofLayers(changeBytes),
	"hang":      ofLayers(stop),
	"html":      page,
	"truncated": ofLayers(cutShort),
}

// faults lets repositories fail as their names ask for. Only nodes tell under which registry's name
// they ask (ns), so that whoever fills the registry meets no fault.
func faults(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if match := tokenService.FindStringSubmatch(r.URL.Path); match != nil {
			answerForToken(w, match[1])
			return
		}
		match := faultyRepository.FindStringSubmatch(r.URL.Path)
		if match == nil || !r.URL.Query().Has("ns") || hasTag(next, match[1], mended) {
			next.ServeHTTP(w, r)
			return
		}
		fault, known := faultOf[match[2]]
		if !known {
			http.Error(w, "there is no fault-"+match[2], http.StatusNotImplemented)
			return
		}
		fault(next).ServeHTTP(w, r)
	})
}

func hasTag(registry http.Handler, repository, tag string) bool {
	question := httptest.NewRequest(http.MethodHead, "/v2/"+repository+"/manifests/"+tag, nil)
	// The registry has none for those who do not say that they understand it.
	for _, it := range []types.MediaType{types.OCIManifestSchema1, types.OCIImageIndex} {
		question.Header.Add("Accept", string(it))
	}
	answer := httptest.NewRecorder()
	registry.ServeHTTP(answer, question)
	return answer.Code == http.StatusOK
}

// === Answers in place of the registry's ===

// status answers everything with a status, and says why in the words of the distribution
// specification.
func status(code int, word string) middleware {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			answerError(w, code, word)
		})
	}
}

func of(concerns func(*http.Request) bool, fault middleware) middleware {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if concerns(r) {
				fault(next).ServeHTTP(w, r)
			} else {
				next.ServeHTTP(w, r)
			}
		})
	}
}

// isGet: Docker Hub counts what is fetched, and not what is asked after.
func isGet(r *http.Request) bool { return r.Method == http.MethodGet }

func isBlob(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }

// challenge sends everybody to a token service, which answers with a status. A token that comes from
// there is refused: so does Docker Hub for what it has not, or does not show.
func challenge(code int) middleware {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			challenge := fmt.Sprintf(`Bearer realm="http://%s/token/%d",service="registry"`, r.Host, code)
			if strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
				challenge += `,error="insufficient_scope"`
			}
			w.Header().Set("WWW-Authenticate", challenge)
			answerError(w, http.StatusUnauthorized, "UNAUTHORIZED")
		})
	}
}

func answerForToken(w http.ResponseWriter, status string) {
	if code, err := strconv.Atoi(status); err == nil && code != http.StatusOK {
		answerError(w, code, "UNKNOWN")
		return
	}
	answer(w, http.StatusOK, `{"token": "of-no-use"}`)
}

// page answers as a proxy does that wants a login first.
func page(http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html><body>Please log in</body></html>")
	})
}

func answerError(w http.ResponseWriter, code int, word string) {
	if code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	answer(w, code, fmt.Sprintf(`{"errors": [{"code": %q, "message": "a fault that was asked for"}]}`, word))
}

func answer(w http.ResponseWriter, code int, document string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprint(w, document)
}

// === Layers that do not arrive as they should ===

// A spoiltLayer passes the bytes of a layer on as a fault has it; other blobs are small.
type spoiltLayer struct {
	http.ResponseWriter
	request *http.Request
	spoil   func(w *spoiltLayer, data []byte) (int, error)
	isLayer bool
	// What is still to be sent of a layer that does not come to its end.
	left int64
}

func ofLayers(spoil func(*spoiltLayer, []byte) (int, error)) middleware {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&spoiltLayer{ResponseWriter: w, request: r, spoil: spoil}, r)
		})
	}
}

func (w *spoiltLayer) WriteHeader(status int) {
	total, _ := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64)
	w.isLayer = w.request.Method == http.MethodGet && total > largestFastBlob
	// Who asks for the rest of a layer gets none of it.
	if status == http.StatusOK {
		w.left = total / 2
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *spoiltLayer) Write(data []byte) (int, error) {
	if !w.isLayer {
		return w.ResponseWriter.Write(data)
	}
	return w.spoil(w, data)
}

// changeBytes sends other bytes, as many as there are.
func changeBytes(w *spoiltLayer, data []byte) (int, error) {
	changed := make([]byte, len(data))
	for i, it := range data {
		changed[i] = ^it
	}
	return w.ResponseWriter.Write(changed)
}

// cutShort ends the connection in the middle of the layer.
func cutShort(w *spoiltLayer, data []byte) (int, error) {
	if n, err := w.sendFirstHalf(data); n == len(data) || err != nil {
		return n, err
	}
	panic(http.ErrAbortHandler)
}

// stop sends nothing more from the middle of the layer on, until the other side ends the connection.
// containerd 2.4 gives up on such a pull, but for ever waits for one of which it has written nothing
// yet, and it writes a mebibyte at a time: the layer has to be larger than two.
func stop(w *spoiltLayer, data []byte) (int, error) {
	if n, err := w.sendFirstHalf(data); n == len(data) || err != nil {
		return n, err
	}
	if err := http.NewResponseController(w.ResponseWriter).Flush(); err != nil {
		return 0, err
	}
	<-w.request.Context().Done()
	return 0, w.request.Context().Err()
}

// sendFirstHalf sends as much of the data as belongs to the first half of the layer.
func (w *spoiltLayer) sendFirstHalf(data []byte) (int, error) {
	n, err := w.ResponseWriter.Write(data[:min(int64(len(data)), w.left)])
	w.left -= int64(n)
	return n, err
}
