package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// step is one statement of a transaction that reaches the server as a whole.
type step struct {
	sql    string
	failed func(error) error // says what the server's error means; nil: nothing more
}

// inOneTrip runs steps in one transaction with one message to the server and one answer. Nothing of a step that fails, or of
// the others, stays. Where the connection breaks in between the server may go on to the end: whoever must not have that ends
// with beforeDeadline. ctx has a deadline.
func (p *Producer) inOneTrip(ctx context.Context, steps []step) error {
	pool, err := p.connections()
	if err != nil {
		return err
	}
	return again(ctx, false, func(serial bool) error {
		list := []step{{sql: "BEGIN"}}
		if serial {
			list = append(list, step{sql: fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", int64(advisoryLock))})
		}
		list = append(append(list, steps...), step{sql: "COMMIT"})
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		return trip(ctx, conn.Conn(), list)
	})
}

// trip sends list and takes in what became of each. After an error the transaction is rolled back.
func trip(ctx context.Context, conn *pgx.Conn, list []step) error {
	var sql strings.Builder
	for _, s := range list {
		sql.WriteString(s.sql + between)
	}
	results := conn.PgConn().Exec(ctx, sql.String())
	done := 0
	for results.NextResult() {
		if _, err := results.ResultReader().Close(); err != nil {
			break
		}
		done++
	}
	err := results.Close()
	if err == nil && done < len(list) {
		err = fmt.Errorf("the server answered %d of %d statements", done, len(list))
	}
	if err == nil {
		return nil
	}
	rollback(ctx, conn.PgConn())
	if at := failedAt(list, done, err); at < len(list) && list[at].failed != nil {
		return list[at].failed(err)
	}
	return err
}

const between = "\n;\n" // a statement may end in a comment

// failedAt is the statement that err is of, when so many were done. What is no SQL the server finds before it does any; it says
// at which letter.
func failedAt(list []step, done int, err error) int {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || done > 0 || e.Position == 0 {
		return done
	}
	end := 0
	for i, s := range list {
		if end += utf8.RuneCountInString(s.sql + between); int(e.Position) <= end {
			return i
		}
	}
	return done
}

// rollback ends a failed transaction. Where it can't, the pool does not keep the connection.
func rollback(ctx context.Context, conn *pgconn.PgConn) {
	if conn.IsClosed() || conn.TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), defaultTimeout)
	defer cancel()
	_ = conn.Exec(ctx, "ROLLBACK").Close() // the status tells
}
