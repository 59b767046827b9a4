package storetest_test

import (
	"testing"

	"github.com/bailiff-secrets/bailiff/store/storetest"
)

// The model is a store too: it keeps the suite honest about itself.
func TestModelKeepsTheContract(t *testing.T) { storetest.Run(t, storetest.NewModel) }
