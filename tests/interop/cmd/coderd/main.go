// Command coderd serves workspace agents as coderd does, on the same libraries.
// See the README of this module.
package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"weir.test/interop/internal/coderd"
)

// The token that is accepted when none is given.
const defaultToken = "6f1f9f3a-2a5e-4c9b-9a53-0d6f3b1c2e4d"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "coderd:", err)
		os.Exit(1)
	}
}

func run() error {
	tokens := make(map[string]bool)
	flag.Func("token", "a token to accept (repeatable; default "+defaultToken+")", func(token string) error {
		tokens[strings.ToLower(token)] = true
		return nil
	})
	var (
		listen      = flag.String("listen", "127.0.0.1:0", "address to serve agents at over WebSocket")
		listenGRPC  = flag.String("listen-grpc", "127.0.0.1:0", "address to serve agents at over gRPC")
		maxAge      = flag.Duration("max-connection-age", 0, "age at which a gRPC connection is drained")
		grace       = flag.Duration("max-connection-age-grace", 0, "time that its calls have to end; 0 is for ever")
		ping        = flag.Duration("ping-interval", time.Second, "how often gRPC clients may ping; 0 is grpc-go's own policy")
		maxMessage  = flag.Int("max-message", 4<<20, "bytes of a gRPC request, at most")
		maxVersion  = flag.String("max-version", "2.13", "newest API version to accept")
		certFile    = flag.String("tls-cert", "", "certificate (PEM); serves TLS")
		keyFile     = flag.String("tls-key", "", "its key (PEM)")
		rtt         = flag.Duration("rtt", 0, "round trip time to add, half in each direction")
		refresh     = flag.Duration("refresh", 30*time.Second, "report_interval for UpdateStats")
		monitor     = flag.Duration("monitor-interval", 15*time.Second, "period of the pings to agents")
		strict      = flag.Bool("strict", true, "decode every ReportBoundaryLogs as a real coderd does")
		keepRaw     = flag.Bool("keep-raw", false, "keep the bytes of every ReportBoundaryLogs for GET /raw")
		audit       = flag.Bool("audit", true, "watch the wire for violations")
		verbose     = flag.Bool("verbose", false, "log connections and library messages")
		ignoreStdin = flag.Bool("ignore-stdin", false, "do not exit when stdin closes")
	)
	flag.Parse()
	if len(tokens) == 0 {
		tokens[defaultToken] = true
	}
	major, minor, err := coderd.ParseVersion(*maxVersion)
	if err != nil {
		return err
	}
	config := coderd.Config{
		Tokens: tokens, MaxVersion: [2]int{major, minor}, RTT: *rtt, Refresh: *refresh,
		Monitor: *monitor, Strict: *strict, KeepRaw: *keepRaw, Audit: *audit, Verbose: *verbose,
		GRPC: coderd.GRPC{MaxAge: *maxAge, Grace: *grace, PingInterval: *ping, MaxMessage: *maxMessage},
	}
	if (*certFile == "") != (*keyFile == "") {
		return errors.New("-tls-cert and -tls-key go together")
	}
	if *certFile != "" {
		certificate, err := tls.LoadX509KeyPair(*certFile, *keyFile)
		if err != nil {
			return err
		}
		config.Certificate = &certificate
	}
	server, err := coderd.New(config)
	if err != nil {
		return err
	}
	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	url, err := server.Listen(*listen)
	if err != nil {
		return err
	}
	grpcURL, err := server.ListenGRPC(*listenGRPC)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- http.Serve(control, server.Control()) }()
	ready := struct {
		Ready   bool   `json:"ready"`
		URL     string `json:"url"`
		GRPC    string `json:"grpc"`
		Control string `json:"control"`
	}{true, url, grpcURL, "http://" + control.Addr().String()}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	stdin := make(chan struct{})
	if !*ignoreStdin {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			close(stdin)
		}()
	}
	select {
	case <-signals:
		return nil
	case <-stdin:
		return nil
	case err := <-failed:
		return err
	}
}
