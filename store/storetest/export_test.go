package storetest

import "testing"

// NewModel is the model as a store.
func NewModel(testing.TB) Store { return newModel() }
