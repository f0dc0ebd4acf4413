// Package audit watches both directions of a yamux connection and names what the
// client does against the protocol. It never touches the bytes, and it judges only
// what is illegal: an abrupt end of the connection is not.
package audit

import (
	"fmt"
	"math"
	"sync"
	"time"

	"weir.test/interop/internal/seqset"
)

const (
	initialWindow = 256 << 10
	// How long the reference waits for the reply to a ping.
	pingTimeout = 10 * time.Second
	// A frame that crossed one of the server's on the wire is no violation, so a
	// client gets this long to have seen what the server wrote.
	crossing = 2 * time.Second
)

// Observer audits one connection.
type Observer struct {
	report func(rule string, stream uint32, detail string)
	now    func() time.Time

	mu     sync.Mutex
	client splitter
	server splitter
	// The streams whose latest Data header opened the body under way.
	clientBody, serverBody *stream
	clientBodyID           uint32
	streams                map[uint32]*stream
	// Every id that was opened, and those that the client itself ended.
	used, ended seqset.Set
	pings       map[uint32]time.Time
	pinged      bool
	goAway      time.Time
	// After a fault on the link nothing that depends on timing is judged.
	impaired  bool
	broken    bool
	cancelled int
}

type stream struct {
	window           int64
	grant            uint64
	clientFIN        bool
	serverFIN        bool
	held             bool
	opened, answered time.Time
	request          request
	reply            reply
}

// New returns an observer that calls report, never concurrently, for each violation.
func New(now func() time.Time, report func(rule string, stream uint32, detail string)) *Observer {
	return &Observer{
		report:  report,
		now:     now,
		streams: make(map[uint32]*stream),
		pings:   make(map[uint32]time.Time),
	}
}

// FromClient takes bytes that were read from the client.
func (o *Observer) FromClient(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken {
		return
	}
	o.broken = !o.client.feed(p, o.clientHeader, func(body []byte, last bool) {
		s, id := o.clientBody, o.clientBodyID
		if s == nil {
			return
		}
		s.request.feed(body, func(rule, detail string) { o.report(rule, id, detail) })
		if last && s.clientFIN {
			o.judgeFIN(id, s)
		}
	})
}

// ToClient takes bytes that are about to be written to the client.
func (o *Observer) ToClient(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.server.feed(p, o.serverHeader, func(body []byte, _ bool) {
		if s := o.serverBody; s != nil {
			s.reply.feed(body, func() {
				s.request.pending = false
				s.answered = o.now()
			})
		}
	})
}

// Hold says that a fault keeps the reply of this stream back, so that giving the
// call up is the right thing to do.
func (o *Observer) Hold(id uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.streams[id]; s != nil {
		s.held = true
	}
}

// Impair says that a fault slows or stops the link.
func (o *Observer) Impair() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.impaired = true
}

// Cancelled is the number of calls that the client gave up before the reply.
func (o *Observer) Cancelled() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cancelled
}

// Check reports pings that are overdue.
func (o *Observer) Check() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for value, sent := range o.pings {
		if late := o.now().Sub(sent); late > pingTimeout {
			delete(o.pings, value)
			if !o.impaired {
				o.report(RulePingTimeout, 0, fmt.Sprintf("ping %d unanswered after %v", value, late))
			}
		}
	}
}

// Finish ends the audit. After an orderly close, a stream whose call had ended and
// that the client closed in no way is a violation.
func (o *Observer) Finish(orderly bool) {
	o.Check()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !orderly || o.broken {
		return
	}
	for id, s := range o.streams {
		since := s.answered
		if since.IsZero() && s.request.invoked == 0 {
			since = s.opened
		}
		if s.clientFIN || s.request.pending || since.IsZero() || o.now().Sub(since) < crossing {
			continue
		}
		o.report(RuleNotClosed, id, "neither FIN nor RST before the session was closed")
	}
}

func (o *Observer) clientHeader(h header) bool {
	o.clientBody = nil
	switch {
	case h.version != 0:
		o.report(RuleVersion, h.stream, fmt.Sprintf("version %d", h.version))
		return false
	case h.kind > typeGoAway:
		o.report(RuleType, h.stream, fmt.Sprintf("type %d", h.kind))
		return false
	case h.flags&^uint16(knownFlags) != 0:
		o.report(RuleFlags, h.stream, fmt.Sprintf("flags %#04x", h.flags))
	}
	switch h.kind {
	case typePing:
		o.clientPing(h)
	case typeGoAway:
		if h.stream != 0 {
			o.report(RuleSessionFrame, h.stream, "go away")
		}
	default:
		o.clientStream(h)
	}
	return true
}

func (o *Observer) clientPing(h header) {
	if h.stream != 0 {
		o.report(RuleSessionFrame, h.stream, "ping")
	}
	switch {
	case h.has(flagSYN) == h.has(flagACK):
		o.report(RulePingFlags, 0, fmt.Sprintf("flags %#04x", h.flags))
	case h.has(flagACK):
		sent, ok := o.pings[h.length]
		if ok {
			delete(o.pings, h.length)
			if late := o.now().Sub(sent); late > pingTimeout && !o.impaired {
				o.report(RulePingTimeout, 0, fmt.Sprintf("ping %d answered after %v", h.length, late))
			}
		} else if !o.pinged {
			o.report(RulePingUnknown, 0, fmt.Sprintf("value %d", h.length))
		}
	}
}

