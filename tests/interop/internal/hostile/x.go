package hostile

import (
	"weir.test/interop/internal/agent"
	"weir.test/interop/internal/peer"
)

func RunGRPC(results *agent.Results, options peer.Options, wrongDials, halfOpen int) {}
