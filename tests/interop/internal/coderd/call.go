package coderd

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/hashicorp/yamux"
	"storj.io/drpc"
	"storj.io/drpc/drpcctx"
	"storj.io/drpc/drpcerr"
	"storj.io/drpc/drpcwire"
)

// How a call ended, as the account counts it. The send error of a reply is not one
// of them: drpc may call a reply that was delivered canceled.
const (
	outcomeOK        = "ok"
	outcomeError     = "error"
	outcomeNoRequest = "no_request"
	outcomeUnknown   = "unknown_rpc"
)

// HandleRPC implements drpc.Handler: the faults around the real dispatch.
func (c *connection) HandleRPC(stream drpc.Stream, rpc string) error {
	account := c.server.account
	method, ours := strings.CutPrefix(rpc, servicePrefix)
	if !ours || !knownMethods[method] {
		account.call(rpc, outcomeUnknown, 0)
		return c.mux.HandleRPC(stream, rpc)
	}
	var request []byte
	if err := stream.MsgRecv(&request, rawEncoding{}); err != nil {
		account.call(method, outcomeNoRequest, 0)
		return err
	}
	call := &call{Stream: stream, connection: c, method: method, request: request}
	call.fault, call.faulty = c.server.faults.take(method, request, callFaults...)
	if delay, ok := c.server.faults.take(method, request, faultDelay); ok {
		call.hold()
		select {
		case <-time.After(time.Duration(delay.Milliseconds) * time.Millisecond):
		case <-stream.Context().Done():
		}
	}
	err := call.run(rpc)
	// A reply was accounted when it was sent.
	if !call.replied {
		call.account(err)
	}
	return err
}

var knownMethods = func() map[string]bool {
	known := make(map[string]bool)
	for _, m := range service {
		known[m.name] = true
	}
	return known
}()

// call is one RPC. It gives the dispatcher the request that was already read and
// stands between it and the reply.
type call struct {
	drpc.Stream
	connection *connection
	method     string
	request    []byte
	fault      Fault
	faulty     bool
	replied    bool
}

var errFault = errors.New("fault")

func (c *call) run(rpc string) error {
	if c.faulty {
		switch c.fault.Kind {
		case faultCloseBefore:
			c.connection.link.cut()
			return errFault
		case faultError:
			return drpcerr.WithCode(errors.New(c.fault.Message), c.fault.Code)
		case faultUnimplemented:
			return errUnimplemented
		}
	}
	return c.connection.mux.HandleRPC(c, rpc)
}

// account counts the call before the client can know how it ended, so that whoever
// has the reply finds it counted.
func (c *call) account(err error) {
	outcome := outcomeOK
	if err != nil {
		outcome = outcomeError
	}
	if c.faulty {
		outcome = c.fault.Kind
	}
	c.connection.server.account.call(c.method, outcome, len(c.request))
}

// MsgRecv implements drpc.Stream.
func (c *call) MsgRecv(message drpc.Message, enc drpc.Encoding) error {
	return enc.Unmarshal(c.request, message)
}

// MsgSend implements drpc.Stream: the request has been handled and accounted.
func (c *call) MsgSend(message drpc.Message, enc drpc.Encoding) error {
	c.replied = true
	c.account(nil)
	if !c.faulty {
		return c.Stream.MsgSend(message, enc)
	}
	switch c.fault.Kind {
	case faultCloseAfter:
		c.connection.link.cut()
		return errFault
	case faultNoReply:
		c.hold()
		return c.wait()
	case faultStreamReset:
		c.hold()
		if err := c.connection.tap.resetStream(c.streamID()); err != nil {
			return err
		}
		return errFault
	case faultOversizeReply:
		// The declared length of a message that is one byte too large, and all of it.
		head := append([]byte{byte(drpcwire.KindMessage)<<1 | 1, 1, 1}, drpcwire.AppendVarint(nil, 4<<20+1)...)
		return c.writeRaw(append(head, make([]byte, 4<<20+1)...))
	case faultGarbageReply:
		if c.fault.Form == "frame" {
			// A varint of eleven bytes.
			return c.writeRaw([]byte("\x05\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00"))
		}
		// Field 1, length-delimited, longer than the message.
		return c.Stream.MsgSend([]byte{0x0a, 0xff}, rawEncoding{})
	default:
		return c.Stream.MsgSend(message, enc)
	}
}

// writeRaw puts bytes on the stream in place of what drpc would send, and leaves
// the end of the call to the client.
func (c *call) writeRaw(p []byte) error {
	c.hold()
	transport, ok := drpcctx.Transport(c.Context())
	if !ok {
		return errors.New("a call without a transport")
	}
	if _, err := transport.Write(p); err != nil {
		return err
	}
	return c.wait()
}

func (c *call) wait() error {
	<-c.Context().Done()
	return context.Cause(c.Context())
}

// hold tells the audit that the client may well give this call up.
func (c *call) hold() {
	if c.connection.observer != nil {
		c.connection.observer.Hold(c.streamID())
	}
}

func (c *call) streamID() uint32 {
	transport, _ := drpcctx.Transport(c.Context())
	if stream, ok := transport.(*yamux.Stream); ok {
		return stream.StreamID()
	}
	return 0
}

// rawEncoding passes bytes through.
type rawEncoding struct{}

// Marshal implements drpc.Encoding.
func (rawEncoding) Marshal(message drpc.Message) ([]byte, error) { return message.([]byte), nil }

// Unmarshal implements drpc.Encoding.
func (rawEncoding) Unmarshal(buf []byte, message drpc.Message) error {
	*message.(*[]byte) = append([]byte(nil), buf...)
	return nil
}
