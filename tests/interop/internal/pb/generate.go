// Package pb is the generated code of proto/agent.proto and proto/boundary.proto.
package pb

//go:generate go run weir.test/interop/internal/gen -proto ../../../../proto -out .
