// Package lines is how programs answer each line of their input with one of JSON.
package lines

import (
	"bufio"
	"encoding/json"
	"io"
)

// Answer writes an answer to each line of in, none of which may be longer than longest.
func Answer(in io.Reader, out io.Writer, longest int, answer func(line string) any) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longest)
	w := bufio.NewWriter(out)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for lines.Scan() {
		if err := encoder.Encode(answer(lines.Text())); err != nil {
			return err
		}
		// The other side may wait for this answer before it asks again.
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return lines.Err()
}
