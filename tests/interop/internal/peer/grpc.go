package peer

import (
	"context"
	"crypto/tls"
	"net/url"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// Metadata of every call.
const (
	TokenKey = "coder-session-token"
	RoleKey  = "weir-role"
)

// Caller makes calls on one connection, whatever the transport.
type Caller interface {
	Invoke(ctx context.Context, method string, in, out proto.Message) error
	// Alive says whether the connection is there.
	Alive() bool
	Close() error
}

// GRPC is one connection of grpc-go.
type GRPC struct {
	Conn    *grpc.ClientConn
	options Options
}

// NewGRPC makes a connection that is dialled by its first call.
func NewGRPC(o Options) (*GRPC, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, err
	}
	secrecy := insecure.NewCredentials()
	if u.Scheme == "https" {
		secrecy = credentials.NewTLS(&tls.Config{InsecureSkipVerify: o.Insecure})
	}
	// Nothing is repeated behind the back of the test.
	conn, err := grpc.NewClient("passthrough:///"+u.Host, grpc.WithTransportCredentials(secrecy),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig())
	if err != nil {
		return nil, err
	}
	return &GRPC{conn, o}, nil
}

// Context has the metadata of a call, whose token is left out if there is none.
func (c *GRPC) Context(ctx context.Context) context.Context {
	if c.options.Token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, TokenKey, c.options.Token)
	}
	if c.options.Role != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, RoleKey, c.options.Role)
	}
	return ctx
}

// Invoke makes one call. The method may be a whole RPC name.
func (c *GRPC) Invoke(ctx context.Context, method string, in, out proto.Message) error {
	return c.Conn.Invoke(c.Context(ctx), fullName(method), in, out)
}

// Alive says whether the connection is there; it is not dialled again before a call is made.
func (c *GRPC) Alive() bool { return c.Conn.GetState() == connectivity.Ready }

// Close ends the connection.
func (c *GRPC) Close() error { return c.Conn.Close() }

// As makes calls on the same connection with other metadata.
func (c *GRPC) As(change func(*Options)) *GRPC {
	other := &GRPC{c.Conn, c.options}
	change(&other.options)
	return other
}

func fullName(method string) string {
	if method[0] != '/' {
		return ServicePrefix + method
	}
	return method
}
