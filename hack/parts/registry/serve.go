package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

// serve runs the registry until it is killed.
func serve(args []string) error {
	var listen addresses
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	storage := flags.String("storage", "", "folder of the blobs")
	accessLogFile := flags.String("access-log", "", "file that gets one line a request")
	flags.Var(&listen, "listen", "host:port, may be given again")
	if err := flags.Parse(args); err != nil {
		return usageError{err.Error()}
	}
	if *storage == "" || *accessLogFile == "" || len(listen) == 0 || flags.NArg() > 0 {
		return usageError{"serve needs --storage, --access-log and --listen, and nothing else"}
	}

	registry, err := newRegistry(*storage)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(*accessLogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	handler := chain(registry, accessLog(log), faults, unavailable, private, slowBlobs)

	failed := make(chan error)
	for _, address := range listen {
		// Listening comes first for all of them, so that an address in use is known before any answer.
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		go func() { failed <- http.Serve(listener, handler) }()
	}
	return <-failed
}

func newRegistry(storage string) (http.Handler, error) {
	root, err := filepath.Abs(storage)
	if err != nil {
		return nil, err
	}
	config, err := configuration.Parse(strings.NewReader(fmt.Sprintf(`
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
  maintenance: {uploadpurging: {enabled: false}}
`, root)))
	if err != nil {
		return nil, err
	}
	return handlers.NewApp(context.Background(), config), nil
}

// addresses is a flag that may be given more than once.
type addresses []string

func (a *addresses) String() string { return strings.Join(*a, ",") }

func (a *addresses) Set(value string) error {
	*a = append(*a, value)
	return nil
}
