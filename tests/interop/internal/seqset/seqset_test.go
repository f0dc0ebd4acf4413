package seqset

import (
	"math/rand/v2"
	"testing"
)

func TestAgreesWithAMap(t *testing.T) {
	var set Set
	model := make(map[uint32]bool)
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		v := random.Uint32() >> (random.Uint32() % 32)
		if set.Has(v) != model[v] {
			t.Fatalf("Has(%d) = %v, want %v", v, set.Has(v), model[v])
		}
		if set.Add(v) == model[v] {
			t.Fatalf("Add(%d) reports new = %v", v, model[v])
		}
		model[v] = true
	}
}
