package hvp

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/bailiff-secrets/bailiff/internal/envelope"
)

// Version is what clients see as the version of Vault: the one whose dialect is spoken. Clients parse it as a semantic
// version, of which the part behind the plus has no rank.
const Version = "1.13.0+bailiff"

// Info is what the unauthenticated status paths tell. The zero value is a healthy server.
type Info struct {
	Uninitialized bool
	Sealed        bool // nothing can be served, as when the audit trail can't be written
	Standby       bool
	Version       string // default Version
	BuildDate     string // RFC 3339; may be empty
	ClusterName   string // these two must not change while clients live
	ClusterID     string
	StorageType   string // as "sqlite"
}

type sealStatus struct {
	Type         string `json:"type"`
	Initialized  bool   `json:"initialized"`
	Sealed       bool   `json:"sealed"`
	T            int    `json:"t"`
	N            int    `json:"n"`
	Progress     int    `json:"progress"`
	Nonce        string `json:"nonce"`
	Version      string `json:"version"`
	BuildDate    string `json:"build_date"`
	Migration    bool   `json:"migration"`
	ClusterName  string `json:"cluster_name,omitempty"`
	ClusterID    string `json:"cluster_id,omitempty"`
	RecoverySeal bool   `json:"recovery_seal"`
	StorageType  string `json:"storage_type,omitempty"`
}

type health struct {
	Initialized     bool   `json:"initialized"`
	Sealed          bool   `json:"sealed"`
	Standby         bool   `json:"standby"`
	PerfStandby     bool   `json:"performance_standby"`
	PerformanceMode string `json:"replication_performance_mode"`
	DRMode          string `json:"replication_dr_mode"`
	ServerTimeUTC   int64  `json:"server_time_utc"`
	Version         string `json:"version"`
	ClusterName     string `json:"cluster_name,omitempty"`
	ClusterID       string `json:"cluster_id,omitempty"`
}

type leader struct {
	HAEnabled      bool      `json:"ha_enabled"`
	IsSelf         bool      `json:"is_self"`
	ActiveTime     time.Time `json:"active_time"`
	Address        string    `json:"leader_address"`
	ClusterAddress string    `json:"leader_cluster_address"`
	PerfStandby    bool      `json:"performance_standby"`
	RemoteWAL      uint64    `json:"performance_standby_last_remote_wal"`
}

type initialized struct {
	Initialized bool `json:"initialized"`
}

// status answers a status path; it is false where r asks for something else.
func (h *Handler) status(w http.ResponseWriter, r *http.Request, path string) bool {
	if r.Method != http.MethodGet && (r.Method != http.MethodHead || path != "sys/health") || !strings.HasPrefix(path, "sys/") {
		return false
	}
	code := http.StatusOK
	var v any
	switch path {
	case "sys/health":
		code, v = h.health(r)
	case "sys/seal-status":
		v = sealOf(h.ready(r.Context()))
	case "sys/leader":
		v = leader{}
	case "sys/init":
		v = initialized{!h.ready(r.Context()).Uninitialized}
	default:
		return false
	}
	body := errorBody(nil)
	if v != nil {
		var err error
		if body, err = envelope.Marshal(v); err != nil {
			panic(err) // none of the types can fail
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(body) //nolint:errcheck // a client that is gone needs no status
	return true
}

func (h *Handler) ready(ctx context.Context) Info {
	i := h.info(ctx)
	if i.Version == "" {
		i.Version = Version
	}
	return i
}

func sealOf(i Info) sealStatus {
	s := sealStatus{
		Type: "bailiff", Initialized: !i.Uninitialized, Sealed: i.Sealed, Version: i.Version, BuildDate: i.BuildDate,
		StorageType: i.StorageType,
	}
	if !i.Sealed {
		s.ClusterName, s.ClusterID = i.ClusterName, i.ClusterID
	}
	return s
}

// health is the code and the body of sys/health; without a body where its parameters can't be understood.
func (h *Handler) health(r *http.Request) (int, any) {
	i := h.ready(r.Context())
	q := r.URL.Query()
	codes := map[string]int{
		"uninitcode": http.StatusNotImplemented, "sealedcode": http.StatusServiceUnavailable,
		"standbycode": http.StatusTooManyRequests, "activecode": http.StatusOK,
		"drsecondarycode": 472, "performancestandbycode": 473,
	}
	for name := range codes {
		if !readCode(q, name, codes) {
			return http.StatusBadRequest, nil
		}
	}
	standbyOK, ok := readFlag(q, "standbyok")
	_, perfOK := readFlag(q, "perfstandbyok") // there are none
	if !ok || !perfOK {
		return http.StatusBadRequest, nil
	}
	code := codes["activecode"]
	switch {
	case i.Uninitialized:
		code = codes["uninitcode"]
	case i.Sealed:
		code = codes["sealedcode"]
	case i.Standby && !standbyOK:
		code = codes["standbycode"]
	}
	b := health{
		Initialized: !i.Uninitialized, Sealed: i.Sealed, Standby: i.Standby || i.Sealed || i.Uninitialized,
		PerformanceMode: "disabled", DRMode: "disabled", ServerTimeUTC: time.Now().Unix(), Version: i.Version,
		ClusterName: i.ClusterName, ClusterID: i.ClusterID,
	}
	if i.Sealed || i.Uninitialized {
		b.PerformanceMode, b.DRMode, b.ClusterName, b.ClusterID = "unknown", "unknown", "", ""
	}
	return code, b
}

// readFlag reads the parameter name, which without a value is true; ok is false where it is neither true nor false.
func readFlag(q url.Values, name string) (yes, ok bool) {
	v := q.Get(name)
	if !q.Has(name) || v == "" {
		return q.Has(name), true
	}
	yes, err := strconv.ParseBool(v)
	return yes, err == nil
}

// readCode reads the parameter name where it is given, and is false where that is not a status.
func readCode(q url.Values, name string, codes map[string]int) bool {
	if !q.Has(name) {
		return true
	}
	n, err := strconv.Atoi(q.Get(name))
	if err != nil || n < 200 || n > 599 {
		return false
	}
	codes[name] = n
	return true
}
