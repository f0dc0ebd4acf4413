// Package seqset is a set of small integers that are mostly contiguous.
package seqset

const (
	pageBits  = 16
	pageWords = 1 << (pageBits - 6)
)

// Set holds uint32 values in pages of 65536 bits. The zero value is empty.
type Set struct {
	pages map[uint32]*[pageWords]uint64
	// The page of the latest Add, which the next one nearly always hits too.
	last    *[pageWords]uint64
	lastKey uint32
}

// Add puts v into the set and reports whether it was new.
func (s *Set) Add(v uint32) bool {
	key := v >> pageBits
	if s.last == nil || s.lastKey != key {
		page := s.pages[key]
		if page == nil {
			if s.pages == nil {
				s.pages = make(map[uint32]*[pageWords]uint64)
			}
			page = new([pageWords]uint64)
			s.pages[key] = page
		}
		s.last, s.lastKey = page, key
	}
	word, bit := v%(1<<pageBits)/64, uint64(1)<<(v%64)
	if s.last[word]&bit != 0 {
		return false
	}
	s.last[word] |= bit
	return true
}

// Has reports whether v is in the set.
func (s *Set) Has(v uint32) bool {
	page := s.pages[v>>pageBits]
	return page != nil && page[v%(1<<pageBits)/64]&(1<<(v%64)) != 0
}
