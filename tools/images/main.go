// SPDX-License-Identifier: Apache-2.0

// Images makes Heddle's container images from prebuilt static binaries, without a container engine.
//
//	images [-save DIR] [-push [-kustomization FILE]] REFERENCE=BINARY...
//
// Each image is FROM scratch, non-root, and runs its one binary, as the Dockerfile's are.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/heddle-mesh/heddle/tools/images/image"
)

// user is who the images' programs run as; the proxy's traffic is told from the application's by it.
const user = "1337:1337"

func main() {
	log.SetFlags(0)
	log.SetPrefix("images: ")
	save := flag.String("save", "", "write REFERENCE's last part .tar into this folder")
	push := flag.Bool("push", false, "push to the reference's registry")
	kustomization := flag.String("kustomization", "", "write where each image was pushed into the images of this file")
	flag.Parse()
	if flag.NArg() == 0 || (*save == "" && !*push) {
		log.Fatal("usage: images [-save DIR] [-push] REFERENCE=BINARY...")
	}
	for _, arg := range flag.Args() {
		ref, binary, ok := strings.Cut(arg, "=")
		if !ok {
			log.Fatalf("%q: want REFERENCE=BINARY", arg)
		}
		if err := build(context.Background(), ref, binary, *save, *push, *kustomization); err != nil {
			log.Fatalf("%s: %v", ref, err)
		}
	}
}

func build(ctx context.Context, ref, binary, save string, push bool, kustomization string) error {
	program := "/" + filepath.Base(binary)
	img := image.Image{
		Reference: ref,
		Files:     map[string]string{program: binary},
		Entry:     []string{program},
		User:      user,
		Labels:    map[string]string{"org.opencontainers.image.source": "https://github.com/heddle-mesh/heddle", "org.opencontainers.image.licenses": "Apache-2.0"},
	}
	if save != "" {
		if err := os.MkdirAll(save, 0o755); err != nil {
			return err
		}
		base, _, _ := strings.Cut(path.Base(ref), ":")
		file := filepath.Join(save, base+".tar")
		if err := img.Write(file); err != nil {
			return err
		}
		fmt.Println(file)
	}
	if !push {
		return nil
	}
	pushed, err := img.Push(ctx)
	if err != nil {
		return err
	}
	fmt.Println(pushed)
	if kustomization == "" {
		return nil
	}
	return setImage(kustomization, pushed)
}
