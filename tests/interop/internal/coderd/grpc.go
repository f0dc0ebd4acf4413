package coderd

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	grpctap "google.golang.org/grpc/tap"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// GRPC is what can be set of the gRPC side.
type GRPC struct {
	// Age at which a connection is told to go, and what its calls then have to end; 0 is never, and for ever.
	MaxAge, Grace time.Duration
	// How often clients may ping, with or without calls; 0 is the policy of grpc-go itself.
	PingInterval time.Duration
	// Bytes of a request, at most.
	MaxMessage int
}

// ListenGRPC binds the address and serves the agent service there as gRPC.
func (s *Server) ListenGRPC(address string) (url string, err error) {
	s.renewGRPC()
	return s.listen(address, s.serveGRPC)
}

// renewGRPC has new connections served by a new grpc.Server and returns the one before,
// which keeps its connections. Only so can a server drain and go on: a drain is for good.
func (s *Server) renewGRPC() *grpc.Server {
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{}),
		grpc.InTapHandle(tagStream),
		grpc.MaxRecvMsgSize(s.config.GRPC.MaxMessage),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: s.config.GRPC.MaxAge, MaxConnectionAgeGrace: s.config.GRPC.Grace,
		}),
	}
	if s.config.GRPC.PingInterval > 0 {
		options = append(options, grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: s.config.GRPC.PingInterval, PermitWithoutStream: true,
		}))
	}
	server, listener := grpc.NewServer(options...), newFedListener()
	server.RegisterService(s.serviceDesc(), nil)
	go func() {
		if err := server.Serve(listener); err != nil {
			s.logf("grpc: %v", err)
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.grpc
	s.grpc, s.grpcFeed = server, listener
	return before
}

func (s *Server) serveGRPC(listener net.Listener) error {
	if s.config.Certificate != nil {
		listener = tls.NewListener(listener, &tls.Config{
			Certificates: []tls.Certificate{*s.config.Certificate}, NextProtos: []string{"h2"},
		})
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		s.mu.Lock()
		feed := s.grpcFeed
		s.mu.Unlock()
		feed.give(s.newGRPCConnection(conn))
	}
}

// serviceDesc is the service in the form that grpc-go's generated code has.
func (s *Server) serviceDesc() *grpc.ServiceDesc {
	desc := &grpc.ServiceDesc{ServiceName: servicePrefix[1 : len(servicePrefix)-1]}
	for _, m := range service {
		desc.Methods = append(desc.Methods, grpc.MethodDesc{
			MethodName: m.name,
			Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				var request []byte
				if err := decode(&request); err != nil {
					return nil, err
				}
				return s.grpcCall(ctx, m, request)
			},
		})
	}
	return desc
}

