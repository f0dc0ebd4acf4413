package coderd

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
)

// RPCPath is where agents dial.
const RPCPath = "/api/v2/workspaceagents/me/rpc"

const (
	tokenHeader = "Coder-Session-Token"
	tokenName   = "coder_session_token"
)

// refusal is coderd's JSON error.
type refusal struct {
	status      int
	Message     string       `json:"message"`
	Detail      string       `json:"detail,omitempty"`
	Validations []validation `json:"validations,omitempty"`
}

type validation struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

func (s *Server) rpc(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	dial := Dial{Role: query.Get("role"), Version: query.Get("version"), Header: r.Header.Clone()}
	refuse := func(refusal *refusal) {
		dial.Status, dial.Message = refusal.status, refusal.Message
		s.account.dial(dial)
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(refusal.status)
		_ = json.NewEncoder(w).Encode(refusal)
	}
	if fault, ok := s.faults.take("", nil, upgradeFaults...); ok {
		dial.Status, dial.Message = fault.status(), fault.Kind
		s.account.dial(dial)
		fault.answer(w)
		return
	}
	token, refusal := s.authenticate(r)
	if refusal == nil {
		refusal = s.checkVersion(query.Get("version"))
	}
	if refusal != nil {
		refuse(refusal)
		return
	}
	if _, ok := s.faults.take("", nil, faultExtensionHeader); ok {
		w.Header().Set("Sec-WebSocket-Extensions", "permessage-deflate")
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		dial.Status, dial.Message = http.StatusBadRequest, err.Error()
		s.account.dial(dial)
		return
	}
	dial.Status = http.StatusSwitchingProtocols
	s.account.dial(dial)
	s.serve(ws, linkOf(r), token, dial)
}

func (f Fault) status() int {
	switch {
	case f.Status != 0:
		return f.Status
	case f.Kind == faultRedirect:
		return http.StatusTemporaryRedirect
	default:
		return http.StatusServiceUnavailable
	}
}

// code is the status as gRPC has it.
func (f Fault) code() codes.Code {
	switch {
	case f.Code != 0:
		return codes.Code(f.Code)
	case f.Status == http.StatusUnauthorized:
		return codes.Unauthenticated
	case f.Status == http.StatusForbidden:
		return codes.PermissionDenied
	default:
		return codes.Unavailable
	}
}

func (f Fault) answer(w http.ResponseWriter) {
	if f.Kind == faultRedirect {
		w.Header().Set("Location", f.To)
		w.WriteHeader(f.status())
		return
	}
	body := refusalBody(f.status())
	if f.Body != nil {
		body = *f.Body
	} else {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
	}
	w.WriteHeader(f.status())
	_, _ = w.Write([]byte(body))
}

func refusalBody(status int) string {
	message := http.StatusText(status)
	switch status {
	case http.StatusUnauthorized:
		message = "Workspace agent not authorized."
	case http.StatusBadRequest:
		message = "Unknown or unsupported API version"
	case http.StatusForbidden:
		message = "Agent trying to connect from non-latest build."
	}
	return fmt.Sprintf("{\"message\":%q}\n", message)
}

// authenticate looks for the token where coderd does, in its order.
func (s *Server) authenticate(r *http.Request) (string, *refusal) {
	token := ""
	if cookie, err := r.Cookie(tokenName); err == nil {
		token = cookie.Value
	}
	if token == "" {
		token = r.URL.Query().Get(tokenName)
	}
	if token == "" {
		token = r.Header.Get(tokenHeader)
	}
	return token, s.checkToken(token)
}

func (s *Server) checkToken(token string) *refusal {
	switch {
	case token == "":
		return &refusal{status: http.StatusUnauthorized,
			Message: fmt.Sprintf("Cookie %q must be provided.", tokenName)}
	case !isUUID(token):
		return &refusal{status: http.StatusUnauthorized, Message: "Workspace agent token invalid.",
			Detail: fmt.Sprintf("An agent token must be a valid UUIDv4. (%d bytes)", len(token))}
	case !s.config.Tokens[strings.ToLower(token)]:
		return &refusal{status: http.StatusUnauthorized, Message: "Workspace agent not authorized.",
			Detail: "The agent cannot authenticate until the workspace provision job has been completed."}
	}
	return nil
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
			return false
		}
	}
	return true
}

// checkVersion applies the rules of protocol version negotiation: the same major,
// and a minor that is not newer than the server's.
func (s *Server) checkVersion(requested string) *refusal {
	if requested == "" {
		requested = "2.0"
	}
	server := s.config.MaxVersion
	major, minor, err := ParseVersion(requested)
	detail := ""
	switch {
	case err != nil:
		detail = err.Error()
	case major > server[0]:
		detail = fmt.Sprintf("server is at version %d.%d, behind requested major version %s", server[0], server[1], requested)
	case major < server[0]:
		detail = fmt.Sprintf("version %s is no longer supported", requested)
	case minor > server[1]:
		detail = fmt.Sprintf("server is at version %d.%d, behind requested minor version %s", server[0], server[1], requested)
	default:
		return nil
	}
	return &refusal{status: http.StatusBadRequest, Message: "Unknown or unsupported API version",
		Validations: []validation{{"version", detail}}}
}

// ParseVersion reads MAJOR.MINOR.
func ParseVersion(s string) (major, minor int, err error) {
	first, second, ok := strings.Cut(s, ".")
	if ok {
		major, err = strconv.Atoi(first)
		if err == nil {
			minor, err = strconv.Atoi(second)
		}
	}
	if !ok || err != nil {
		return 0, 0, fmt.Errorf("invalid version string: %s", s)
	}
	return major, minor, nil
}
