package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bailiff-secrets/bailiff/broker"
)

// SQLSTATE codes that are looked at one by one.
const (
	duplicateObject  = "42710"
	undefinedObject  = "42704"
	serialization    = "40001"
	deadlock         = "40P01"
	internalError    = "XX000"
	dependentObjects = "2BP01"
	invalidValue     = "22023" // of a setting
)

// classes maps SQLSTATE codes, or their first two letters, to causes and words. A server's own message is never passed on:
// it may repeat a piece of the statement.
var classes = map[string]struct {
	cause broker.Cause
	words string
}{
	"08":             {broker.Unreachable, "the connection broke"},
	"53":             {broker.Unreachable, "the server has no room (connections, memory or disk)"},
	"57014":          {broker.Unreachable, "the server stopped the statement, which took too long"},
	"57P":            {broker.Unreachable, "the server is starting, stopping or ended the connection"},
	"25P03":          {broker.Unreachable, "the server ended the transaction, which took too long"},
	"55P03":          {broker.Unknown, "others hold locks on what the role owns"},
	"25006":          {broker.Unreachable, "the server is read-only"},
	"28":             {broker.ForbiddenBy, "the server refused Bailiff's user or password"},
	"3D000":          {broker.Unreachable, "the database is not there"},
	"42501":          {broker.ForbiddenBy, "Bailiff's user lacks a privilege for this"},
	dependentObjects: {broker.OwnsObjects, "the role owns objects, or has privileges, that stop its removal (in another database?)"},
	undefinedObject:  {broker.Gone, "the role, or something else that is named, is not there"},
	duplicateObject:  {broker.Unknown, "the role exists already"},
	serialization:    {broker.Unknown, "other changes came between"},
	deadlock:         {broker.Unknown, "other changes came between"},
	"42601":          {broker.Unknown, "the statement is not valid SQL"},
	"42":             {broker.Unknown, "the statement is wrong or names something that is not there"},
	"0A":             {broker.Unknown, "the server does not support the statement"},
	"25001":          {broker.Unknown, "the statement can't be run in a transaction"},
}

// classed turns an error of the driver into a *broker.RevokeError without values. doing is what was done, in words.
func classed(doing string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*broker.RevokeError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return byCode(doing, e.Code)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		// The deadline stays visible to errors.Is; its text holds nothing.
		cause := context.DeadlineExceeded
		if !errors.Is(err, cause) {
			cause = context.Canceled
		}
		return &broker.RevokeError{Cause: broker.Unreachable, Msg: doing + ": the server did not answer in time", Err: cause}
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return unreachable(doing, err)
	}
	if _, ok := errors.AsType[net.Error](err); ok || pgconn.SafeToRetry(err) || broken(err) {
		return unreachable(doing, err)
	}
	return &broker.RevokeError{Cause: broker.Unknown, Msg: doing + ": the driver gave an error that has no class"}
}

func byCode(doing, code string) error {
	for _, n := range []int{5, 3, 2} {
		if len(code) < n {
			continue
		}
		if c, ok := classes[code[:n]]; ok {
			return &broker.RevokeError{Cause: c.cause, Msg: fmt.Sprintf("%s: %s (SQLSTATE %s)%s", doing, c.words, code, lacking(doing, code))}
		}
	}
	return &broker.RevokeError{Cause: broker.Unknown, Msg: fmt.Sprintf("%s: the server gave an error (SQLSTATE %s)", doing, code)}
}

// Steps whose privileges are named where the server says that one is missing.
const (
	doingDisable  = "taking the role's login away"
	doingSessions = "ending the role's sessions"
	doingRemove   = "removing the role"
)

// lacking names the privileges that a step needs.
func lacking(doing, code string) string {
	switch {
	case code != mayNotConnect:
		return ""
	case doing == doingDisable:
		return ": it needs CREATEROLE, and on version 16 and later ADMIN OPTION on the role"
	case doing == doingSessions:
		return ": it needs to be a member of the role, or of pg_signal_backend"
	case doing == doingRemove:
		return ": it needs CREATEROLE, and to be a member of the role to take over what that owns"
	case strings.HasPrefix(doing, "creation statement"):
		return ": CREATE ROLE needs CREATEROLE, and GRANT needs that privilege WITH GRANT OPTION"
	case strings.HasPrefix(doing, "revocation statement"):
		return ": DROP ROLE needs CREATEROLE, REASSIGN OWNED and DROP OWNED need membership in the role, REVOKE needs what was granted"
	}
	return ""
}

// unreachable says why there is no connection, as far as that can be said without an address.
func unreachable(doing string, err error) error {
	why := "the server can't be reached"
	switch text := err.Error(); {
	case strings.Contains(text, "connection refused"):
		why = "the server can't be reached: connection refused"
	case strings.Contains(text, "no such host"):
		why = "the server can't be reached: its name is not known"
	case strings.Contains(text, "x509:") || strings.Contains(text, "tls:"):
		why = "the server can't be reached: its certificate is not trusted"
	case strings.Contains(text, "server refused TLS connection"):
		why = "the server can't be reached: it has no TLS (sslmode in the target's address says whether that is asked for)"
	}
	return &broker.RevokeError{Cause: broker.Unreachable, Msg: doing + ": " + why}
}

// broken tells an error of a connection that ended in the middle.
func broken(err error) bool {
	text := err.Error()
	return strings.Contains(text, "EOF") || strings.Contains(text, "conn closed") || strings.Contains(text, "closed pool")
}

// conflict tells an error after which the same transaction may well succeed: PostgreSQL reports two grants on one object
// at a time as an internal error.
func conflict(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	return e.Code == serialization || e.Code == deadlock ||
		e.Code == internalError && strings.HasPrefix(e.Message, "tuple concurrently")
}

func hasCode(err error, code string) bool { return codeOf(err) == code }

// codeOf is the server's code for err; empty where it is not the server's.
func codeOf(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}
