package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestGeneratedCodeIsCurrent(t *testing.T) {
	files, err := generate("../../../../proto")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(sources) {
		t.Fatalf("%d files generated, want %d", len(files), len(sources))
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("../pb", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("internal/pb/%s is stale: run go generate ./internal/pb", name)
		}
	}
}
