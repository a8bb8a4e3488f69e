// SPDX-License-Identifier: Apache-2.0

// Protogen compiles .proto files, without protoc, and runs generator plugins on them: protogen [-connect] FILE...
// It writes beside each file. Run it from the repository's root; the plugins come from this module's tools.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("protogen: ")
	connect := flag.Bool("connect", false, "also generate Connect clients and handlers")
	flag.Parse()
	plugins := []string{"protoc-gen-go"}
	if *connect {
		plugins = append(plugins, "protoc-gen-connect-go")
	}
	for _, file := range flag.Args() {
		for _, plugin := range plugins {
			if err := generate(context.Background(), plugin, file); err != nil {
				log.Fatalf("%s: %s: %v", file, plugin, err)
			}
		}
	}
}

// generate runs one plugin on one file and writes what it answers beside the file.
func generate(ctx context.Context, plugin, file string) error {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(ctx, file)
	if err != nil {
		return err
	}
	parameter := "paths=source_relative"
	if plugin == "protoc-gen-connect-go" {
		parameter += ",package_suffix,simple=false" // in the package of the messages
	}
	request, err := proto.Marshal(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{file},
		Parameter:      &parameter,
		ProtoFile:      []*descriptorpb.FileDescriptorProto{protoutil.ProtoFromFileDescriptor(files[0])},
	})
	if err != nil {
		return err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "tool", "-modfile=tools/proto/go.mod", plugin)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(request), &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out.Bytes(), &response); err != nil {
		return fmt.Errorf("its answer: %w", err)
	}
	if response.Error != nil {
		return errors.New(response.GetError())
	}
	for _, f := range response.GetFile() {
		if err := os.WriteFile(filepath.FromSlash(f.GetName()), []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
