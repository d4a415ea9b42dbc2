// Command registry is the test cluster's image registry, and the tool that fills it.
//
// It answers for every registry name: containerd is told to ask it for docker.io, quay.io and the
// rest, and the name it was asked under only shows as the query parameter ns. So a repository here
// is the path alone, and docker.io/library/app and quay.io/library/app are the same one.
package main

import (
	"fmt"
	"os"
)

const usage = `usage:
  registry serve --storage DIR --access-log FILE --listen ADDRESS [--listen ADDRESS...]
  registry push --registry ADDRESS [--seed S] [--binary FILE] NAME SIZE
  registry push --registry ADDRESS --archive FILE NAME
  registry tag --registry ADDRESS NAME NEWNAME
`

func main() {
	if len(os.Args) < 2 {
		fail(2, usage)
	}

	var err error
	switch command, args := os.Args[1], os.Args[2:]; command {
	case "serve":
		err = serve(args)
	case "push":
		err = push(args)
	case "tag":
		err = tag(args)
	default:
		fail(2, usage)
	}

	switch err := err.(type) {
	case nil:
	case usageError:
		fail(2, "error: "+err.Error()+"\n")
	default:
		fail(1, "error: "+err.Error()+"\n")
	}
}

// A usageError is the caller's mistake, and not worth a second try.
type usageError struct{ message string }

func (e usageError) Error() string { return e.message }

func fail(code int, message string) {
	fmt.Fprint(os.Stderr, message)
	os.Exit(code)
}
