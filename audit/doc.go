// Package audit keeps the trail: an append-only, chained log that is durable before an answer leaves.
package audit
