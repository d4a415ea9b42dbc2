package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// push makes an image from nothing, or takes one from an archive, and prints its digest reference.
func push(args []string) error {
	flags := flag.NewFlagSet("push", flag.ContinueOnError)
	address := flags.String("registry", "", "host:port of the registry")
	seed := flags.String("seed", "", "another seed makes other content under the same name")
	binary := flags.String("binary", "", "file that becomes /app and the entrypoint")
	archive := flags.String("archive", "", "OCI archive to push as it is")
	names, err := parse(flags, args)
	if err != nil {
		return err
	}

	if *archive != "" {
		if len(names) != 1 || *binary != "" || *seed != "" {
			return usageError{"push --archive takes a name and nothing else"}
		}
		return pushArchive(*address, names[0], *archive)
	}

	if len(names) != 2 {
		return usageError{"push takes a name and a size, such as: push app1:1 20MB"}
	}
	size, err := parseSize(names[1])
	if err != nil {
		return err
	}
	image, err := imageFromNothing(names[0], *seed, size, *binary)
	if err != nil {
		return err
	}
	return upload(*address, names[0], image)
}

// pushArchive unpacks first, because the library reads OCI layouts from folders only.
func pushArchive(address, text, archive string) error {
	folder, err := os.MkdirTemp("", "prepull-archive-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := unpack(archive, folder); err != nil {
		return fmt.Errorf("cannot unpack `%s`: %w", archive, err)
	}
	image, err := imageIn(folder)
	if err != nil {
		return fmt.Errorf("cannot read `%s` as an OCI archive: %w", archive, err)
	}
	return upload(address, text, image)
}

// tag gives an image that is in the registry one more name.
func tag(args []string) error {
	flags := flag.NewFlagSet("tag", flag.ContinueOnError)
	address := flags.String("registry", "", "host:port of the registry")
	names, err := parse(flags, args)
	if err != nil {
		return err
	}
	if len(names) != 2 {
		return usageError{"tag takes a name and a new name"}
	}

	_, from, err := parseName(*address, names[0])
	if err != nil {
		return err
	}
	descriptor, err := remote.Get(from, withPassword)
	if err != nil {
		return err
	}
	if descriptor.MediaType.IsIndex() {
		index, err := descriptor.ImageIndex()
		if err != nil {
			return err
		}
		return upload(*address, names[1], index)
	}
	image, err := descriptor.Image()
	if err != nil {
		return err
	}
	return upload(*address, names[1], image)
}

// parse lets flags stand before, between and after the names.
func parse(flags *flag.FlagSet, args []string) (names []string, err error) {
	flags.SetOutput(io.Discard)
	for {
		if err := flags.Parse(args); err != nil {
			return nil, usageError{err.Error()}
		}
		if flags.NArg() == 0 {
			break
		}
		names, args = append(names, flags.Arg(0)), flags.Args()[1:]
	}
	if flags.Lookup("registry").Value.String() == "" {
		return nil, usageError{"--registry is missing"}
	}
	return names, nil
}

var withPassword = remote.WithTransport(authorized{remote.DefaultTransport})

// upload pushes an image or an index and prints its digest reference under its own name.
func upload(address, text string, it remote.Taggable) error {
	full, here, err := parseName(address, text)
	if err != nil {
		return err
	}
	var digest v1.Hash
	switch it := it.(type) {
	case v1.ImageIndex:
		if err := remote.WriteIndex(here, it, withPassword); err != nil {
			return err
		}
		digest, err = it.Digest()
	case v1.Image:
		if err := remote.Write(here, it, withPassword); err != nil {
			return err
		}
		digest, err = it.Digest()
	}
	if err != nil {
		return err
	}
	// The library calls Docker's registry by the host that serves it; everything else does not.
	fmt.Printf("%s@%s\n", strings.Replace(full.Context().Name(), "index.docker.io/", "docker.io/", 1), digest)
	return nil
}

// parseName returns the reference as the user wrote it, completed, and the same one in our registry.
func parseName(address, text string) (full, here name.Reference, err error) {
	full, err = name.ParseReference(text)
	if err != nil {
		return nil, nil, usageError{fmt.Sprintf("`%s` is no image name: %v", text, err)}
	}
	repository, err := name.NewRepository(address+"/"+full.Context().RepositoryStr(), name.Insecure)
	if err != nil {
		return nil, nil, usageError{fmt.Sprintf("`%s` is no image name: %v", text, err)}
	}
	if digest, ok := full.(name.Digest); ok {
		return full, repository.Digest(digest.DigestStr()), nil
	}
	return full, repository.Tag(full.Identifier()), nil
}

// === Images ===

// imageFromNothing depends on its arguments alone, so that pushing again changes nothing.
func imageFromNothing(text, seed string, size int64, binary string) (v1.Image, error) {
	var layers []v1.Layer
	if size > 0 {
		random := rand.NewChaCha8(sha256.Sum256([]byte(text + "\x00" + seed)))
		layer, err := layerOf("data-"+unsafeInFile.ReplaceAllString(text, "_"), 0o644, size, random)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	config := v1.Config{}
	if binary != "" {
		data, err := os.ReadFile(binary)
		if err != nil {
			return nil, err
		}
		layer, err := layerOf("app", 0o755, int64(len(data)), bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
		config.Entrypoint = []string{"/app"}
	}

	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	image, err := mutate.ConfigFile(image, &v1.ConfigFile{
		Architecture: "amd64",
		OS:           "linux",
		Config:       config,
		RootFS:       v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(image, layers...)
}

var unsafeInFile = regexp.MustCompile(`[^a-zA-Z0-9._-]`)

// layerOf is a layer with one file in it.
func layerOf(file string, mode, size int64, content io.Reader) (v1.Layer, error) {
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	header := &tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: mode, Size: size}
	if err := writer.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := io.CopyN(writer, content, size); err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer),
		tarball.WithCompressionLevel(gzip.BestSpeed),
		tarball.WithCompressedCaching,
	)
}

// imageIn returns the one image, or the one index, that an OCI layout holds.
func imageIn(folder string) (remote.Taggable, error) {
	top, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		return nil, err
	}
	manifest, err := top.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("it holds %d images, not one", len(manifest.Manifests))
	}
	only := manifest.Manifests[0]
	if only.MediaType.IsIndex() {
		return top.ImageIndex(only.Digest)
	}
	return top.Image(only.Digest)
}

func unpack(file, folder string) error {
	archive, err := os.Open(file)
	if err != nil {
		return err
	}
	defer archive.Close()
	reader := tar.NewReader(archive)
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg || !filepath.IsLocal(header.Name) {
			continue
		}
		path := filepath.Join(folder, header.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		out, err := os.Create(path)
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, reader); err != nil {
			return err
		}
		if err := out.Close(); err != nil {
			return err
		}
	}
}

// === Sizes ===

// parseSize reads 64KB, 20MB, 1GB or a number of bytes; the units are powers of 1024.
func parseSize(text string) (int64, error) {
	digits, unit := text, int64(1)
	for i, suffix := range []string{"KB", "MB", "GB"} {
		if rest, found := strings.CutSuffix(strings.ToUpper(text), suffix); found {
			digits, unit = rest, int64(1)<<(10*(i+1))
		}
	}
	number, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || number < 0 || number > (64<<30)/unit {
		return 0, usageError{fmt.Sprintf("`%s` is no size; write 64KB, 20MB or a number of bytes", text)}
	}
	return number * unit, nil
}
