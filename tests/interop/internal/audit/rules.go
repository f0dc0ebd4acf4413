package audit

// The rules that a client can break, as they appear in the account. Each is a
// sentence of the protocol; what the reference merely never does is not in here.
const (
	// yamux (hashicorp/yamux spec.md, session.go, stream.go).
	RuleVersion        = "yamux.version"             // version byte is not 0
	RuleType           = "yamux.type"                // type above 3
	RuleFlags          = "yamux.flags"               // a flag that does not exist
	RuleStreamZero     = "yamux.stream_zero"         // data or window update on stream 0
	RuleSessionFrame   = "yamux.session_frame"       // ping or go away on a stream
	RuleEvenID         = "yamux.even_id"             // a client's stream has an even id
	RuleReusedID       = "yamux.reused_id"           // SYN for an id that was used before
	RuleUnknownStream  = "yamux.unknown_stream"      // a frame for a stream that was never opened
	RuleDataAfterFIN   = "yamux.data_after_fin"      // data after the client's own FIN or RST
	RuleSecondFIN      = "yamux.second_fin"          // FIN twice on a stream, or after RST
	RuleWindow         = "yamux.window_exceeded"     // more data than was granted
	RuleWindowOverflow = "yamux.window_overflow"     // grants that add up to more than 2^32-1
	RuleACK            = "yamux.unexpected_ack"      // ACK of a stream that the client itself opened
	RulePingFlags      = "yamux.ping_flags"          // a ping that is neither request nor reply
	RulePingUnknown    = "yamux.ping_unknown"        // reply to a ping that was never sent
	RulePingTimeout    = "yamux.ping_timeout"        // ping not answered within 10 s
	RuleSYNAfterGoAway = "yamux.syn_after_go_away"   // a stream opened well after the server's go away
	RuleNotClosed      = "yamux.stream_never_closed" // neither FIN nor RST although the call had ended

	// dRPC (storj/drpc drpcwire, drpcmanager, drpcstream).
	RuleFrame          = "drpc.frame_header"     // a varint longer than 10 bytes
	RuleKind           = "drpc.kind"             // unknown kind without the control flag
	RuleKindChange     = "drpc.kind_change"      // the frames of one packet differ in kind
	RuleID             = "drpc.id"               // (stream id, message id) went back, or is 0
	RuleNoInvoke       = "drpc.no_invoke"        // a packet before the invoke
	RuleSecondInvoke   = "drpc.second_invoke"    // two invokes with one stream id
	RuleTooLarge       = "drpc.packet_too_large" // more than 4 MiB
	RuleTruncated      = "drpc.truncated"        // FIN inside a frame or a packet
	RuleFINBeforeReply = "drpc.fin_before_reply" // FIN before the reply was written

	// Reports of metrics (prometheus/client_golang).
	RuleMetric = "stats.metric" // a sample that coderd cannot expose, alone or beside the others

	// WebSocket, as found by the library.
	RuleText      = "websocket.text"     // a text message
	RuleWebSocket = "websocket.protocol" // anything else that RFC 6455 forbids
)
