// Package scenarios has no code of its own: its tests put a real Bailiff and a real PostgreSQL through what operators of
// secret brokers have reported as incidents.
package scenarios