func (o *Observer) clientStream(h header) {
	if h.stream == 0 {
		o.report(RuleStreamZero, 0, fmt.Sprintf("type %d", h.kind))
		return
	}
	if h.has(flagSYN) {
		o.open(h)
	}
	s := o.streams[h.stream]
	if s == nil {
		o.afterClose(h)
		return
	}
	if h.has(flagACK) {
		o.report(RuleACK, h.stream, "the server opens no streams")
	}
	switch h.kind {
	case typeData:
		o.clientData(h, s)
	case typeWindowUpdate:
		if s.grant += uint64(h.length); s.grant > math.MaxUint32 {
			o.report(RuleWindowOverflow, h.stream, fmt.Sprintf("%d bytes granted", s.grant))
			s.grant = 0
		}
	}
	switch {
	case h.has(flagRST):
		o.giveUp(s)
		o.ended.Add(h.stream)
		delete(o.streams, h.stream)
	case h.has(flagFIN):
		o.clientFIN(h, s)
	}
}

func (o *Observer) open(h header) {
	if h.stream%2 == 0 {
		o.report(RuleEvenID, h.stream, "")
	}
	if !o.used.Add(h.stream) {
		o.report(RuleReusedID, h.stream, "")
		return
	}
	if !o.goAway.IsZero() && o.now().Sub(o.goAway) > crossing {
		o.report(RuleSYNAfterGoAway, h.stream, "")
	}
	o.streams[h.stream] = &stream{
		window:  initialWindow,
		grant:   initialWindow,
		opened:  o.now(),
		request: newRequest(),
	}
}

func (o *Observer) clientData(h header, s *stream) {
	if s.clientFIN {
		o.report(RuleDataAfterFIN, h.stream, fmt.Sprintf("%d bytes", h.length))
		return
	}
	if s.window -= int64(h.length); s.window < 0 {
		o.report(RuleWindow, h.stream, fmt.Sprintf("%d bytes, %d too many", h.length, -s.window))
		s.window = 0
	}
	o.clientBody, o.clientBodyID = s, h.stream
}

func (o *Observer) clientFIN(h header, s *stream) {
	if s.clientFIN {
		o.report(RuleSecondFIN, h.stream, "")
		return
	}
	s.clientFIN = true
	o.ended.Add(h.stream)
	if s.serverFIN {
		delete(o.streams, h.stream)
	}
	if h.kind == typeWindowUpdate || h.length == 0 {
		o.judgeFIN(h.stream, s)
	}
}

// judgeFIN runs when everything that the client sent on the stream has passed.
func (o *Observer) judgeFIN(id uint32, s *stream) {
	if s.request.frames.broken {
		// The server ends the stream; that the client does too is only right.
		return
	}
	if s.request.frames.inside() || s.request.open {
		o.report(RuleTruncated, id, "FIN inside a packet")
	}
	if s.request.pending && !s.held && !o.impaired {
		o.report(RuleFINBeforeReply, id, "the server takes this as a cancellation")
	}
	o.giveUp(s)
}

func (o *Observer) giveUp(s *stream) {
	if s.request.pending || s.request.cancelled {
		s.request.pending, s.request.cancelled = false, false
		o.cancelled++
	}
}

// afterClose judges a frame for a stream that is not open.
func (o *Observer) afterClose(h header) {
	switch {
	case !o.used.Has(h.stream):
		o.report(RuleUnknownStream, h.stream, fmt.Sprintf("type %d, flags %#04x", h.kind, h.flags))
	case !o.ended.Has(h.stream):
		// The server reset the stream: what was on its way is no violation.
		if h.has(flagFIN) || h.has(flagRST) {
			o.ended.Add(h.stream)
		}
	case h.has(flagFIN):
		o.report(RuleSecondFIN, h.stream, "on a closed stream")
	case h.kind == typeData && h.length > 0:
		o.report(RuleDataAfterFIN, h.stream, "on a closed stream")
	}
}

func (o *Observer) serverHeader(h header) bool {
	o.serverBody = nil
	switch h.kind {
	case typePing:
		if h.has(flagSYN) {
			o.pings[h.length] = o.now()
			o.pinged = true
		}
		return true
	case typeGoAway:
		o.goAway = o.now()
		return true
	}
	s := o.streams[h.stream]
	if s == nil {
		return true
	}
	switch h.kind {
	case typeData:
		o.serverBody = s
		s.grant -= min(s.grant, uint64(h.length))
	case typeWindowUpdate:
		s.window += int64(h.length)
	}
	switch {
	case h.has(flagRST):
		delete(o.streams, h.stream)
	case h.has(flagFIN):
		s.serverFIN = true
		if s.clientFIN {
			delete(o.streams, h.stream)
		}
	}
	return true
}
