package agent

import (
	"context"
	"fmt"
	"sync"

	"weir.test/interop/internal/peer"
)

// How many dials run at once, so that a backlog is not what is tested.
const dialsAtOnce = 32

// Idle opens connections that do nothing but answer pings.
func Idle(ctx context.Context, options peer.Options, connections int) ([]peer.Caller, error) {
	return dialAll(ctx, connections, func(int) peer.Options { return options })
}

func dialAll(ctx context.Context, connections int, options func(n int) peer.Options) ([]peer.Caller, error) {
	clients := make([]peer.Caller, connections)
	errs := make(chan error, connections)
	tickets := make(chan struct{}, dialsAtOnce)
	var group sync.WaitGroup
	for n := range clients {
		group.Go(func() {
			tickets <- struct{}{}
			defer func() { <-tickets }()
			client, err := peer.Connect(ctx, options(n))
			if err != nil {
				errs <- fmt.Errorf("connection %d: %w", n, err)
				return
			}
			clients[n] = client
		})
	}
	group.Wait()
	close(errs)
	return clients, <-errs
}

// Alive counts the sessions that are open.
func Alive(clients []peer.Caller) int {
	alive := 0
	for _, client := range clients {
		if client != nil && client.Alive() {
			alive++
		}
	}
	return alive
}
