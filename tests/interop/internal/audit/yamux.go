package audit

import "encoding/binary"

const headerLen = 12

const (
	typeData = iota
	typeWindowUpdate
	typePing
	typeGoAway
)

const (
	flagSYN = 1 << iota
	flagACK
	flagFIN
	flagRST
	knownFlags = flagSYN | flagACK | flagFIN | flagRST
)

// header is one yamux header, decoded.
type header struct {
	version byte
	kind    byte
	flags   uint16
	stream  uint32
	length  uint32
}

func (h header) has(flag uint16) bool { return h.flags&flag != 0 }

// splitter cuts one direction of a yamux connection into headers and bodies,
// whatever the pieces that the bytes come in.
type splitter struct {
	head [headerLen]byte
	have int
	body uint32
}

// feed calls onHeader for each complete header and onBody for each piece of the
// body of the latest Data frame, saying which is the last. It stops when onHeader
// returns false.
func (s *splitter) feed(p []byte, onHeader func(header) bool, onBody func(piece []byte, last bool)) bool {
	for len(p) > 0 {
		if s.body > 0 {
			n := min(uint32(len(p)), s.body)
			s.body -= n
			onBody(p[:n], s.body == 0)
			p = p[n:]
			continue
		}
		n := copy(s.head[s.have:], p)
		s.have += n
		p = p[n:]
		if s.have < headerLen {
			return true
		}
		s.have = 0
		h := header{
			version: s.head[0],
			kind:    s.head[1],
			flags:   binary.BigEndian.Uint16(s.head[2:]),
			stream:  binary.BigEndian.Uint32(s.head[4:]),
			length:  binary.BigEndian.Uint32(s.head[8:]),
		}
		if !onHeader(h) {
			return false
		}
		if h.kind == typeData {
			s.body = h.length
		}
	}
	return true
}
