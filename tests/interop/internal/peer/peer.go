// Package peer is the agent's side of the connection to coderd, on the libraries
// that the Go agent uses.
package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"

	"github.com/coder/websocket"
	"github.com/hashicorp/yamux"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"storj.io/drpc"
	"storj.io/drpc/drpcconn"
	"storj.io/drpc/drpcmanager"
	"storj.io/drpc/drpcstream"
	"storj.io/drpc/drpcwire"
)

const (
	rpcPath = "/api/v2/workspaceagents/me/rpc"
	// ServicePrefix comes before the method in the name of an RPC.
	ServicePrefix = "/coder.agent.v2.Agent/"
	maxMessage    = 4 << 20
)

// Options say where and as what to dial.
type Options struct {
	URL     string
	Token   string
	Version string
	Role    string
	// Nil is http.DefaultClient.
	HTTP *http.Client
	// Any certificate is accepted by gRPC.
	Insecure bool
	// OverGRPC, or anything else for WebSocket.
	Transport string
}

// OverGRPC is the transport other than WebSocket.
const OverGRPC = "grpc"

// Client is one connection.
type Client struct {
	WebSocket *websocket.Conn
	Conn      net.Conn
	Session   *yamux.Session
}

// RefusedError is an answer other than 101.
type RefusedError struct {
	Status      int
	Message     string `json:"message"`
	Detail      string `json:"detail"`
	Validations []struct {
		Field  string `json:"field"`
		Detail string `json:"detail"`
	} `json:"validations"`
	// The body was the JSON that coderd answers with.
	IsJSON bool
}

// Error implements error.
func (e *RefusedError) Error() string { return fmt.Sprintf("status %d: %s", e.Status, e.Message) }

// DialURL is the address of the RPC endpoint.
func DialURL(o Options) (string, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return "", err
	}
	u.Path = rpcPath
	query := url.Values{}
	if o.Version != "" {
		query.Set("version", o.Version)
	}
	if o.Role != "" {
		query.Set("role", o.Role)
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// DialWebSocket makes the connection as far as the byte stream.
func DialWebSocket(ctx context.Context, o Options) (*websocket.Conn, error) {
	address, err := DialURL(o)
	if err != nil {
		return nil, err
	}
	header := http.Header{}
	if o.Token != "" {
		header.Set("Coder-Session-Token", o.Token)
	}
	ws, response, err := websocket.Dial(ctx, address, &websocket.DialOptions{
		HTTPClient: o.HTTP, HTTPHeader: header, CompressionMode: websocket.CompressionDisabled,
	})
	if err == nil {
		return ws, nil
	}
	if response != nil && response.StatusCode != http.StatusSwitchingProtocols {
		refused := &RefusedError{Status: response.StatusCode}
		// The library keeps the first KiB of the body, which coderd's errors fit in.
		body, _ := io.ReadAll(response.Body)
		refused.IsJSON = json.Unmarshal(body, refused) == nil
		return nil, refused
	}
	return nil, err
}

// Dial makes a session.
func Dial(ctx context.Context, o Options) (*Client, error) {
	ws, err := DialWebSocket(ctx, o)
	if err != nil {
		return nil, err
	}
	conn := websocket.NetConn(context.Background(), ws, websocket.MessageBinary)
	config := yamux.DefaultConfig()
	config.LogOutput = nil
	config.Logger = log.New(io.Discard, "", 0)
	session, err := yamux.Client(conn, config)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &Client{ws, conn, session}, nil
}

// Connect makes a connection of the transport that the options name, on which a session has begun.
func Connect(ctx context.Context, o Options) (Caller, error) {
	if o.Transport != OverGRPC {
		return Dial(ctx, o)
	}
	client, err := NewGRPC(o)
	if err != nil {
		return nil, err
	}
	return client, client.Invoke(ctx, "UpdateStats", &emptypb.Empty{}, &emptypb.Empty{})
}

// Alive says whether the session is open.
func (c *Client) Alive() bool { return !c.Session.IsClosed() }

// Close ends the session.
func (c *Client) Close() error { return c.Session.Close() }

// Invoke makes one call on a stream of its own. The method may be a whole RPC name.
func (c *Client) Invoke(ctx context.Context, method string, in, out proto.Message) (err error) {
	stream, err := c.Session.OpenStream()
	if err != nil {
		return err
	}
	conn := drpcconn.NewWithOptions(stream, drpcconn.Options{Manager: drpcmanager.Options{
		Reader: drpcwire.ReaderOptions{MaximumBufferSize: maxMessage},
		Stream: drpcstream.Options{MaximumBufferSize: maxMessage},
	}})
	defer func() {
		if closeErr := conn.Close(); err == nil {
			err = closeErr
		}
	}()
	return conn.Invoke(ctx, fullName(method), Encoding{}, in, out)
}

// Encoding is protobuf as the generated code of drpc uses it.
type Encoding struct{}

// Marshal implements drpc.Encoding.
func (Encoding) Marshal(message drpc.Message) ([]byte, error) {
	return proto.Marshal(message.(proto.Message))
}

// Unmarshal implements drpc.Encoding.
func (Encoding) Unmarshal(buf []byte, message drpc.Message) error {
	return proto.Unmarshal(buf, message.(proto.Message))
}