// grpcCall answers one call: the same faults around the same dispatch as on dRPC.
func (s *Server) grpcCall(ctx context.Context, m method, request []byte) (any, error) {
	connection := grpcConnectionOf(ctx)
	token, err := connection.admit(ctx)
	if err != nil {
		return nil, err
	}
	call := &grpcCall{ctx: ctx, connection: connection, method: m.name, request: request}
	call.fault, call.faulty = s.faults.take(m.name, request, callFaults...)
	if delay, ok := s.faults.take(m.name, request, faultDelay); ok {
		select {
		case <-time.After(time.Duration(delay.Milliseconds) * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return call.run(func() (proto.Message, error) {
		return m.raw(&agentAPI{s, token, connection.id}, ctx, request)
	})
}

type grpcCall struct {
	ctx        context.Context
	connection *grpcConnection
	method     string
	request    []byte
	fault      Fault
	faulty     bool
}

func (c *grpcCall) run(handle func() (proto.Message, error)) (any, error) {
	outcome := outcomeOK
	if c.faulty {
		outcome = c.fault.Kind
	}
	account := func() { c.connection.server.account.call(c.method, outcome, len(c.request)) }
	if c.faulty {
		switch c.fault.Kind {
		case faultCloseBefore:
			account()
			c.connection.link.cut()
			return nil, errFault
		case faultError:
			account()
			code := codes.Code(c.fault.Code)
			if code == codes.OK {
				// What becomes of an error of Go's that is no status.
				code = codes.Unknown
			}
			return nil, status.Error(code, c.fault.Message)
		case faultUnimplemented:
			account()
			return nil, status.Error(codes.Unimplemented, "Unimplemented")
		case faultRefuseStream:
			account()
			return nil, c.inject(func(f *frames) error { return f.reset(c.streamID(), codeRefusedStream) })
		case faultLeaveOut:
			account()
			return nil, c.inject(func(f *frames) error { return f.goAway(c.streamID()-2, uint32(c.fault.Code)) })
		}
	}
	reply, err := handle()
	if err != nil && !c.faulty {
		outcome = outcomeError
	}
	// Before the client can know how it ended, so that whoever has the reply finds it counted.
	account()
	if err != nil || !c.faulty {
		if status.Code(err) == codes.Unknown && isUnimplemented(err) {
			err = status.Error(codes.Unimplemented, err.Error())
		}
		return reply, err
	}
	switch c.fault.Kind {
	case faultCloseAfter:
		c.connection.link.cut()
		return nil, errFault
	case faultNoReply:
		return nil, c.inject(func(*frames) error { return nil })
	case faultStreamReset:
		return nil, c.inject(func(f *frames) error { return f.reset(c.streamID(), codeCancel) })
	case faultOversizeReply:
		return longReply(maxMessage + 1), nil
	case faultLongReply:
		return longReply(c.fault.Bytes), nil
	case faultGarbageReply:
		if c.fault.Form == "frame" {
			// DATA that belongs to no stream.
			return nil, c.inject(func(f *frames) error { return f.data(0, []byte("garbage")) })
		}
		// Field 1, length-delimited, longer than the message.
		return []byte{0x0a, 0xff}, nil
	}
	return reply, err
}

// longReply is a message of that many bytes, all of them in a field that nobody knows.
func longReply(length int) []byte {
	tag := protowire.AppendTag(nil, 15, protowire.BytesType)
	for inner := length; ; inner-- {
		if reply := protowire.AppendBytes(tag, make([]byte, inner)); len(reply) <= length {
			return reply
		}
	}
}

// inject puts a frame on the connection behind grpc-go's back and leaves the end of the call to
// the client, so that grpc-go sends nothing on a stream that is no longer there.
func (c *grpcCall) inject(frame func(*frames) error) error {
	if err := frame(&c.connection.out); err != nil {
		return err
	}
	<-c.ctx.Done()
	return status.FromContextError(c.ctx.Err()).Err()
}

func (c *grpcCall) streamID() uint32 {
	id, _ := c.ctx.Value(streamKey{}).(uint32)
	return id
}

type streamKey struct{}

// tagStream notes which stream a call has, which grpc-go does not tell its handlers. It runs where
// the frames of one connection are read, once for each HEADERS, in their order.
func tagStream(ctx context.Context, _ *grpctap.Info) (context.Context, error) {
	return context.WithValue(ctx, streamKey{}, grpcConnectionOf(ctx).nextStream()), nil
}

func grpcConnectionOf(ctx context.Context) *grpcConnection {
	client, _ := peer.FromContext(ctx)
	return client.Addr.(grpcAddr).connection
}

// admit checks the token of a call. The first call of a connection is what a dial is on the
// WebSocket: it is where refusals strike, and from where on the connection counts.
func (c *grpcConnection) admit(ctx context.Context) (token string, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	first := func(name string) string {
		if values := md.Get(name); len(values) > 0 {
			return values[0]
		}
		return ""
	}
	token = first(tokenHeader)
	c.admission.Lock()
	defer c.admission.Unlock()
	if !c.admitted {
		if fault, ok := c.server.faults.take("", nil, faultRefuse); ok {
			err = status.Error(fault.code(), refusalBody(fault.status()))
		}
	}
	if refusal := c.server.checkToken(token); err == nil && refusal != nil {
		err = status.Error(codes.Unauthenticated, refusal.Message)
	}
	if !c.admitted {
		header := make(map[string][]string, len(md))
		for name, values := range md {
			header[name] = values
		}
		c.server.account.dial(Dial{
			Role: first("weir-role"), Status: int(status.Code(err)), Message: status.Convert(err).Message(), Header: header,
		})
		if err == nil {
			c.admitted = true
			c.server.admitted(c, first("weir-role"))
		}
	}
	return token, err
}

func (s *Server) admitted(c *grpcConnection, role string) {
	s.mu.Lock()
	s.grpcConnections[c] = struct{}{}
	s.mu.Unlock()
	s.account.opened(role, "")
	s.logf("connection %d: gRPC, role %q", c.id, role)
}

func (s *Server) grpcLive() []*grpcConnection {
	s.mu.Lock()
	defer s.mu.Unlock()
	connections := make([]*grpcConnection, 0, len(s.grpcConnections))
	for c := range s.grpcConnections {
		connections = append(connections, c)
	}
	return connections
}

// goAway has all gRPC connections told to go: with code 0 as grpc-go drains them, else with that
// code, and their streams left alone.
func (s *Server) goAway(code uint32) error {
	if code == 0 {
		if drained := s.renewGRPC(); drained != nil {
			go drained.GracefulStop()
		}
		return nil
	}
	for _, c := range s.grpcLive() {
		if err := c.out.goAway(maxStreamID, code); err != nil && !c.link.gone() {
			return err
		}
	}
	return nil
}

// fedListener is a net.Listener whose connections are given to it.
type fedListener struct {
	connections chan net.Conn
	closed      chan struct{}
	once        sync.Once
}

func newFedListener() *fedListener {
	return &fedListener{connections: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *fedListener) give(conn net.Conn) {
	select {
	case l.connections <- conn:
	case <-l.closed:
		_ = conn.Close()
	}
}

// Accept implements net.Listener.
func (l *fedListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.connections:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *fedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *fedListener) Addr() net.Addr { return &net.TCPAddr{} }

// codec is protobuf, but passes bytes through.
type codec struct{}

// Name implements encoding.CodecV2.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (codec) Marshal(message any) (mem.BufferSlice, error) {
	raw, ok := message.([]byte)
	if !ok {
		m, ok := message.(proto.Message)
		if !ok {
			return nil, fmt.Errorf("no protobuf message: %T", message)
		}
		var err error
		if raw, err = proto.Marshal(m); err != nil {
			return nil, err
		}
	}
	return mem.BufferSlice{mem.SliceBuffer(raw)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, message any) error {
	*message.(*[]byte) = data.Materialize()
	return nil
}
