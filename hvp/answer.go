package hvp

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/bailiff-secrets/bailiff/gate"
	"github.com/bailiff-secrets/bailiff/internal/envelope"
)

// answer writes what the gate gave. A nil resp is one with nothing to say.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, q *gate.Request, resp *gate.Response) {
	if resp == nil {
		resp = &gate.Response{Status: gate.NoContent}
	}
	if r.Context().Err() != nil {
		letGo(resp)
		panic(http.ErrAbortHandler)
	}
	warn(w.Header(), r, resp)
	if resp.Raw != nil {
		h.stream(w, r, q, resp)
		return
	}
	code, body, err := encode(q, resp)
	if err != nil {
		h.logger.Error("an answer can't be written as JSON", "request_id", q.ID, "path", q.Path, "error", err)
		letGo(resp)
		h.fail(w, r, q, err)
		return
	}
	h.write(w, q, code, body, resp)
}

// letGo drops an answer that nobody will get.
func letGo(resp *gate.Response) {
	if resp == nil {
		return
	}
	if resp.Raw != nil {
		resp.Raw.Body.Close() //nolint:errcheck // nothing is read from it
	}
	if resp.Abandon != nil {
		resp.Abandon()
	}
}

// encode is the status and the body of an answer of our own.
func encode(q *gate.Request, resp *gate.Response) (code int, body []byte, err error) {
	empty := !resp.Says()
	switch {
	case resp.Status == gate.Missing:
		return http.StatusNotFound, errorBody(nil), nil
	case resp.Status == gate.NoContent, resp.Status == gate.OK && empty:
		return http.StatusNoContent, nil, nil
	case resp.Status == gate.Accepted:
		code = http.StatusAccepted
		if empty {
			return code, nil, nil
		}
	default:
		code = http.StatusOK
	}
	if resp.Bare {
		body, err = envelope.Marshal(resp.Data)
		return code, body, err
	}
	body, err = envelope.Marshal(resp.Envelope(q.ID))
	if err == nil && resp.Wrap == nil && len(resp.Data) > 0 && alsoOnTop(q.Path) {
		body, err = putOnTop(body, resp.Data)
	}
	return code, body, err
}

// alsoOnTop tells whether Vault repeats the data of a path's answers beside the envelope's fields, as old clients want it.
func alsoOnTop(path string) bool {
	if !strings.HasPrefix(path, "sys/") {
		return false
	}
	switch path {
	case "sys/audit", "sys/auth", "sys/capabilities", "sys/capabilities-accessor", "sys/capabilities-self",
		"sys/config/auditing/request-headers", "sys/config/cors", "sys/ha-status", "sys/key-status", "sys/mounts",
		"sys/policy", "sys/remount", "sys/rotate", "sys/wrapping/wrap":
		return true
	}
	for _, p := range [...]string{"sys/audit/", "sys/audit-hash/", "sys/auth/", "sys/config/auditing/request-headers/", "sys/mounts/", "sys/policy/"} {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}

// putOnTop writes data's fields in front of the envelope's own.
func putOnTop(body []byte, data map[string]any) ([]byte, error) {
	names := make([]string, 0, len(data))
	for name := range data {
		names = append(names, name)
	}
	slices.Sort(names)
	out := bytes.NewBuffer(make([]byte, 0, 2*len(body)))
	out.WriteByte('{')
	for _, name := range names {
		field, err := json.Marshal(map[string]any{name: data[name]})
		if err != nil {
			return nil, err
		}
		out.Write(field[1 : len(field)-1])
		out.WriteByte(',')
	}
	out.Write(body[1:])
	return out.Bytes(), nil
}

// errorBody is Vault's shape of an error.
func errorBody(words []string) []byte {
	if words == nil {
		words = []string{}
	}
	body, err := envelope.Marshal(struct {
		Errors []string `json:"errors"`
	}{words})
	if err != nil {
		panic(err) // strings always marshal
	}
	return body
}

// write sends a whole answer. resp is nil for an error. Where the answer is worth ending if nobody gets it, write waits
// until it has left.
func (h *Handler) write(w http.ResponseWriter, q *gate.Request, code int, body []byte, resp *gate.Response) {
	if len(body) > 0 {
		w.Header()["Content-Type"] = []string{"application/json"}
		w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	} else if code == http.StatusNoContent {
		w.Header()["Content-Type"] = []string{"application/json"} // as Vault has it
	}
	w.WriteHeader(code)
	var err error
	if len(body) > 0 {
		_, err = w.Write(body)
	}
	if resp == nil || resp.Abandon == nil {
		return
	}
	if err == nil {
		err = http.NewResponseController(w).Flush()
	}
	if err != nil {
		h.logger.Warn("the client was gone before its answer", "request_id", q.ID, "path", q.Path)
		resp.Abandon()
		panic(http.ErrAbortHandler)
	}
}
