// Command reference says what Kubernetes and the container runtimes make of names of images.
//
// It reads one JSON string a line and answers each with one JSON object a line. What decides is
// the packages themselves; only the few lines around them, of packages that bring half of
// Kubernetes along, are written anew here, and name what they stand for.
package main

import (
	"bufio"
	// A digest is known to the packages only if its algorithm is in the program. The kubelet and
	// containerd have all three of them.
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/distribution/reference"
	crio "go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/shortnames"
)

type answer struct {
	// Why the name is no reference; the fields below are empty then.
	Refused string `json:"refused"`
	// The name under which a node lists the image.
	Listed string `json:"listed"`
	// The pull policy that the API server gives a container without one.
	PullPolicy string `json:"pullPolicy"`
	// Whether the name says its registry to CRI-O; null where CRI-O has no use for the name.
	HasDomain *bool `json:"hasDomain"`
	// What people call the image by.
	LastComponent string `json:"lastComponent"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error: "+err.Error())
		os.Exit(1)
	}
}

func run() error {
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	out := bufio.NewWriter(os.Stdout)
	answers := json.NewEncoder(out)
	for {
		var name string
		if err := in.Decode(&name); errors.Is(err, io.EOF) {
			return out.Flush()
		} else if err != nil {
			return err
		}
		if err := answers.Encode(judge(name)); err != nil {
			return err
		}
	}
}

func judge(name string) answer {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return answer{Refused: err.Error()}
	}
	tag := tagOf(named)
	// containerd normalises what the kubelet hands it.
	listed, err := reference.ParseDockerRef(withDefaultTag(name, named, tag))
	if err != nil {
		return answer{Refused: err.Error()}
	}
	return answer{
		Listed:        listed.String(),
		PullPolicy:    pullPolicy(tag),
		HasDomain:     hasDomain(name),
		LastComponent: path.Base(reference.Path(named)),
	}
}

// tagOf stands for ParseImageName in pkg/util/parsers of Kubernetes.
func tagOf(named reference.Named) string {
	if tagged, ok := named.(reference.Tagged); ok {
		return tagged.Tag()
	}
	if reference.IsNameOnly(named) {
		return "latest"
	}
	return ""
}

// withDefaultTag stands for applyDefaultImageTag in pkg/kubelet/images, which leaves the name as
// its author wrote it.
func withDefaultTag(name string, named reference.Named, tag string) string {
	if reference.IsNameOnly(named) {
		return name + ":" + tag
	}
	return name
}

// pullPolicy stands for SetDefaults_Container in pkg/apis/core/v1 of Kubernetes.
func pullPolicy(tag string) string {
	if tag == "latest" {
		return "Always"
	}
	return "IfNotPresent"
}

func hasDomain(name string) *bool {
	// CRI-O's own parser knows no hosts in brackets, and counts the domain as a part of the length.
	if _, err := crio.Parse(name); err != nil {
		return nil
	}
	has := !shortnames.IsShortName(name)
	return &has
}
