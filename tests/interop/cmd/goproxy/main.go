// Command goproxy is a boundary log proxy that behaves as the Go agent's does: the
// baseline of the benchmarks. See the README of this module.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"weir.test/interop/internal/logproxy"
	"weir.test/interop/internal/peer"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "goproxy:", err)
		os.Exit(1)
	}
}

func run() error {
	var (
		url         = flag.String("url", "", "URL of the server")
		token       = flag.String("token", "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d", "agent token")
		socket      = flag.String("socket", "", "path of the Unix socket")
		prometheus  = flag.String("prometheus-address", "127.0.0.1:0", "address of the metrics; empty for none")
		verbose     = flag.Bool("verbose", false, "log warnings")
		ignoreStdin = flag.Bool("ignore-stdin", false, "do not exit when stdin closes")
	)
	flag.Parse()
	if *url == "" || *socket == "" {
		return errors.New("-url and -socket are required")
	}
	logger := log.New(io.Discard, "", 0)
	if *verbose {
		logger = log.New(os.Stderr, "goproxy: ", log.Lmicroseconds)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if !*ignoreStdin {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop()
		}()
	}
	proxy, err := logproxy.Listen(*socket, logger)
	if err != nil {
		return err
	}
	defer proxy.Close()
	ready := struct {
		Ready      bool    `json:"ready"`
		Socket     string  `json:"socket"`
		Prometheus *string `json:"prometheus"`
	}{Ready: true, Socket: *socket}
	if *prometheus != "" {
		listener, err := net.Listen("tcp", *prometheus)
		if err != nil {
			return err
		}
		address := listener.Addr().String()
		ready.Prometheus = &address
		go func() {
			if err := http.Serve(listener, proxy); err != nil {
				logger.Printf("metrics: %v", err)
			}
		}()
	}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	// The agent asks for 2.11 and is monitored; a role of its own keeps the
	// monitor's pings out of the measurement.
	proxy.Forward(ctx, peer.Options{URL: *url, Token: *token, Version: "2.11", Role: "goproxy"})
	return nil
}
