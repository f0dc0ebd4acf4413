package main

import (
	"bytes"
	"strings"
	"testing"
)

const oneLog = "0a3a080112060880f2d6ca061a2e0a03474554121368747470733a2f2f6578616d706c652e636f6d1a12646f6d61696e3d6578616d706c652e636f6d"

func TestAnswers(t *testing.T) {
	cases := []struct{ line, want string }{
		{"request " + oneLog, `{"ok":true,"logs":1,"session_id":"","process":"","sequences":[0],"sha256":"`},
		{"request 0a05", `{"ok":false,"error":"proto:`},
		{"request 1201ff", `string field contains invalid UTF-8`},
		{"request", `{"ok":true,"logs":0`},
		{"envelope 120408051003", `{"ok":true,"kind":"status","dropped_channel_full":5,"dropped_batch_full":3}`},
		{"envelope 0a3c" + oneLog, `{"ok":true,"kind":"logs","request":{"ok":true,"logs":1,`},
		{"envelope", `{"ok":true,"kind":"empty"}`},
		{"drpc 05010105" + "0a0308ac02" + "0d010200",
			`{"ok":true,"packets":[{"stream":1,"message":1,"kind":2,"control":false,"data":"0a0308ac02"},{"stream":1,"message":2,"kind":6,"control":false,"data":""}]}`},
		{"drpc 0501010005010100", `id monotonicity violation`},
		{`drpc-encode [{"stream":1,"message":1,"kind":2,"data":"0a0308ac02","split":3}]`, `{"ok":true,"bytes":"040101030a0308` + `05010102ac02"}`},
		{"nonsense 00", `{"ok":false,"error":"unknown verb \"nonsense\""}`},
		{"request 0", `{"ok":false,"error":"hex:`},
	}
	var in strings.Builder
	for _, c := range cases {
		in.WriteString(c.line + "\n")
	}
	var out bytes.Buffer
	if err := run(strings.NewReader(in.String()), &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != len(cases) {
		t.Fatalf("%d answers to %d lines", len(lines), len(cases))
	}
	for i, c := range cases {
		if !strings.Contains(lines[i], c.want) {
			t.Errorf("%s\n got %s\nwant %s", c.line, lines[i], c.want)
		}
	}
}
