package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"weir.test/interop/internal/pb"
	"weir.test/interop/internal/peer"
)

// The longest line that is read: a request near the limit of a packet, in JSON.
const maxLine = 64 << 20

// A call as it is asked for, and what came of it.
type callLine struct {
	Method  string          `json:"method"`
	Request json.RawMessage `json:"request"`
}

type answerLine struct {
	Response json.RawMessage `json:"response,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// Calls makes one call for each line of JSON that it reads, all over one
// connection, and writes a line about each. It closes the connection at the end of
// the input.
func Calls(ctx context.Context, options peer.Options, in io.Reader, out io.Writer) error {
	client, err := peer.Dial(ctx, options)
	if err != nil {
		return err
	}
	defer client.Close()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	answers := json.NewEncoder(out)
	for lines.Scan() {
		var line callLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return err
		}
		request, response := messages(line.Method)
		if request == nil {
			return fmt.Errorf("unknown method %q", line.Method)
		}
		if err := protojson.Unmarshal(line.Request, request); err != nil {
			return err
		}
		answer := answerLine{}
		if err := call(client, line.Method, request, response); err != nil {
			answer.Error = err.Error()
		} else if answer.Response, err = protojson.Marshal(response); err != nil {
			return err
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func messages(method string) (request, response proto.Message) {
	switch method {
	case "UpdateStats":
		return &pb.UpdateStatsRequest{}, &pb.UpdateStatsResponse{}
	case "UpdateStartup":
		return &pb.UpdateStartupRequest{}, &pb.Startup{}
	case "UpdateLifecycle":
		return &pb.UpdateLifecycleRequest{}, &pb.Lifecycle{}
	}
	return nil, nil
}
