// Command agent is the agent's side of the connection, on the libraries of the Go
// agent: it checks a control plane, loads it, holds connections open, makes the
// calls it is told to, or abuses it.
// See the README of this module.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"weir.test/interop/internal/agent"
	"weir.test/interop/internal/hostile"
	"weir.test/interop/internal/peer"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func run() error {
	var (
		url          = flag.String("url", "", "URL of the control plane")
		token        = flag.String("token", "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d", "agent token")
		version      = flag.String("version", "2.11", "API version to ask for")
		role         = flag.String("role", "agent", "role to connect as")
		transport    = flag.String("transport", "websocket", "websocket or grpc")
		insecure     = flag.Bool("insecure", false, "accept any certificate")
		mode         = flag.String("mode", "script", "script, load, idle, calls, swarm or hostile")
		streams      = flag.Int("streams", 50, "script: calls at once")
		seconds      = flag.Float64("seconds", 5, "load, swarm: how long")
		lanes        = flag.Int("lanes", 4, "load: requests in flight, each of its own session")
		requestBytes = flag.Int("request-bytes", 1<<20, "load: size of a request")
		urlBytes     = flag.Int("url-bytes", 180, "load: length of each URL")
		connections  = flag.Int("connections", 1000, "idle, swarm: how many")
		series       = flag.Int("series", 60, "swarm: series in each report")
		every        = flag.Duration("every", time.Second, "swarm: from report to report")
		dials        = flag.Int("dials", 1000, "hostile: dials with a wrong token")
		halfOpen     = flag.Int("half-open", 200, "hostile: connections that say nothing")
	)
	flag.Parse()
	if *url == "" {
		return errors.New("-url is required")
	}
	options := peer.Options{
		URL: *url, Token: *token, Version: *version, Role: *role, Transport: *transport, Insecure: *insecure,
	}
	overGRPC := *transport == peer.OverGRPC
	if *insecure {
		options.HTTP = &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		}}
	}
	results := agent.NewResults(os.Stdout)
	switch *mode {
	case "script":
		if overGRPC {
			agent.ScriptGRPC(results, options, *streams)
		} else {
			agent.Script(results, options, *streams)
		}
	case "hostile":
		if overGRPC {
			hostile.RunGRPC(results, options, *dials, *halfOpen)
		} else {
			hostile.Run(results, options, *dials, *halfOpen)
		}
	case "load":
		result, err := agent.Load(context.Background(), options,
			time.Duration(*seconds*float64(time.Second)), *lanes, *requestBytes, *urlBytes)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result)
	case "calls":
		return agent.Calls(context.Background(), options, os.Stdin, os.Stdout)
	case "swarm":
		result, err := agent.Swarm(context.Background(), options, *connections, *series, *every,
			time.Duration(*seconds*float64(time.Second)), func() { fmt.Println("{\"ready\":true}") })
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result)
	case "idle":
		return idle(options, *connections)
	default:
		return fmt.Errorf("unknown mode %q", *mode)
	}
	if failed := results.Failed(); failed != "" {
		return fmt.Errorf("failed: %s", failed)
	}
	return nil
}

// idle holds connections until stdin closes, and fails when one of them is gone.
func idle(options peer.Options, connections int) error {
	clients, err := agent.Idle(context.Background(), options, connections)
	if err != nil {
		return err
	}
	fmt.Printf("{\"ready\":true,\"connections\":%d}\n", agent.Alive(clients))
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	alive := agent.Alive(clients)
	fmt.Printf("{\"alive\":%d}\n", alive)
	if alive != connections {
		return fmt.Errorf("%d of %d connections are gone", connections-alive, connections)
	}
	return nil
}
