// Command gen writes the Go code of the .proto files. It compiles them with
// protocompile and hands the result to protoc-gen-go, so that nothing but the Go
// module proxy is needed.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/pluginpb"
)

const goPackage = "weir.test/interop/internal/pb;pb"

var sources = []string{"agent.proto", "boundary.proto"}

func main() {
	protoDir := flag.String("proto", "proto", "directory of the .proto files")
	out := flag.String("out", ".", "directory of the generated files")
	flag.Parse()
	files, err := generate(*protoDir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(*out, name), content, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "gen:", err)
			os.Exit(1)
		}
	}
}

// generate returns the generated files by name.
func generate(protoDir string) (map[string][]byte, error) {
	request, err := request(protoDir)
	if err != nil {
		return nil, err
	}
	input, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	plugin := exec.Command("go", "run", "google.golang.org/protobuf/cmd/protoc-gen-go")
	plugin.Stdin, plugin.Stderr = bytes.NewReader(input), os.Stderr
	output, err := plugin.Output()
	if err != nil {
		return nil, fmt.Errorf("protoc-gen-go: %w", err)
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(output, &response); err != nil {
		return nil, err
	}
	if response.Error != nil {
		return nil, fmt.Errorf("protoc-gen-go: %s", response.GetError())
	}
	files := make(map[string][]byte)
	for _, file := range response.File {
		files[filepath.Base(file.GetName())] = []byte(file.GetContent())
	}
	return files, nil
}

// request is what protoc would send to its plugin: the compiled files, each after
// everything that it imports.
func request(protoDir string) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(
			&protocompile.SourceResolver{ImportPaths: []string{protoDir}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := compiler.Compile(context.Background(), sources...)
	if err != nil {
		return nil, err
	}
	parameter := ""
	for _, source := range sources {
		parameter += fmt.Sprintf("M%s=%s,", source, goPackage)
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: sources, Parameter: &parameter}
	seen := make(map[string]bool)
	var add func(protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		for i := 0; i < file.Imports().Len(); i++ {
			add(file.Imports().Get(i).FileDescriptor)
		}
		request.ProtoFile = append(request.ProtoFile, protoutil.ProtoFromFileDescriptor(file))
	}
	for _, file := range compiled {
		add(file)
	}
	return request, nil
}
